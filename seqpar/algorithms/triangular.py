"""Cholesky factorisation and the triangular solve, by halves: matrix products above, one column below.

For libraries that have neither, or whose Cholesky factorisation raises. `la.product` is the product to use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqpar.algorithms.matrices import adjoint

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra

Array = Any

__all__ = ["cholesky_by_halves", "solve_right_by_halves"]


def solve_right_by_halves(xp: Any, la: LinearAlgebra, a: Array, r: Array) -> Array:
    """a r^-1 for upper triangular r: [x1 x2] [[r11, r12], [0, r22]] = [a1 a2]. No inverse is formed."""
    n = r.shape[-1]
    if n == 1:
        return a / r
    if n == 0:
        return a
    h = n // 2
    first = solve_right_by_halves(xp, la, a[..., :h], r[..., :h, :h])
    rest = a[..., h:] - la.product(first, r[..., :h, h:])
    return xp.concat([first, solve_right_by_halves(xp, la, rest, r[..., h:, h:])], axis=-1)


def cholesky_by_halves(xp: Any, la: LinearAlgebra, g: Array) -> Array:
    """Upper r with r^H r = g, real positive diagonal; NaN in a matrix that is not positive definite."""
    r = _upper(xp, la, g)
    failed = xp.any(xp.isnan(r), axis=(-2, -1), keepdims=True)
    return xp.where(failed, xp.full_like(r, xp.nan), r)


def _upper(xp: Any, la: LinearAlgebra, g: Array) -> Array:
    n = g.shape[-1]
    if n == 0:
        return g
    if n == 1:
        pivot = xp.real(g) if xp.isdtype(g.dtype, "complex floating") else g
        root = xp.sqrt(xp.where(pivot > 0, pivot, xp.full_like(pivot, xp.nan)))
        return xp.astype(root, g.dtype, copy=False)
    h = n // 2
    first = _upper(xp, la, g[..., :h, :h])
    side = adjoint(xp, solve_right_by_halves(xp, la, adjoint(xp, g[..., :h, h:]), first))
    last = _upper(xp, la, g[..., h:, h:] - la.product(adjoint(xp, side), side))
    top = xp.concat([first, side], axis=-1)
    below = xp.concat([xp.zeros_like(adjoint(xp, side)), last], axis=-1)
    return xp.concat([top, below], axis=-2)
