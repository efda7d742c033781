"""The host kernels as a choice sees them: what they can run, how they rank, and how they bind to memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import seqpar
from seqpar.dispatch.problem import Launch, Layout, Problem, wrong_counts
from seqpar.dispatch.profile import usable_cores
from seqpar.dispatch.registry import Backend
from seqpar_host.bucketing_kernel import Buckets
from seqpar_host.configs import CellShootingConfig, ChunkedConfig, SequentialConfig
from seqpar_host.host_kernel import HostKernel
from seqpar_host.tall_kernels import TallPacked, TallProduct, TallQR, TallR

if TYPE_CHECKING:
    from seqpar_host.plan import Plan

# Splitting time walks every step three times, so it takes cores that would otherwise idle to win: 4.9 ms against 4.7 for
# one row of 4M steps on 2 cores.
CORES_TO_SPLIT_TIME = 4
STEPS_TO_SPLIT_TIME = 1 << 18
# Gradients of parameters that leave the caches are for the framework, whose products cut them into blocks: 172 ms for 234 with
# 512 units of an LSTM (13 billion operations, one thread), but 246 for 133 with 128, and 158 for 145 with 256 of a GRU.
FEWEST_MULTIPLIED, MOST_WEIGHTS = 16, 600_000


def host_backend() -> Backend:
    """The host backend and its kernels."""
    return Backend(
        name="host",
        version=seqpar.__version__,
        kernels=lambda: (
            *(Sequential(), Chunked(), Backward(), MatrixSequential(), MatrixBackward()),
            *(CellSequential(), CellShooting(), CellBackward(), CellShootingBackward(), CellGradients()),
            *(TallQR(), TallR(), TallPacked(), TallProduct()),
            Buckets(),
        ),
    )


class Sequential(HostKernel):
    operation = "linear_recurrence"
    method = "sequential"
    config = SequentialConfig
    kernel = "walk"
    xla = ("cpu",)
    summary = "every option; rows in parallel; bitwise the same for any number of threads"


class Chunked(HostKernel):
    operation = "linear_recurrence"
    method = "chunked"
    config = ChunkedConfig
    kernel = "walk"
    summary = "time in chunks over cores: for few long rows on four cores or more"

    def refuses(self, problem: Problem, config: ChunkedConfig) -> str | None:
        if type(config.chunk) is not int or config.chunk < 1:
            return f"chunk={config.chunk!r} is not a positive number of steps"
        return super().refuses(problem, config)

    def rank(self, problem: Problem) -> float:
        # By what the machine has, not by how many threads are set: a result must not depend on a thread setting.
        cores = usable_cores()
        splits = (
            cores >= CORES_TO_SPLIT_TIME and problem.rows * 3 <= cores and problem.time >= STEPS_TO_SPLIT_TIME
        )
        return 9.0 if splits else 11.0

    def bind(self, spec: Any, config: ChunkedConfig, layouts: Sequence[Layout | None]) -> Launch:
        from seqpar_host import chunked

        return chunked.bind(spec, config, layouts)


class Backward(HostKernel):
    operation = "linear_recurrence_backward"
    method = "sequential"
    config = SequentialConfig
    kernel = "backward"
    xla = ("cpu",)
    summary = "the whole vjp in one pass over time"


class MatrixKernel(HostKernel):
    """A kernel of the matrix recurrence: states of at most 16 rows stay in registers."""

    method = "sequential"
    config = SequentialConfig
    xla = ("cpu",)

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.matrix_plan import make_matrix_plan

        return make_matrix_plan(self.kernel, spec, layouts)


class MatrixSequential(MatrixKernel):
    operation = "matrix_recurrence"
    kernel = "matrix"
    summary = "every option; any n; lanes over rows or columns; bitwise the same for any number of threads"


class MatrixBackward(MatrixKernel):
    operation = "matrix_recurrence_backward"
    kernel = "matrix_backward"
    summary = "the whole vjp in one pass over time"


class CellKernel(HostKernel):
    """A kernel of a cell's walk. All of them give the same bits, forward and backward, whatever the chunks and threads."""

    xla = ("cpu",)

    def refuses(self, problem: Problem, config: Any) -> str | None:
        floats = {name for name in problem.dtypes if name not in (None, "bool")}
        if len(floats) > 1 or not floats <= {"float32", "float64"}:
            return (
                f"works in float32 or in float64, and the operands are {', '.join(sorted(map(str, floats)))}"
            )
        return wrong_counts(config) or super().refuses(problem, config)


class CellSequential(CellKernel):
    operation = "cell"
    method = "sequential"
    config = SequentialConfig
    kernel = "cell"
    summary = "step by step; sequences in parallel"

    def rank(self, problem: Problem) -> float:
        return 11.0

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.cell_plan import make_cell_plan
        from seqpar_host.cell_words import IN_ORDER

        return make_cell_plan(self.kernel, spec, IN_ORDER, 0, layouts)


class CellShooting(CellKernel):
    operation = "cell"
    method = "shooting"
    config = CellShootingConfig
    kernel = "cell"
    summary = "chunks at once where a cell forgets its start, and corrected to the bits of a walk in order"

    def plan(self, spec: Any, config: CellShootingConfig, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.cell_plan import make_cell_plan
        from seqpar_host.cell_words import AUTO, IN_CHUNKS

        if config.chunk is None:
            return make_cell_plan(self.kernel, spec, AUTO, 0, layouts)
        return make_cell_plan(self.kernel, spec, IN_CHUNKS, config.chunk, layouts)


class CellBackward(CellSequential):
    operation = "cell_backward"
    kernel = "cell_backward"


class CellShootingBackward(CellShooting):
    operation = "cell_backward"
    kernel = "cell_backward"


class CellGradients(CellKernel):
    operation = "cell_gradients"
    method = "products"
    kernel = "cell_gradients"
    summary = "products over all steps on threads of our own; bitwise the same for any number of them"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        from seqpar.cells.walk import CellWalk

        if "models" in problem.options:
            return "adds up over all sequences, and each has weights of its own"
        if problem.time < FEWEST_MULTIPLIED:
            return (
                f"multiplies {FEWEST_MULTIPLIED} steps of a sequence at a time, and there are {problem.time}"
            )
        spaces, program = problem.options[-2:]
        if CellWalk(program, spaces).weights > MOST_WEIGHTS:
            return f"is slower than the framework where a cell has more than {MOST_WEIGHTS:,} parameters"
        return super().refuses(problem, config)

    def plan(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> "Plan":
        from seqpar_host.cell_gather_plan import make_gather_plan

        return make_gather_plan(spec, layouts)
