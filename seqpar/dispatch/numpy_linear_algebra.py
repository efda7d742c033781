"""What factorisations need of NumPy arrays: LAPACK in their own precision, through SciPy, imported at first use.

NumPy's own qr computes float32 in float64 (its loops are d->d), which costs twice the time of LAPACK's sgeqrf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from seqpar.algorithms.linear_algebra import Failed
from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra, failing_again, svd_of_finite
from seqpar.dispatch.problem import Array

SMALL = 1024
"""Elements of a matrix of a batch from which on SciPy's calls pay: q and r take 13 microseconds by SciPy and 7 by NumPy for
16 x 16 in float32, 19 and 33 for 128 x 16."""

PANEL = 32
"""Columns that LAPACK reflects at a time, for which it needs so many rows of scratch: 15 ms for 4096 x 256 in float32, 24 with
room for 8, and no less with room for 128."""

ALONE = 128
"""Columns below which OpenBLAS's LU keeps to one thread. Its triangular solve does not: threads that it wakes for 32 columns spin
on for some 25 ms, on a core that the next call needs (`lstsq` of a million rows: 49 ms for 27)."""


def _turned(r: Array) -> Array:
    """r^T with its rows and its columns in opposite order."""
    return np.swapaxes(r, -1, -2)[..., ::-1, ::-1]


class NumpyLinearAlgebra(StandardLinearAlgebra):
    """SciPy's LAPACK matrix by matrix; batches of small matrices through NumPy's loops."""

    def qr(self, a: Array) -> tuple[Array, Array]:
        m, n = a.shape[-2:]
        if m == 0 or n == 0 or (a.ndim > 2 and m * n < SMALL):
            q, r = np.linalg.qr(a)
            return q, r
        return _by_matrix(_geqrf(a.dtype.char), a, ((m, min(m, n)), (min(m, n), n)))

    def r(self, a: Array) -> Array:
        m, n = a.shape[-2:]
        if m == 0 or n == 0 or (a.ndim > 2 and m * n < SMALL):
            return np.linalg.qr(a, mode="r")
        return _by_matrix(_r(a.dtype.char), a, ((min(m, n), n),))[0]

    def cholesky(self, g: Array) -> Array:
        n = g.shape[-1]
        if n == 0:
            return g
        # All at once by halves takes 35, 90 and 210 microseconds for few matrices with 2, 4 and 8 columns, LAPACK 1.6 for each;
        # of 1000 with 8 columns both take 1.8 ms.
        if n < 8 and math.prod(g.shape[:-2]) >= 16 * n:
            return super().cholesky(g)
        (r,) = _by_matrix(_potrf(g.dtype.char), g, ((n, n),))
        return r

    def solve_right(self, a: Array, r: Array) -> Array:
        m, n = a.shape[-2:]
        if a.size == 0:
            return np.empty(np.broadcast_shapes(a.shape[:-2], r.shape[:-2]) + (m, n), a.dtype)
        if a.ndim > 2 and m * n < SMALL:
            return super().solve_right(a, r)
        if m <= n < ALONE:
            # Turned around, r^T is upper triangular again, of which LU's pivots are its own: back substitution, in this thread.
            with suppress(np.linalg.LinAlgError):  # a zero on the diagonal
                turned = np.linalg.solve(_turned(r), np.swapaxes(a, -1, -2)[..., ::-1, :])
                return np.ascontiguousarray(np.swapaxes(turned[..., ::-1, :], -1, -2))
        lead = np.broadcast_shapes(a.shape[:-2], r.shape[:-2])
        x = np.empty((*lead, m, n), a.dtype)
        a, r = np.broadcast_to(a, x.shape), np.broadcast_to(r, (*lead, n, n))
        trsm = _trsm(a.dtype.char)
        for i in np.ndindex(lead):
            trsm(a[i], r[i], x[i])
        return x

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        if np.isfinite(a).all():  # a third of the time of a 4 x 4 matrix
            return np.linalg.svd(a, full_matrices=False)
        return svd_of_finite(np, lambda x: np.linalg.svd(x, full_matrices=False), a)

    def where_all(
        self, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        return failing_again(np, accepted, found, again)


def _by_matrix(
    function: Callable[[Array], tuple[Array, ...]], a: Array, shapes: tuple[tuple[int, int], ...]
) -> tuple[Array, ...]:
    if a.ndim == 2:
        return function(a)
    lead = a.shape[:-2]
    found = tuple(np.empty((math.prod(lead), *shape), a.dtype) for shape in shapes)
    for i, x in enumerate(np.reshape(a, (-1, *a.shape[-2:]))):
        for whole, part in zip(found, function(x), strict=True):
            whole[i] = part
    return tuple(x.reshape(*lead, *x.shape[1:]) for x in found)


@cache
def _routines(names: tuple[str, ...], char: str) -> tuple[Any, ...]:
    """LAPACK (or BLAS) routines for a dtype; f2py releases nothing and copies what is not Fortran-ordered."""
    from scipy.linalg import get_blas_funcs, get_lapack_funcs

    find = get_blas_funcs if names == ("trsm",) else get_lapack_funcs
    return tuple(find(names, dtype=np.dtype(char)))


@cache
def _r(char: str) -> Callable[[Array], tuple[Array, ...]]:
    (geqrf,) = _routines(("geqrf",), char)

    def factor(a: Array) -> tuple[Array, ...]:
        return (np.triu(geqrf(a, lwork=PANEL * a.shape[1])[0][: min(a.shape)]),)

    return factor


@cache
def _geqrf(char: str) -> Callable[[Array], tuple[Array, ...]]:
    complexes = char in "FD"
    geqrf, orgqr = _routines(("geqrf", "ungqr" if complexes else "orgqr"), char)

    def factor(a: Array) -> tuple[Array, ...]:
        m, n = a.shape
        packed, tau, _, _ = geqrf(a, lwork=PANEL * n)
        r = np.triu(packed[: min(m, n)])
        q, _, _ = orgqr(packed[:, : min(m, n)], tau, lwork=PANEL * n, overwrite_a=True)
        return q, r

    return factor


@cache
def _potrf(char: str) -> Callable[[Array], tuple[Array, ...]]:
    (potrf,) = _routines(("potrf",), char)

    def factor(g: Array) -> tuple[Array, ...]:
        r, info = potrf(g, lower=False, clean=True)
        if info:
            r = np.full_like(g, np.nan)
        return (r,)

    return factor


@cache
def _trsm(char: str) -> Callable[[Array, Array, Array], None]:
    (trsm,) = _routines(("trsm",), char)

    def solve(a: Array, r: Array, x: Array) -> None:
        # In Fortran's eyes row-major arrays are transposed: r^T x^T = a^T, solved in place, no copy but the result.
        x[...] = a
        found = trsm(1.0, np.ascontiguousarray(r).T, x.T, side=0, lower=1, trans_a=0, overwrite_b=1)
        if found.ctypes.data != x.ctypes.data:
            x[...] = found.T

    return solve
