"""Factorisations in the framework's own linear algebra, as kernels of the backend "framework", on any device.

Three methods for `qr` and for `r_factor`: blocks of rows and a tree (`tsqr`), certified Cholesky QR (`cholesky`), and the
framework's own factorisation (`native`), which all of them hand matrices with fewer rows than columns to. The backend
"reference" has `tsqr` in the array API standard alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from seqpar.algorithms import tsqr
from seqpar.algorithms.arrays import filled
from seqpar.algorithms.linear_algebra import LinearAlgebra
from seqpar.algorithms.signs import positive_diagonal
from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts
from seqpar.tall.certified_cholesky import STRONGER, certified_cholesky
from seqpar.tall.configs import CertifiedCholesky, RowBlocks
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.ran import NATIVE, TSQR
from seqpar.tall.rows import stacked

__all__ = ["KERNELS", "stacked"]

Results = tuple[Array, ...]
Factors = tuple[Array | None, Array, Array]


class _Framework(Kernel):
    """A method on whole matrices. Its two operations differ in what they are given, and in whether Q is formed.

    Of ranks only the order means something. Those of all backends:

        CPU    host 10 < native of few rows 12 < cholesky 15 where it is faster < tsqr 20 < cholesky 25 < native 30 < reference
        GPU    triton of few rows 4 < native of few rows 5 < cholesky 10 < triton 28 < native 30 < tsqr 40 < reference
    """

    backend = "framework"
    form = "arrays"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return wrong_counts(config)

    def algebra(self, xp: Any, a: Array) -> LinearAlgebra:
        return linear_algebra(a)

    @abstractmethod
    def factorise(self, xp: Any, la: LinearAlgebra, a: Array, config: Any, with_q: bool) -> Factors:
        """(q, r, ran) of a (..., m, n) with m >= n."""

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> Results:
        with_q = self.operation == "qr"
        a = operands[0] if with_q else stacked(xp, operands)
        assert a is not None
        la = self.algebra(xp, a)
        if a.shape[-2] < a.shape[-1]:
            q, r, ran = native(xp, la, a, with_q)
        else:
            q, r, ran = self.factorise(xp, la, a, config, with_q)
        return (q, r, ran) if with_q else (r, ran)


class _Tsqr(_Framework):
    method = "tsqr"
    config = RowBlocks
    summary = "blocks of rows by the framework's factorisation, and a tree; any dtype, any condition"

    def default(self, problem: Problem) -> RowBlocks:
        # A GPU takes blocks one after the other: few and large ones.
        return RowBlocks() if problem.device == "cpu" else RowBlocks(rows=max(1 << 16, 8 * problem.shape[-1]))

    def rank(self, problem: Problem) -> float:
        return 40.0 if problem.device != "cpu" else 20.0

    def factorise(self, xp: Any, la: LinearAlgebra, a: Array, config: Any, with_q: bool) -> Factors:
        ran = filled(xp, tuple(a.shape[:-2]), TSQR, a, xp.int32)
        blocks = blocks_of(config, a.shape[-2], a.shape[-1], with_q)
        if not with_q:
            return None, tsqr.r_of(xp, la, a, **blocks), ran
        levels, r = tsqr.factors(xp, la, a, **blocks)
        return tsqr.explicit(xp, la, levels, a.shape[-2]), r, ran


class _Cholesky(_Framework):
    method = "cholesky"
    config = CertifiedCholesky
    summary = (
        "products of the matrix with itself, certified; what is not certified is done again, at last by tsqr"
    )

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if type(config.double) is not bool:
            return f"double={config.double!r} is not True or False"
        if config.stronger not in STRONGER:
            return f"stronger={config.stronger!r} is none of {', '.join(STRONGER)}"
        return wrong_counts(RowBlocks(rows=config.rows))

    def default(self, problem: Problem) -> CertifiedCholesky:
        double = problem.device in ("cpu", "cuda", "rocm")
        # A few million elements at a time: launches cost 5 microseconds each, and a block in double has to fit in memory.
        rows = None if problem.device == "cpu" else max(2048, (1 << 24) // problem.shape[-1])
        return CertifiedCholesky(rows=rows, double=double, stronger="shifted" if double else "randomised")

    def rank(self, problem: Problem) -> float:
        # A GPU multiplies matrices at full speed and has little else to do.
        if problem.device != "cpu":
            return 10.0
        # Beyond the host's kernels, measured at 16384 x 512 and 100000 x 300 in one thread: 1.2 to 2 times tsqr on NumPy,
        # about as fast elsewhere.
        real = not str(problem.dtypes[0]).startswith("complex")
        return 15.0 if problem.framework == "numpy" and real and problem.shape[-1] > 256 else 25.0

    def factorise(self, xp: Any, la: LinearAlgebra, a: Array, config: Any, with_q: bool) -> Factors:
        m, n = a.shape[-2:]
        rows = config.rows or max(2048, (1 << 18) // n)  # 2 MB in double: the caches'
        return certified_cholesky(
            xp,
            la,
            a,
            with_q=with_q,
            rows=rows,
            double=config.double,
            stronger=config.stronger,
            blocks=blocks_of(RowBlocks(), m, n, with_q),
        )


class _Native(_Framework):
    method = "native"
    summary = (
        "the framework's own factorisation, of any shape; R alone of many rows on a CPU in blocks of them"
    )

    def rank(self, problem: Problem) -> float:
        rows, columns = problem.shape[-2:]
        if rows >= 4 * columns:
            return 30.0
        # On a CPU behind the host's kernel, which takes 13 ms for 67 with 8,192 matrices 16 x 16, 1.3 for 4.9 with 512 x 256.
        return 12.0 if problem.device == "cpu" else 5.0

    def factorise(self, xp: Any, la: LinearAlgebra, a: Array, config: Any, with_q: bool) -> Factors:
        if with_q or binding_for(type(a)).device(a) != "cpu":
            return native(xp, la, a, with_q)
        r = tsqr.r_of(xp, la, a, **blocks_of(RowBlocks(), a.shape[-2], a.shape[-1], with_q))
        return None, r, filled(xp, tuple(a.shape[:-2]), NATIVE, a, xp.int32)


class _Reference(_Tsqr):
    backend = "reference"
    summary = "blocks of rows and a tree in the array API alone"

    def rank(self, problem: Problem) -> float:
        return 100.0

    def algebra(self, xp: Any, a: Array) -> LinearAlgebra:
        return _Standard(xp, linear_algebra(a).product)


class _Standard(StandardLinearAlgebra):
    """The array API alone, but for products, which no switch of the framework's is to lower."""

    def __init__(self, xp: Any, product: Callable[[Array, Array], Array]) -> None:
        super().__init__(xp)
        self._product = product

    def product(self, a: Array, b: Array) -> Array:
        return self._product(a, b)


