"""Q kept as factors in any framework: a batched QR of blocks of rows, one of their R factors, and batched products with both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from seqpar.algorithms import tsqr
from seqpar.algorithms.arrays import filled
from seqpar.dispatch.problem import Array, Kernel, Problem
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.packed_householder import factorised, multiplied
from seqpar.tall.ran import NATIVE, TSQR

Results = tuple[Array, ...]


def rows_of_blocks(m: int, n: int) -> int:
    """Rows of a block such that the R factors of all blocks have about as many rows together; m where that is no gain."""
    rows = max(2 * n, math.isqrt(m * n), 256)
    return rows if 2 * rows <= m else m


class _OfFramework(Kernel):
    backend = "framework"
    form = "arrays"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 30.0


class Blocks(_OfFramework):
    """Leaves and a node."""

    operation = "qr_blocks"
    method = "tsqr"
    summary = "two levels of the framework's own factorisation, m >= n"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        m, n = problem.shape[-2:]
        return f"has {m} rows and {n} columns, fewer rows than columns" if m < n else None

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        (a,) = operands
        assert a is not None
        return two_levels(xp, a, spec.rows, TSQR)


class Native(_OfFramework):
    """The framework's own Q, as a single block."""

    operation = "qr_blocks"
    method = "native"
    summary = "the framework's own Q, of any shape"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return "keeps Q whole, not in blocks" if problem.options else None

    def rank(self, problem: Problem) -> float:
        return 20.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        (a,) = operands
        assert a is not None
        return two_levels(xp, a, a.shape[-2], NATIVE)


def two_levels(xp: Any, a: Array, rows: int, code: int) -> Results:
    m, n = a.shape[-2:]
    levels, r = tsqr.factors(xp, linear_algebra(a), a, rows=rows, arity=-(-m // rows))
    lead = tuple(a.shape[:-2])
    node = levels[1] if len(levels) > 1 else filled(xp, (*lead, 1, 0, min(m, n)), 0.0, a, a.dtype)
    # Not a part of the last level: no result of an operation is a view.
    return levels[0], node, xp.astype(r, r.dtype, copy=True), filled(xp, lead, code, a, xp.int32)


class BlocksProduct(_OfFramework):
    """Products with leaves and a node."""

    operation = "qr_product"
    method = "tsqr"
    summary = "products with blocks at full precision"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None if "blocks" in problem.options else "knows no packed Householder vectors"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        _, _, leaves, node, _, x = operands
        assert leaves is not None and node is not None and x is not None
        levels = (leaves, node) if leaves.shape[-3] > 1 else (leaves,)
        la = linear_algebra(leaves)
        if spec.adjoint:
            return (tsqr.apply_adjoint(xp, la, levels, x),)
        y = tsqr.apply(xp, la, levels, x, spec.rows)
        # Without the rows that filled the last block up: no result of an operation is a part of something longer.
        return (xp.astype(y, y.dtype, copy=bool(spec.rows % leaves.shape[-2])),)


class Packed(_OfFramework):
    """The definition, block after block: right everywhere, fast nowhere."""

    operation = "qr_packed"
    backend = "reference"
    method = "tsqr"
    summary = "the definition, column after column"

    def rank(self, problem: Problem) -> float:
        return 100.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        (a,) = operands
        assert a is not None
        return (*factorised(xp, a), filled(xp, tuple(a.shape[:-2]), TSQR, a, xp.int32))


class PackedProduct(Packed):
    """The definition of products with packed Householder vectors."""

    operation = "qr_product"
    summary = "the definition, block after block"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None if "packed" in problem.options else "knows packed Householder vectors only"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        _, _, v, t, signs, x = operands
        return (multiplied(xp, v, t, signs, x, spec.rows, spec.adjoint),)


KERNELS = (Blocks(), Native(), BlocksProduct(), Packed(), PackedProduct())
