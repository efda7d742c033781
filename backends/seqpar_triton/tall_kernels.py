"""The Triton kernels of tall matrices as a choice sees them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqpar.dispatch.problem import Kernel, Layout, Problem, wrong_counts
from seqpar_triton.configs import OnePassConfig, TallConfig
from seqpar_triton.kernels import INTERPRETED_RANK, TritonKernel
from seqpar_triton.limits import MOST_SEQUENCES
from seqpar_triton.tall_grid import MOST_COLUMNS, MOST_ROWS, grid_for, tile_of, too_large

if TYPE_CHECKING:
    from seqpar_triton.tall_bound import BoundTall

FIRST, LAST = 4.0, 28.0
"""Ranks for many small matrices and for large ones: see `rank`."""


class TallKernel(TritonKernel):
    """Blocks of rows in registers, and a tree over their R factors: at most 64 columns."""

    backend = "triton"
    method = "tsqr"
    config = TallConfig

    def refuses(self, problem: Problem, config: TallConfig) -> str | None:
        formats = {name for name in problem.dtypes if name is not None}
        if len(formats) > 1 or not formats <= {"float32", "float64"}:
            return f"works in float32 or float64, not in {', '.join(sorted(formats))}"
        rows, columns = problem.shape[-2:]
        wide = "float64" in formats
        if columns > MOST_COLUMNS:
            return f"keeps rows of at most {MOST_COLUMNS} columns in registers, and these have {columns}"
        if rows < columns:
            return f"works on at least as many rows as columns, not on {rows} x {columns}"
        seed = next((int(word[5:]) for word in problem.options if word.startswith("seed=")), 0)
        if seed == rows:
            return "works on rows, and there are none but those of seed"
        if seed and too_large(tile_of(seed, columns, wide), wide):
            return f"keeps the rows of seed in registers, and there are {seed} of {columns} columns"
        if rows - seed >= MOST_SEQUENCES:
            return f"numbers rows in 32 bits, and there are {rows - seed}"
        why = super().refuses(problem, OnePassConfig(warps=config.warps)) or wrong_counts(
            config, what="positive whole number"
        )
        return why or self._unfit(config, rows - seed, columns, wide)

    def _unfit(self, config: TallConfig, rows: int, columns: int, wide: bool) -> str | None:
        """What of a config does not go with matrices of a size."""
        if config.rows is not None and config.rows & (config.rows - 1):
            return f"rows={config.rows} is not a power of two"
        if config.rows is not None and config.rows < 2 * columns:
            return f"rows={config.rows} is less than twice the {columns} columns"
        if config.arity == 1:
            return "arity=1 merges nothing"
        grid = grid_for(config, rows, columns, wide)
        if too_large(grid.leaf, wide):
            return f"rows={config.rows} of {columns} columns are more than the registers of a program hold"
        if grid.blocks > 1 and too_large(grid.node, wide):
            return f"arity={config.arity} of {columns} columns is more than the registers of a program hold"
        return None

    def rank(self, problem: Problem) -> float:
        """First for matrices of up to 1,024 rows; else behind Cholesky's methods, ahead of the framework's own.

        A batch of small matrices is one launch here, which reads them once. Libraries take several for each of two products,
        factorisations and solves, and torch forms Q in a loop over matrices. A large matrix is another matter: Cholesky's
        products run near the speed of memory, while reflections take three operations on a whole tile per column, by count
        0.4 ms for R of 1M x 64 float32 on an H200, against 0.2 for four passes over that memory; and a certificate tells
        where those do not apply. Nothing of this is measured.
        """
        if problem.device != "cuda" or self.refuses(problem, self.config()) is not None:
            return INTERPRETED_RANK
        return FIRST if problem.shape[-2] <= MOST_ROWS else LAST

    def bound_to(self, config: TallConfig, layouts: Sequence[Layout | None]) -> "BoundTall":
        """The launches for memory laid out so."""
        from seqpar.dispatch.operation import operations
        from seqpar_triton.tall_bound import BoundTall

        operation = operations[self.operation]
        names = (*operation.operands, *operation.results)
        given = {n: x for n, x in zip(names, layouts, strict=True) if x is not None}
        return BoundTall(self.operation, config, given)

    def scratch(
        self, spec: Any, config: Any, layouts: Sequence[Layout | None]
    ) -> tuple[tuple[tuple[int, ...], str], ...]:
        return tuple(self.bound_to(config, layouts).scratch.values())

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "BoundTall":
        bound = self.bound_to(config, layouts)
        # Here, not at the launch, so that a kernel that does not compile gives way to the next best.
        bound.compile()
        return bound

    def on_jax_arrays(
        self,
        spec: Any,
        config: Any,
        operands: Sequence[tuple[tuple[int, ...], str] | None],
        results: Sequence[tuple[tuple[int, ...], str]],
    ) -> Any:
        from seqpar_triton.tall_arrays import function_of

        return function_of(self, config, operands, results)


class TallQR(TallKernel):
    operation = "qr"
    summary = "real, up to 64 columns: Householder reflections in registers, a tree over R factors, Q on the way back"


class TallR(TallKernel):
    operation = "r_factor"
    summary = (
        "R alone, real, up to 64 columns, with right-hand sides, weights and a seed: the rows are read once"
    )


TALL: tuple[Kernel, ...] = (TallQR(), TallR())
