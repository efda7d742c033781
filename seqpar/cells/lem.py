"""The long expressive memory."""

from typing import Any

from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, sigmoid, tanh, vector


@cell(
    "hidden",
    "hidden",
    w=matrix("inputs", "hidden", 4),
    u=matrix("hidden", "hidden", 3),
    v=matrix("hidden", "hidden"),
    b=vector("hidden", 4, optional=True),
    constants={"dt": 1.0},
)
def lem(p: Any, state: Any, x: Any, dt: float) -> Any:
    """The long expressive memory (Rusch et al. 2022, arXiv:2110.04744); its state is [y | z].

    s = dt * sigmoid(W1 x + U1 y + b1)
    t = dt * sigmoid(W2 x + U2 y + b2)
    z' = (1 - s) * z + s * tanh(Wz x + Uz y + bz)
    y' = (1 - t) * y + t * tanh(Wy x + V z' + by)
    """
    y, z = state
    (w1, w2, wz, wy), (u1, u2, uz), (b1, b2, bz, by) = p.w, p.u, p.b
    s = dt * sigmoid(w1 @ x + u1 @ y + b1)
    t = dt * sigmoid(w2 @ x + u2 @ y + b2)
    z = z + s * (tanh(wz @ x + uz @ y + bz) - z)
    return y + t * (tanh(wy @ x + p.v @ z + by) - y), z
