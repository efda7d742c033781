"""The Triton kernels of cells as a choice sees them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqpar.cells.adjoint import adjoint
from seqpar.cells.program import INPUT
from seqpar.cells.walk import CellWalk
from seqpar.dispatch.problem import Kernel, Layout, Problem, wrong_counts
from seqpar_triton.configs import CellConfig, CellShootingConfig, OnePassConfig
from seqpar_triton.kernels import INTERPRETED_RANK, TritonKernel
from seqpar_triton.limits import LARGEST_SPACE, MOST_SEGMENTS, SHARED_BYTES, padded

if TYPE_CHECKING:
    from seqpar_triton.cell_bound import BoundCell


class CellKernel(TritonKernel):
    """A walk with the states of a tile of sequences in registers: spaces of at most 64 units."""

    config = CellConfig

    def refuses(self, problem: Problem, config: CellConfig) -> str | None:
        formats = {name for name in problem.dtypes if name is not None} - {"bool"}
        if len(formats) > 1 or not formats <= {"float32", "float64"}:
            return f"works in float32 or float64, not in {', '.join(sorted(formats))}"
        spec = CellWalk(problem.options[-1], problem.options[-2])
        for space, size in spec.sizes.items():
            if size > LARGEST_SPACE and space != "inputs":
                return f"keeps at most {LARGEST_SPACE} units of a space in registers, and there are {size} {space}"
        needed = weights_on_chip(spec, "float64" in formats, problem.operation.endswith("_backward"))
        if needed > SHARED_BYTES:
            return f"keeps weights in shared memory, {SHARED_BYTES} bytes at most, and these are {needed}"
        if "models" in problem.options and problem.rows > MOST_SEGMENTS:
            return f"has one launch for at most {MOST_SEGMENTS} models, and there may be {problem.rows}"
        if type(config.rows) is int and config.rows & (config.rows - 1):
            return f"rows={config.rows} is not a power of two"
        why = super().refuses(problem, OnePassConfig(warps=config.warps))
        return why or wrong_counts(config, what="positive whole number")

    def rank(self, problem: Problem) -> float:
        if problem.device != "cuda":
            return INTERPRETED_RANK
        # The kernel with chunks walks step by step where that is the better choice.
        return 9.0 if self.config is CellShootingConfig else 10.0

    def programs(  # type: ignore[override]
        self, spec: CellWalk, config: CellConfig, layouts: Sequence[Layout | None]
    ) -> "BoundCell":
        """The launch for memory laid out so."""
        from seqpar_triton.cell_bound import BoundCell, names_of

        given = {n: x for n, x in zip(names_of(self.operation), layouts, strict=True) if x is not None}
        return BoundCell(self.operation, spec, config, given)

    def on_jax_arrays(
        self,
        spec: CellWalk,
        config: CellConfig,
        operands: Sequence[tuple[tuple[int, ...], str] | None],
        results: Sequence[tuple[tuple[int, ...], str]],
    ) -> Any:
        from seqpar_triton.cell_arrays import function_of

        return function_of(self, spec, config, operands, results)


def weights_on_chip(spec: CellWalk, wide: bool, backward: bool) -> int:
    """Bytes of all gates of matrices, each in a tile padded to powers of two, and again where its transpose is multiplied by."""
    program = adjoint(spec.cell) if backward else spec.cell
    spaces = {p.name: (p.rows, p.columns) for p in program.parameters}
    sizes = spec.sizes
    # Wide inputs are multiplied ahead of the walk.
    apart = sizes["inputs"] > LARGEST_SPACE
    products = [p for made in program.sums for p in made.products if not (apart and p.operand == INPUT)]
    gates = {(p.name, p.gate, p.transposed) for p in products}
    numbers = [
        padded(sizes[rows]) * padded(sizes[columns]) for rows, columns in (spaces[g[0]] for g in gates)
    ]
    return sum(numbers) * (8 if wide else 4)


class CellSequential(CellKernel):
    operation = "cell"
    method = "sequential"
    summary = "any cell with spaces of up to 64 units, in one walk; states and weights of a tile of sequences on the chip"


class CellBackward(CellKernel):
    operation = "cell_backward"
    method = "sequential"
    summary = "what every step of the way back stores, in one walk"


class CellShooting(CellKernel):
    operation = "cell"
    method = "shooting"
    config = CellShootingConfig
    summary = "the same with time in chunks, walked at once and again until they fit together to the bit: for few long sequences"


class CellShootingBackward(CellKernel):
    operation = "cell_backward"
    method = "shooting"
    config = CellShootingConfig
    summary = "what every step of the way back stores, with time in chunks"


CELLS: tuple[Kernel, ...] = (CellSequential(), CellShooting(), CellBackward(), CellShootingBackward())
