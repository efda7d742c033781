"""The plain recurrent network."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, relu, tanh, vector

ACTIVATIONS = {"tanh": tanh, "relu": relu}


@cell(
    w=matrix("inputs", "hidden"),
    u=matrix("hidden", "hidden"),
    b=vector("hidden", optional=True),
    constants={"activation": "tanh"},
)
def elman(p: Any, h: Any, x: Any, activation: str = "tanh") -> Any:
    """The plain recurrent network, as `torch.nn.RNN` computes it: h' = tanh(W x + U h + b), or relu in place of tanh."""
    return ACTIVATIONS[activation](p.w @ x + p.u @ h + p.b)
