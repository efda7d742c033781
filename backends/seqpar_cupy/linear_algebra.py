"""What factorisations need of CuPy: cuBLAS and cuSOLVER, with NaN where a Cholesky factorisation fails.

CuPy's own `cholesky` keeps to itself whether it succeeded, or synchronises and raises. cuSOLVER's batched routine is called
here, whose answer to that stays on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cupy
import numpy as np
from cupy.cuda import cublas, cusolver, device
from cupyx.scipy.linalg import solve_triangular

from seqpar.algorithms.linear_algebra import Failed
from seqpar.algorithms.standard_linear_algebra import (
    LARGEST_SOLVE,
    StandardLinearAlgebra,
    by_rows,
    failing_again,
    svd_of_finite,
)
from seqpar.dispatch.problem import Array

LOWERED = (3, 6, 7)
"""CuPy's compute types of products in float16, bfloat16 and TF32 (CUPY_TF32=1); the switch is the user's, and is left alone."""

_POTRF = {"f": "spotrfBatched", "d": "dpotrfBatched", "F": "cpotrfBatched", "D": "zpotrfBatched"}


class CupyLinearAlgebra(StandardLinearAlgebra):
    """`cupy.linalg` and cuSOLVER, on the current device."""

    def product(self, a: Array, b: Array) -> Array:
        if a.dtype.char not in "fF" or cupy._core.get_compute_type(a.dtype) not in LOWERED:
            return cupy.matmul(a, b)
        wide = cupy.complex128 if a.dtype.char == "F" else cupy.float64
        return cupy.matmul(a.astype(wide), b.astype(wide)).astype(a.dtype)

    def qr(self, a: Array) -> tuple[Array, Array]:
        q, r = cupy.linalg.qr(a)
        return q, r

    def r(self, a: Array) -> Array:
        return cupy.linalg.qr(a, mode="r")

    def cholesky(self, g: Array) -> Array:
        n, count = g.shape[-1], math.prod(g.shape[:-2])
        if g.size == 0:
            return g
        # The upper triangle of column-major cuSOLVER is the lower one of row-major CuPy.
        x = cupy.array(g, order="C", copy=True).reshape(count, n, n)
        step = n * n * x.itemsize
        matrices = x.data.ptr + step * cupy.arange(count, dtype=cupy.uintp)
        failed = cupy.empty(count, dtype=np.int32)
        getattr(cusolver, _POTRF[x.dtype.char])(
            device.get_cusolver_handle(),
            cublas.CUBLAS_FILL_MODE_UPPER,
            n,
            matrices.data.ptr,
            n,
            failed.data.ptr,
            count,
        )
        lower = cupy.where((failed != 0)[:, None, None], x.dtype.type(np.nan), cupy.tril(x))
        return cupy.conj(cupy.swapaxes(lower, -1, -2)).reshape(g.shape)

    def solve_right(self, a: Array, r: Array) -> Array:
        lead = np.broadcast_shapes(a.shape[:-2], r.shape[:-2])
        a, r = (cupy.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, r))

        def solve(x: Array) -> Array:
            return cupy.swapaxes(
                solve_triangular(cupy.swapaxes(r, -1, -2), cupy.swapaxes(x, -1, -2), lower=True), -1, -2
            )

        return by_rows(self.xp, solve, a, LARGEST_SOLVE // max(a.shape[-1], 1))

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        return svd_of_finite(self.xp, lambda x: cupy.linalg.svd(x, full_matrices=False), a)

    def where_all(
        self, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        return failing_again(self.xp, accepted, found, again)
