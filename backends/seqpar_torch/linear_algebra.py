"""What factorisations need of PyTorch: LAPACK and cuSOLVER, products that obey no precision switch.

Nothing waits for a device but `svd`, whose status PyTorch reads back, and `where_all`, which has to know.
Switches that let float32 products run in TF32 or bfloat16 belong to the user and are never touched: where one is set, the
product is computed in float64, a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from array_api_compat import torch as xp

from seqpar.algorithms.linear_algebra import Failed
from seqpar.algorithms.standard_linear_algebra import (
    LARGEST_SOLVE,
    StandardLinearAlgebra,
    by_rows,
    failing_again,
    select,
    svd_of_finite,
)
from seqpar_torch.internals import value_known, without_values

Tensor = torch.Tensor

BLOCK = 1 << 22
"""Elements that are in float64 at a time."""


class TorchLinearAlgebra(StandardLinearAlgebra):
    """`torch.linalg` on any device."""

    def __init__(self) -> None:
        super().__init__(xp)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return _in_double(a, b) if _lowered(a) else torch.matmul(a, b)

    def qr(self, a: Tensor) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(a)
        return q, r

    def r(self, a: Tensor) -> Tensor:
        r: Tensor = torch.linalg.qr(a, mode="r")[1]
        return r

    def cholesky(self, g: Tensor) -> Tensor:
        r, failed = torch.linalg.cholesky_ex(g, upper=True)
        return torch.where((failed != 0)[..., None, None], torch.nan, r)

    def solve_right(self, a: Tensor, r: Tensor) -> Tensor:
        if a.is_cuda and _lowered(a):  # cuBLAS solves by products, and its mode is the handle's
            return _by_rows(
                lambda x: _solve(x.to(_wide(a)), r.to(_wide(a))).to(a.dtype), a, BLOCK // a.shape[-1]
            )
        # LAPACK wants columns, so that a copy is turned: 73 ms in blocks for the caches, 210 at once (262144 x 64, float32).
        return _by_rows(
            lambda x: _solve(x, r), a, LARGEST_SOLVE // max(a.shape[-1], 1) if a.is_cuda else 2048
        )

    def svd(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # cuSOLVER's approximate driver is good for well-conditioned matrices only; Jacobi's is accurate for all.
        driver = "gesvdj" if a.is_cuda else None

        def svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            u, s, vh = torch.linalg.svd(x, full_matrices=False, driver=driver)
            return u, s, vh

        readable = a.device.type == "cpu" and not torch.compiler.is_compiling() and value_known(a)
        if readable and torch.isfinite(a).all():  # 48 microseconds against 173 for a 4 x 4 matrix
            return svd(a)
        return svd_of_finite(xp, svd, a)

    def where_all(
        self, accepted: Tensor, found: tuple[Tensor, ...], again: Callable[[Failed], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            return select(xp, accepted, found, again(None))
        if without_values(accepted):  # shapes are all that is asked for, and every attempt has the same
            return found
        return failing_again(xp, accepted, found, again)


def _lowered(a: Tensor) -> bool:
    """May a switch of the user's lower the precision of a product of these?

    Older switches (`allow_tf32`, `set_float32_matmul_precision`) set these too; to read them raises once newer ones are set.
    """
    if a.dtype not in (torch.float32, torch.complex64):
        return False
    backend = torch.backends.cuda if a.is_cuda else torch.backends.mkldnn
    return getattr(backend, "matmul").fp32_precision not in ("none", "ieee")  # noqa: B009  (unknown to PyTorch's own types)


def _wide(a: Tensor) -> torch.dtype:
    return torch.complex128 if a.is_complex() else torch.float64


def _solve(a: Tensor, r: Tensor) -> Tensor:
    x: Tensor = torch.linalg.solve_triangular(r, a, upper=True, left=False)
    return x


def _by_rows(function: Callable[[Tensor], Tensor], a: Tensor, rows: int) -> Tensor:
    x: Tensor = by_rows(xp, function, a, rows)
    return x


def _in_double(a: Tensor, b: Tensor) -> Tensor:
    wide, rows, inner, columns = _wide(a), a.shape[-2], a.shape[-1], b.shape[-1]
    if inner <= max(rows, columns):
        right = b.to(wide)
        return _by_rows(
            lambda x: torch.matmul(x.to(wide), right).to(a.dtype), a, BLOCK // max(inner, columns, 1)
        )
    # A sum over many rows of b.
    step = max(1, BLOCK // max(rows, columns, 1))
    pairs = zip(torch.split(a, step, dim=-1), torch.split(b, step, dim=-2), strict=True)
    return torch.as_tensor(sum(torch.matmul(x.to(wide), y.to(wide)) for x, y in pairs)).to(a.dtype)


LINEAR_ALGEBRA = TorchLinearAlgebra()
