"""The plain recurrent network."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import activation as activation_named
from seqpar.cells.language import matrix, vector
from seqpar.cells.torch_layout import TorchLayout


@cell(
    w=matrix("inputs", "hidden"),
    u=matrix("hidden", "hidden"),
    b=vector("hidden", optional=True),
    constants={"activation": "tanh"},
    torch=TorchLayout(gates=1),
)
def elman(p: Any, h: Any, x: Any, activation: str) -> Any:
    """The plain recurrent network (Elman 1990), as `torch.nn.RNN` computes it; `activation` is "tanh" or "relu".

    h' = tanh(W x + U h + b)
    """
    return activation_named(activation)(p.w @ x + p.u @ h + p.b)
