"""The independently recurrent network."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import activation as activation_named
from seqpar.cells.language import matrix, vector


@cell(
    w=matrix("inputs", "hidden"),
    # Between forgetting at once and forever: beyond 1 a unit grows.
    u=vector("hidden", between=(0.0, 1.0)),
    b=vector("hidden", optional=True),
    constants={"activation": "relu"},
)
def indrnn(p: Any, h: Any, x: Any, activation: str) -> Any:
    """The independently recurrent network (Li et al. 2018, arXiv:1803.04831): each unit sees itself alone;
    `activation` is "relu" or "tanh".

    h' = relu(W x + b + u * h)
    """
    return activation_named(activation)(p.w @ x + p.b + p.u * h)
