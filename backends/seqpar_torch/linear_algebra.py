"""What factorisations need of PyTorch: LAPACK and cuSOLVER without synchronisation, products that obey no precision switch.

Switches that let float32 products run in TF32 or bfloat16 belong to the user and are never touched: where one is set, the
product is computed in float64, a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from array_api_compat import torch as xp

from seqpar.tall.standard_linear_algebra import StandardLinearAlgebra, select, svd_of_finite

Tensor = torch.Tensor

BLOCK = 1 << 22
"""Elements that are in float64 at a time."""


class TorchLinearAlgebra(StandardLinearAlgebra):
    """`torch.linalg` on any device."""

    def __init__(self) -> None:
        super().__init__(xp)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        if not _lowered(a):
            return torch.matmul(a, b)
        return _in_double(a, b)

    def qr(self, a: Tensor) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(a)
        return q, r

    def r(self, a: Tensor) -> Tensor:
        return torch.linalg.qr(a, mode="r")[1]

    def cholesky(self, g: Tensor) -> Tensor:
        r, failed = torch.linalg.cholesky_ex(g, upper=True)
        return torch.where((failed != 0)[..., None, None], torch.nan, r)

    def solve_right(self, a: Tensor, r: Tensor) -> Tensor:
        rows = BLOCK if a.is_cuda else 2048
        if a.shape[-2] <= rows:
            return torch.linalg.solve_triangular(r, a, upper=True, left=False)
        # LAPACK wants columns, so that a copy is turned: 73 ms in blocks for the caches, 210 at once (262144 x 64, float32).
        # cuBLAS counts in 32 bits.
        blocks = torch.split(a, rows, dim=-2)
        solved = [torch.linalg.solve_triangular(r, block, upper=True, left=False) for block in blocks]
        return torch.cat(solved, dim=-2)

    def svd(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # cuSOLVER's approximate driver is good for well-conditioned matrices only; Jacobi's is accurate for all.
        driver = "gesvdj" if a.is_cuda else None
        return svd_of_finite(xp, lambda x: torch.linalg.svd(x, full_matrices=False, driver=driver), a)

    def where_all(
        self, accepted: Tensor, found: tuple[Tensor, ...], again: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            return select(xp, accepted, found, again())
        return super().where_all(accepted, found, again)


def _lowered(a: Tensor) -> bool:
    """May a user's switch lower the precision of a product of these?"""
    if a.dtype not in (torch.float32, torch.complex64):
        return False
    if a.is_cuda:
        return bool(torch.backends.cuda.matmul.allow_tf32)
    return torch.get_float32_matmul_precision() != "highest" or _mkldnn() not in ("none", "ieee")


def _mkldnn() -> str:
    return str(getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "none"))


def _in_double(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.complex128 if a.is_complex() else torch.float64
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    if inner > max(rows, columns):  # a sum over many rows of b
        step = max(1, BLOCK // max(rows, columns))
        pairs = zip(torch.split(a, step, dim=-1), torch.split(b, step, dim=-2), strict=True)
        total = sum(torch.matmul(x.to(wide), y.to(wide)) for x, y in pairs)
        return torch.as_tensor(total).to(a.dtype)
    right = b.to(wide)
    blocks = torch.split(a, max(1, BLOCK // max(inner, columns)), dim=-2)
    return torch.cat([torch.matmul(x.to(wide), right).to(a.dtype) for x in blocks], dim=-2)


LINEAR_ALGEBRA = TorchLinearAlgebra()