def native(xp: Any, la: LinearAlgebra, a: Array, with_q: bool) -> Factors:
    """The framework's factorisation with our signs; NaN all over where the matrix is not finite."""
    q, r = la.qr(a) if with_q else (None, la.r(a))
    q, r = positive_diagonal(xp, q, r)
    q, r = tsqr.nan_unless_finite(xp, q, r)
    return q, r, filled(xp, tuple(a.shape[:-2]), NATIVE, a, xp.int32)


def blocks_of(config: RowBlocks, m: int, n: int, with_q: bool) -> dict[str, int]:
    """Rows of a block and arity of the tree for (m, n).

    R alone tells `lstsq` the rank, so its blocks are short: of columns that are dependent LAPACK leaves singular values that
    grow with the rows of a block, up to rows / 40 units of rounding (3,400 at 300,000 rows), wherever rounding errors agree in
    sign, as in columns of zeros and ones.
    """
    rows = config.rows or _even_rows(m, max(2048, 8 * n) if with_q else max(256, 2 * n))
    # Nodes of about the size of a block: a deep tree is a chain of small calls.
    return {"rows": rows, "arity": max(2, config.arity or rows // n)}


@cache
def _even_rows(m: int, rows: int) -> int:
    """About `rows`, and a divisor of m if there is one near: a last block filled up with zeros means a copy of all."""
    near = (d for k in range(rows // 2) for d in (rows + k, rows - k) if m % d == 0)
    return rows if m <= rows else next(near, rows)


class Tsqr(_Tsqr):
    operation = "qr"


class TsqrR(_Tsqr):
    operation = "r_factor"


class Cholesky(_Cholesky):
    operation = "qr"


class CholeskyR(_Cholesky):
    operation = "r_factor"


class Native(_Native):
    operation = "qr"


class NativeR(_Native):
    operation = "r_factor"


class Reference(_Reference):
    operation = "qr"


class ReferenceR(_Reference):
    operation = "r_factor"


KERNELS = (Tsqr(), TsqrR(), Cholesky(), CholeskyR(), Native(), NativeR(), Reference(), ReferenceR())
