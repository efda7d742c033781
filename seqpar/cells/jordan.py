"""The network whose outputs come back."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, tanh, vector


@cell(
    "outputs",
    w=matrix("inputs", "hidden"),
    u=matrix("outputs", "hidden"),
    b=vector("hidden", optional=True),
    v=matrix("hidden", "outputs"),
    c=vector("outputs", optional=True),
)
def jordan(p: Any, y: Any, x: Any) -> Any:
    """The network of Jordan 1986, whose state is its output; there are as many outputs as the matrix V says.

    h = tanh(W x + U y + b)
    y' = V h + c
    """
    return p.v @ tanh(p.w @ x + p.u @ y + p.b) + p.c
