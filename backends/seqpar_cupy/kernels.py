"""The CUDA kernels as a choice sees them: what they can run, how they rank, and how they bind to memory."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from seqpar.dispatch.problem import Kernel, Launch, Layout, Problem
from seqpar.validation import COMPLEX, REAL
from seqpar_cupy.configs import ChunkedConfig, Config, SequentialConfig
from seqpar_cupy.linear_plan import Linear
from seqpar_cupy.matrix_plan import MOST_ROWS, Matrices
from seqpar_cupy.program import Runtime
from seqpar_cupy.shape import worth_segments


def kernels(runtime: Runtime) -> tuple[Kernel, ...]:
    """All of them, on what compiles and launches them."""
    linear = (Sequential, Chunked, Backward, ChunkedBackward)
    matrix = (MatrixSequential, MatrixChunked, MatrixBackward, MatrixChunkedBackward)
    return tuple(kind(runtime) for kind in (*linear, *matrix))


class CudaKernel(Kernel):
    """A kernel in CUDA C++ over memory of the device, on its current stream."""

    backend = "cuda"
    form = "buffers"
    config: ClassVar[type] = SequentialConfig
    plan: ClassVar[type[Linear] | type[Matrices]]

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def refuses(self, problem: Problem, config: Config) -> str | None:
        if problem.device != self.runtime.device:
            return f"works on memory of {self.runtime.device}, and the arrays are on {problem.device}"
        if not problem.addressable:
            return f"{problem.framework} shows no memory that it could work on (or the memory is not aligned)"
        supported = {*REAL, *COMPLEX}
        odd = [name for name in problem.dtypes if name not in (None, "bool", *supported)]
        return f"has no format for {', '.join(map(str, odd))}" if odd else wrong_knobs(config)

    def states(self, problem: Problem) -> int:
        """States that are walked at once."""
        return problem.rows

    def rank(self, problem: Problem) -> float:
        wanted = worth_segments(problem, self.states(problem), self.runtime.multiprocessors())
        return 5.0 if wanted == (self.method == "chunked") else 6.0

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Launch:
        run = self.plan.of(self.runtime, spec, config, layouts).run()

        def launch(addresses: Sequence[int], threads: int | None = None) -> None:
            run(np.array(addresses, np.int64))

        return launch

    def scratch(
        self, spec: Any, config: Any, layouts: Sequence[Layout | None]
    ) -> tuple[tuple[tuple[int, ...], str], ...]:
        return self.plan.of(self.runtime, spec, config, layouts).scratch_memory()


def wrong_knobs(config: Config) -> str | None:
    """Which knobs of a config cannot be, in words."""
    for name, value in vars(config).items():
        if value is not None and (type(value) is not int or value < 1):
            return f"{name}={value!r} is not a positive number"
    if config.threads is not None and (config.threads % 32 or config.threads > 1024):
        return f"threads={config.threads} is not a multiple of 32 up to 1024"
    if config.width is not None and config.width & (config.width - 1):
        return f"width={config.width} is not a power of two"
    return None


class LinearKernel(CudaKernel):
    plan = Linear


class Sequential(LinearKernel):
    operation = "linear_recurrence"
    method = "sequential"
    summary = "every option; lanes over sequences, or along time where that is contiguous"


class Chunked(LinearKernel):
    operation = "linear_recurrence"
    method = "chunked"
    config = ChunkedConfig
    summary = "segments of time at once: for few sequences of many steps"


class Backward(LinearKernel):
    operation = "linear_recurrence_backward"
    method = "sequential"
    summary = "the whole vjp in one pass over time"


class ChunkedBackward(LinearKernel):
    operation = "linear_recurrence_backward"
    method = "chunked"
    config = ChunkedConfig
    summary = "the whole vjp with segments of time at once"


class MatrixKernel(CudaKernel):
    plan = Matrices

    def states(self, problem: Problem) -> int:
        *_, rows, columns = problem.shape
        # A thread reads a row of a matrix in every step, and not one number.
        return problem.rows // (rows * columns) * rows * rows

    def refuses(self, problem: Problem, config: Config) -> str | None:
        if problem.shape[-2] > MOST_ROWS:
            return f"holds states of up to {MOST_ROWS} rows in registers, not of {problem.shape[-2]}"
        return super().refuses(problem, config)


class MatrixSequential(MatrixKernel):
    operation = "matrix_recurrence"
    method = "sequential"
    summary = "every option; n up to 16; a lane per row of a state"


class MatrixChunked(MatrixKernel):
    operation = "matrix_recurrence"
    method = "chunked"
    config = ChunkedConfig
    summary = "n up to 16; segments of time at once: for few sequences of many steps"


class MatrixBackward(MatrixKernel):
    operation = "matrix_recurrence_backward"
    method = "sequential"
    summary = "the whole vjp in one pass over time; n up to 16"


class MatrixChunkedBackward(MatrixKernel):
    operation = "matrix_recurrence_backward"
    method = "chunked"
    config = ChunkedConfig
    summary = "the whole vjp with segments of time at once; n up to 16"
