"""What factorisations need of PyTorch: LAPACK and cuSOLVER without synchronisation, products that obey no precision switch.

Switches that let float32 products run in TF32 or bfloat16 belong to the user and are never touched: where one is set, the
product is computed in float64, a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        return torch.linalg.solve_triangular(r, a, upper=True, left=False)

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
    m, inner, n = a.shape[-2], a.shape[-1], b.shape[-1]
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if max(m, n) * inner <= BLOCK or m <= 1:
        return torch.matmul(a.to(wide), b.to(wide)).to(a.dtype)
    if inner > max(m, n):  # a sum over many rows
        step = max(1, BLOCK // max(m, n))
        total: Any = 0.0
        for i in range(0, inner, step):
            total = total + torch.matmul(a[..., i : i + step].to(wide), b[..., i : i + step, :].to(wide))
        return torch.as_tensor(total).to(a.dtype)
    product = torch.empty((*lead, m, n), dtype=a.dtype, device=a.device)
    right = b.to(wide)
    step = max(1, BLOCK // max(inner, n))
    for i in range(0, m, step):
        product[..., i : i + step, :] = torch.matmul(a[..., i : i + step, :].to(wide), right).to(a.dtype)
    return product


LINEAR_ALGEBRA = TorchLinearAlgebra()
