"""The GRU that is linear in its state."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, vector


@cell(w=matrix("inputs", "hidden", 2), b=vector("hidden", 2, optional=True))
def mingru(p: Any, h: Any, x: Any) -> Any:
    """The minimal GRU of Feng et al. 2024 (arXiv:2410.01201): gate and candidate do not see the state.

    z = sigmoid(Wz x + bz)
    n = Wn x + bn
    h' = (1 - z) * h + z * n

    So it is a linear recurrence, and `seqpar.linear_recurrence(1 - z, z * n)` computes it too.
    """
    (wz, wn), (bz, bn) = p.w, p.b
    z = sigmoid(wz @ x + bz)
    return h + z * (wn @ x + bn - h)
