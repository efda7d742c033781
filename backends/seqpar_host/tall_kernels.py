"""The host kernels of tall-skinny QR as a choice sees them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqpar.dispatch.problem import Layout, Problem
from seqpar.tall.packing import BLOCKS, MOST_COLUMNS
from seqpar_host.host_kernel import HostKernel

if TYPE_CHECKING:
    from seqpar_host.plan import Plan

REAL = ({"float32"}, {"float64"})


class TallKernel(HostKernel):
    """Rows pass through the caches once, block by block; the same bits for any number of threads."""

    method = "tsqr"
    instead = "native"
    xla = ("cpu",)
    takes: ClassVar[Sequence[set[str]]] = ({"float32"}, {"float64"}, {"complex64"}, {"complex128"})
    most: ClassVar[int] = MOST_COLUMNS
    works_in: ClassVar[str] = "one of float32, float64, complex64 and complex128"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        numbers = {name for name in problem.dtypes if name is not None}
        if numbers not in self.takes:
            return f"works in {self.works_in}, and the operands are {', '.join(sorted(numbers))}"
        if problem.shape[-1] > self.most:
            return f"keeps up to {self.most} columns in the caches, and there are {problem.shape[-1]}"
        return super().refuses(problem, config)

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.tall_plan import make_tall_plan

        return make_tall_plan(self.operation, layouts)


class TallQR(TallKernel):
    operation = "qr"
    kernel = "qr"
    summary = "n <= 256; batches and parts of rows in parallel; bitwise the same for any number of threads"


class TallR(TallKernel):
    operation = "r_factor"
    # Weights are real.
    takes = (*TallKernel.takes, {"complex64", "float32"}, {"complex128", "float64"})
    kernel = "r_factor"
    # 8192 x 1024 of float32 on one thread take 278 ms, and LAPACK 425.
    most = 1024
    summary = "up to 1024 columns; weights, right-hand sides and rows on top are read where they lie"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        rows, columns = problem.shape[-2:]
        if rows < columns and any(word.startswith("seed") for word in problem.options):
            # Rows are folded into a square R. Where the first columns depend on each other, that has rows beyond the m-th.
            return f"takes rows on top if there are {columns} rows in all, as many as columns, and there are {rows}"
        if BLOCKS["float32"] < rows < columns:
            return f"takes up to {BLOCKS['float32']} rows if there are more columns, and there are {rows} and {columns}"
        return super().refuses(problem, config)


class TallPacked(TallKernel):
    operation = "qr_packed"
    takes, works_in = REAL, "float32 or in float64"
    kernel = "qr_packed"
    summary = "real, m >= n, n <= 256; Q as Householder vectors, in one pass over the rows"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        rows, columns = problem.shape[-2:]
        if rows < columns:
            return f"packs Q of tall matrices, and this one has {rows} rows and {columns} columns"
        return super().refuses(problem, config)


class TallProduct(TallKernel):
    operation = "qr_product"
    takes, works_in = REAL, "float32 or in float64"
    kernel = "qr_product"
    # v, t and signs: each block of v is read by columns, whatever its axes say.
    gapless: ClassVar[Mapping[int, int]] = {2: 2, 3: 4, 4: 1}
    summary = "Q x and Q^H x from packed Householder vectors"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if "packed" not in problem.options:
            return "knows packed Householder vectors only"
        return super().refuses(problem, config)

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.tall_plan import make_product_plan

        return make_product_plan(spec.adjoint, spec.rows, layouts)
