"""What factorisations need of CuPy: cuBLAS and cuSOLVER, with NaN where a Cholesky factorisation fails.

CuPy tells of a failure by raising after a synchronisation, or not at all. So cuSOLVER's batched routine is called here,
whose `info` stays on the device.
"""

from __future__ import annotations

from typing import Any

import cupy

from seqpar.dispatch.problem import Array
from seqpar.tall.standard_linear_algebra import StandardLinearAlgebra, svd_of_finite


class CupyLinearAlgebra(StandardLinearAlgebra):
    """`cupy.linalg`, `cupyx` and cuSOLVER, on the current device."""

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)

    def product(self, a: Array, b: Array) -> Array:
        # CuPy allows TF32 when CUPY_TF32 says so, read at import.
        return cupy.matmul(a, b)

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        return svd_of_finite(self.xp, lambda x: cupy.linalg.svd(x, full_matrices=False), a)
