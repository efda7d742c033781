"""Factorisations by the framework's own linear algebra, as kernels of the backend "framework"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.algorithms.arrays import filled
from seqpar.algorithms.signs import positive_diagonal
from seqpar.dispatch.problem import Array, Kernel, Problem
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.operations import R_FACTOR
from seqpar.tall.ran import NATIVE

Results = tuple[Array, ...]


class Native(Kernel):
    """The framework's own factorisation."""

    operation = "qr"
    backend = "framework"
    method = "native"
    form = "arrays"
    summary = "the framework's own factorisation, of any shape"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 30.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        (a,) = operands
        assert a is not None
        q, r = positive_diagonal(xp, *linear_algebra(a).qr(a))
        assert q is not None
        return q, r, filled(xp, tuple(a.shape[:-2]), NATIVE, a, xp.int32)


class NativeR(Native):
    """R alone of rows put together first."""

    operation = "r_factor"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        rows = stacked(xp, operands)
        _, r = positive_diagonal(xp, None, linear_algebra(rows).qr(rows)[1])
        return r, filled(xp, tuple(rows.shape[:-2]), NATIVE, rows, xp.int32)


def stacked(xp: Any, operands: Sequence[Any]) -> Array:
    """The rows [seed; sqrt(weights) * [a | b]] with their leading axes at full size."""
    a, b, weights, seed = operands
    metas: list[Any] = list(operands)
    lead, _, columns = R_FACTOR.sizes(metas)

    def full(x: Array) -> Array:
        return xp.broadcast_to(x, (*lead, *x.shape[-2:]))

    rows = full(a) if b is None else xp.concat([full(a), full(b)], axis=-1)
    if weights is not None:
        rows = rows * xp.expand_dims(xp.astype(xp.sqrt(weights), a.dtype), axis=-1)
    return rows if seed is None else xp.concat([full(seed), rows], axis=-2)


KERNELS = (Native(), NativeR())
