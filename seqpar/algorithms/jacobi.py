"""The SVD of a small matrix by one-sided Jacobi rotations, in the array API alone.

Rotations from the right make the columns orthogonal; their norms are then the singular values, to high relative accuracy.
n/2 disjoint pairs turn at a time, paired anew by the circle method of round-robin tournaments (Brent and Luk, 1985).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from array_api_compat import device

from seqpar.algorithms.householder import householder_qr
from seqpar.algorithms.matrices import adjoint
from seqpar.algorithms.signs import positive_diagonal

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra

Array = Any
SWEEPS = 40
"""Six to ten suffice for n of a few hundred; the rest is a bound on what rounding may stall."""

__all__ = ["jacobi_svd"]


def jacobi_svd(xp: Any, la: LinearAlgebra, a: Array) -> tuple[Array, Array, Array]:
    """(u, s, vh) of finite a (..., m, n) with m >= n."""
    n = a.shape[-1]
    if 0 in a.shape[:-2]:
        return a, xp.abs(a[..., 0, :]), xp.zeros((*a.shape[:-2], n, n), dtype=a.dtype, device=device(a))
    if n == 0:
        return a, xp.real(a[..., 0, :]) if _complex(xp, a) else a[..., 0, :], a[..., :0, :]
    largest = xp.max(xp.abs(a), axis=(-2, -1), keepdims=True)
    scale = xp.where(largest == 0, xp.ones_like(largest), largest)
    w = a / xp.astype(scale, a.dtype, copy=False)
    v = xp.broadcast_to(xp.eye(n, dtype=a.dtype, device=device(a)), (*a.shape[:-2], n, n))
    w, v = _orthogonal_columns(xp, w, v)
    norms = xp.sqrt(xp.sum(xp.abs(w) ** 2, axis=-2))
    order = xp.argsort(norms, axis=-1, descending=True, stable=True)
    places = xp.astype(xp.arange(n, device=device(a))[:, None] == order[..., None, :], a.dtype)
    w, v = la.product(w, places), la.product(v, places)
    # Orthogonal columns of any length: their QR factorisation scales with them, and completes what belongs to zeros.
    u, r = householder_qr(xp, w)
    u, _ = positive_diagonal(xp, u, r)
    return u, xp.sort(norms, axis=-1, descending=True) * scale[..., 0], adjoint(xp, v)


def _orthogonal_columns(xp: Any, w: Array, v: Array) -> tuple[Array, Array]:
    n = w.shape[-1]
    if n == 1:
        return w, v
    players = n + n % 2
    if players > n:  # a column of zeros turns with nobody
        w = xp.concat([w, xp.zeros_like(w[..., :1])], axis=-1)
        v = xp.concat([v, xp.zeros_like(v[..., :1])], axis=-1)
    half = players // 2
    # Seats 0..half-1 face seats half..; all but the first move on by one after every round.
    seats = [0, half, *range(1, half - 1), *range(half + 1, players), half - 1] if half > 1 else [0, 1]
    moved = xp.asarray(seats, device=device(w))
    tolerance = 4 * xp.finfo(w.dtype).eps
    stacked = xp.concat([w, v], axis=-2)
    rows = w.shape[-2]
    for _ in range(SWEEPS):
        largest: Any = 0.0
        for _ in range(players - 1):
            stacked, cosine = _turn(xp, stacked, rows, half)
            largest = (
                xp.maximum(xp.max(cosine), largest) if not isinstance(largest, float) else xp.max(cosine)
            )
            stacked = xp.take(stacked, moved, axis=-1)
        if not bool(largest > tolerance):
            break
    # After players - 1 rounds everybody sits where they sat, the spare column last.
    return stacked[..., :rows, :n], stacked[..., rows:, :n]


def _turn(xp: Any, stacked: Array, rows: int, half: int) -> tuple[Array, Array]:
    """Every pair (seat i, seat half + i) made orthogonal, and the cosines of the angles they had."""
    left, right = stacked[..., :half], stacked[..., half:]
    x, y = left[..., :rows, :], right[..., :rows, :]
    alpha = xp.sum(xp.abs(x) ** 2, axis=-2, keepdims=True)
    beta = xp.sum(xp.abs(y) ** 2, axis=-2, keepdims=True)
    inner = xp.sum((xp.conj(x) if _complex(xp, x) else x) * y, axis=-2, keepdims=True)
    size = xp.abs(inner)
    one = xp.ones_like(size)
    product = xp.sqrt(alpha) * xp.sqrt(beta)
    turns = (size > 0) & (product > 0)
    cosine = xp.where(turns, size / xp.where(turns, product, one), xp.zeros_like(size))
    safe = xp.where(turns, size, one)
    zeta = (beta - alpha) / (2 * safe)
    sign = xp.where(zeta < 0, -one, one)
    # hypot(1, zeta) without the overflow of zeta^2
    big = xp.abs(zeta) > 1e6
    root = xp.where(big, xp.abs(zeta), xp.sqrt(one + xp.where(big, one, zeta) ** 2))
    tangent = xp.where(turns, sign / (xp.abs(zeta) + root), xp.zeros_like(size))
    c = one / xp.sqrt(one + tangent**2)
    phase = xp.where(turns, inner / xp.astype(safe, inner.dtype, copy=False), xp.ones_like(inner))
    right = right * (xp.conj(phase) if _complex(xp, phase) else phase)
    c, s = (xp.astype(z, stacked.dtype, copy=False) for z in (c, c * tangent))
    return xp.concat([c * left - s * right, s * left + c * right], axis=-1), cosine


def _complex(xp: Any, x: Array) -> bool:
    return bool(xp.isdtype(x.dtype, "complex floating"))
