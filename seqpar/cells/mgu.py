"""The minimal gated unit."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector


@cell(
    w=matrix("inputs", "hidden", 2),
    u=matrix("hidden", "hidden"),
    v=matrix("hidden", "hidden"),
    b=vector("hidden", 2, optional=True),
)
def mgu(p: Any, h: Any, x: Any) -> Any:
    """The minimal gated unit (Zhou et al. 2016, arXiv:1603.09420): one gate, which resets and updates.

    f = sigmoid(Wf x + U h + bf)
    n = tanh(Wn x + V (f * h) + bn)
    h' = (1 - f) * h + f * n
    """
    (wf, wn), (bf, bn) = p.w, p.b
    f = sigmoid(wf @ x + p.u @ h + bf)
    n = tanh(wn @ x + p.v @ (f * h) + bn)
    return h + f * (n - h)
