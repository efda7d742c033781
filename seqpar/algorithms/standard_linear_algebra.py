"""Factorisations in the array API standard alone, for libraries of which nothing more is known.

The standard's `linalg` is an optional extension without a triangular solve, and its Cholesky factorisation raises. What
is missing is built here from matrix products: Householder QR, blocked Cholesky and back substitution by halves, and the
SVD of a small matrix by one-sided Jacobi rotations. Right everywhere, fast nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from seqpar.algorithms.householder import householder_qr
from seqpar.algorithms.jacobi import jacobi_svd
from seqpar.algorithms.matrices import adjoint
from seqpar.algorithms.triangular import cholesky_by_halves, solve_right_by_halves

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import Failed

Array = Any

LARGEST_SOLVE = 1 << 28
"""Elements that a triangular solve of a GPU is given at once: cuBLAS counts them in 32 bits."""


class StandardLinearAlgebra:
    """`LinearAlgebra` for a namespace; a base for bindings whose framework has some of it."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def product(self, a: Array, b: Array) -> Array:
        return self.xp.matmul(a, b)

    def qr(self, a: Array) -> tuple[Array, Array]:
        linalg = getattr(self.xp, "linalg", None)
        if linalg is None:
            return householder_qr(self.xp, a)
        q, r = linalg.qr(a, mode="reduced")
        return q, r

    def r(self, a: Array) -> Array:
        return self.qr(a)[1]

    def cholesky(self, g: Array) -> Array:
        return cholesky_by_halves(self.xp, self, g)

    def solve_right(self, a: Array, r: Array) -> Array:
        return solve_right_by_halves(self.xp, self, a, r)

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        return svd_of_finite(self.xp, self._svd, a)

    def where_all(
        self, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        if bool(self.xp.all(accepted)):
            return found
        return select(self.xp, accepted, found, again(None))

    def sum_over_rows(self, function: Callable[[Array], Array], a: Array, rows: int) -> Array:
        total = None
        for i in range(0, a.shape[-2], rows):
            term = function(a[..., i : min(i + rows, a.shape[-2]), :])
            total = term if total is None else total + term
        return total

    def doubles(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def _svd(self, a: Array) -> tuple[Array, Array, Array]:
        linalg = getattr(self.xp, "linalg", None)
        if linalg is None:
            if a.shape[-2] < a.shape[-1]:
                u, s, vh = jacobi_svd(self.xp, self, adjoint(self.xp, a))
                return adjoint(self.xp, vh), s, adjoint(self.xp, u)
            return jacobi_svd(self.xp, self, a)
        u, s, vh = linalg.svd(a, full_matrices=False)
        return u, s, vh


def svd_of_finite(
    xp: Any, svd: Callable[[Array], tuple[Array, Array, Array]], a: Array
) -> tuple[Array, Array, Array]:
    """`svd(a)` with NaN for matrices that hold NaN or inf, which libraries would raise for, or never return from."""
    finite = xp.all(xp.isfinite(a), axis=(-2, -1))[..., None]
    u, s, vh = svd(xp.where(finite[..., None], a, xp.zeros_like(a)))
    return tuple(
        xp.where(kept, x, xp.full_like(x, xp.nan))
        for kept, x in ((finite[..., None], u), (finite, s), (finite[..., None], vh))
    )


def by_rows(xp: Any, function: Callable[[Array], Array], a: Array, rows: int) -> Array:
    """`function` of blocks of rows of a, one behind the other."""
    m, rows = a.shape[-2], max(rows, 1)
    if m <= rows:
        return function(a)
    return xp.concat([function(a[..., i : min(i + rows, m), :]) for i in range(0, m, rows)], axis=-2)


def failing_again(
    xp: Any, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """`where_all` of libraries with shapes that depend on data, which write into `found`: one read-back, of a count."""
    if accepted.ndim == 0:
        return found if bool(accepted) else again(None)
    failed = tuple(xp.nonzero(xp.logical_not(accepted)))
    count = failed[0].shape[0]
    if count == 0:
        return found
    if count == math.prod(accepted.shape):
        return again(None)
    for whole, part in zip(found, again(failed), strict=True):
        whole[failed] = part
    return found


def select(xp: Any, accepted: Array, found: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
    """Per matrix of a batch: `found` where accepted, else `other`. `accepted` has the leading axes of every array."""
    return tuple(
        xp.where(xp.reshape(accepted, (*accepted.shape, *(1,) * (x.ndim - accepted.ndim))), x, y)
        for x, y in zip(found, other, strict=True)
    )
