"""What factorisations need of JAX: `lax.linalg`, products at the highest precision, a condition inside the program."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax.numpy as jnp
from jax import lax

from seqpar.algorithms.linear_algebra import Failed
from seqpar.algorithms.standard_linear_algebra import (
    LARGEST_SOLVE,
    StandardLinearAlgebra,
    by_rows,
    select,
    svd_of_finite,
)
from seqpar.dispatch.problem import Array
from seqpar_jax.avals import alike
from seqpar_jax.precision import enable_x64


class JaxLinearAlgebra(StandardLinearAlgebra):
    """`lax.linalg`, on every platform and under every transformation."""

    def __init__(self) -> None:
        super().__init__(jnp)

    def product(self, a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def qr(self, a: Array) -> tuple[Array, Array]:
        q, r = lax.linalg.qr(a, full_matrices=False)
        return q, r

    def cholesky(self, g: Array) -> Array:
        lower = lax.linalg.cholesky(g, symmetrize_input=False)
        return jnp.conj(jnp.matrix_transpose(lower))

    def solve_right(self, a: Array, r: Array) -> Array:
        lead = jnp.broadcast_shapes(a.shape[:-2], r.shape[:-2])
        a, r = (jnp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, r))

        def solve(x: Array) -> Array:
            return lax.linalg.triangular_solve(r, x, left_side=False, lower=False)

        return by_rows(jnp, solve, a, LARGEST_SOLVE // max(a.shape[-1], 1))

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        def of_finite(x: Array) -> tuple[Array, Array, Array]:
            u, s, vh = lax.linalg.svd(x, full_matrices=False)
            return u, s, vh

        return svd_of_finite(jnp, of_finite, a)

    def where_all(
        self, accepted: Array, found: tuple[Array, ...], again: Callable[[Failed], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        def taken() -> tuple[Array, ...]:
            return tuple(alike((accepted, *found))[1:])

        def mended() -> tuple[Array, ...]:
            # A constant, which varies over no mesh axis, becomes one that does like the rest.
            return tuple(alike((accepted, *select(jnp, accepted, found, again(None))))[1:])

        return tuple(lax.cond(jnp.all(accepted), taken, mended))

    def sum_over_rows(self, function: Callable[[Array], Array], a: Array, rows: int) -> Array:
        m = a.shape[-2]
        whole = m // rows

        def add(i: Array, total: Array) -> Array:
            return total + function(lax.dynamic_slice_in_dim(a, i * rows, rows, axis=-2))

        if whole <= 1:
            total = function(a[..., : min(rows, m), :])
        else:
            total = lax.fori_loop(1, whole, add, function(a[..., : min(rows, m), :]))
        rest = a[..., whole * rows :, :]
        return total + function(rest) if whole and rest.shape[-2] else total

    def doubles(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = enable_x64(True)
        return context
