"""What factorisations need of a framework beyond the array API standard, at full precision whatever its global switches say.

The standard has no triangular solve, its Cholesky factorisation raises where a batch would rather have NaN, and products in
float32 may run in ten bits on some devices. A binding offers what its framework has in `Binding.linear_algebra`;
`StandardLinearAlgebra` is for libraries of which nothing more is known.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

Array = Any
Failed = tuple[Array, ...] | None
"""Which matrices of a batch are to be computed again: an index for the leading axes, as `nonzero` gives it; None for all."""


class LinearAlgebra(Protocol):
    """Matrices are the last two axes; leading axes are batches."""

    def product(self, a: Array, b: Array) -> Array:
        """a @ b, never in TF32 or bfloat16."""

    def qr(self, a: Array) -> tuple[Array, Array]:
        """The reduced factorisation (q, r) with whatever signs; for any shape, wide ones too."""

    def r(self, a: Array) -> Array:
        """The r of `qr` alone: half the work, no q in memory."""

    def cholesky(self, g: Array) -> Array:
        """Upper r with r^H r = g; NaN in a matrix that is not positive definite. Neither raises nor synchronises."""

    def solve_right(self, a: Array, r: Array) -> Array:
        """a r^-1 for upper triangular r (..., n, n) and a (..., m, n), as stable as back substitution."""

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        """(u, s, vh) of a small matrix; NaN where it holds NaN or inf."""

    def where_all(
        self, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """`found` if every entry of `accepted` (batch axes) is true, else per matrix `found` or what `again` computes.

        Where values are known, reads back once which they are, and has `again` compute these alone, (matrices, ...), which
        take their places in `found`. Under tracing a condition inside the program, and `again(None)`.
        """

    def sum_over_rows(self, function: Callable[[Array], Array], a: Array, rows: int) -> Array:
        """The sum of `function(block)` over blocks of rows of a, one at a time: a loop, inside the program under tracing."""

    def doubles(self) -> AbstractContextManager[Any]:
        """Within it double precision exists, where a framework may hide it."""
