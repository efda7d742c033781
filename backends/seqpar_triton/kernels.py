"""The Triton kernels as a choice sees them: what they can run, how they rank, and how they bind to memory."""

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from seqpar.dispatch.geometry import ITEMSIZE, row_major
from seqpar.dispatch.operation import Abstract, operations
from seqpar.dispatch.problem import Kernel, Launch, Layout, Problem, wrong_counts
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_triton.configs import OnePassConfig, WalkConfig
from seqpar_triton.limits import (
    LARGEST_MATRIX,
    MOST_IN_COLUMNS,
    MOST_SEGMENTS,
    MOST_SEQUENCES,
    MOST_WARPS,
    TIMELESS,
)

if TYPE_CHECKING:
    from seqpar_triton.bound import Bound

# Behind the plain algorithms: the interpreter is for tests.
INTERPRETED_RANK = 200.0


@cache
def unavailable(framework: str) -> str | None:
    """Why no array of a framework can have Triton kernels here, in words; None if it can."""
    if find_spec("triton") is None:
        return "Triton is not installed: pip install 'seqpar[triton]'"
    if framework == "jax" and not interpreting() and find_spec("jax_triton") is None:
        return (
            "JAX reaches Triton through jax-triton, which is not installed: pip install 'seqpar[jax-triton]'"
        )
    return None


@cache
def why_not_from_jax() -> str | None:
    """Why jax-triton, which is installed, does not load; None if it does. Takes half a second."""
    from seqpar_triton.jax_calls import imported

    try:
        imported()
    except Exception as error:  # a JAX without GPU support, or versions that do not fit
        return f"jax-triton does not load here: {str(error).partition(chr(10))[0]}"
    return None


def interpreting() -> bool:
    """Will Triton run kernels in its interpreter? Known without importing it."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


class TritonKernel(Kernel):
    """A program of Triton launches over memory that some binding can show."""

    backend = "triton"
    form = "buffers"
    config: ClassVar[type] = OnePassConfig
    xla = ("cuda", "cpu")

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework not in ("torch", "jax"):
            return f"works on memory that PyTorch or JAX holds, not {problem.framework}"
        if problem.device != "cuda" and not (interpreting() and problem.device == "cpu"):
            return f"works on CUDA memory, and the arrays are on {problem.device}"
        if not problem.addressable:
            return f"{problem.framework} shows no memory that it could work on"
        if problem.rows >= MOST_SEQUENCES:
            return f"numbers sequences in 32 bits, and there are {problem.rows}"
        odd = [name for name in problem.dtypes if name is not None and name not in ITEMSIZE]
        if odd:
            return f"has no format for {', '.join(odd)}"
        for name in ("lanes", "warps"):
            count = getattr(config, name)
            if type(count) is int and count & (count - 1):
                return f"{name}={count} is not a power of two"
        if type(config.warps) is int and config.warps > MOST_WARPS:
            return f"warps={config.warps} is more than the {MOST_WARPS} of one program"
        segments = getattr(config, "segments", None)
        if type(segments) is int and segments > MOST_SEGMENTS:
            return f"segments={segments} is more than the {MOST_SEGMENTS} that one launch can have"
        return wrong_counts(config, what="positive whole number")

    def missing(self, problem: Problem) -> str | None:
        why = unavailable(problem.framework)
        if why is not None or problem.device != "cuda":
            return why
        if interpreting():
            return "Triton interprets kernels on host memory here: unset TRITON_INTERPRET"
        if not has_device():
            return "there is no GPU here whose properties could be read"
        return why_not_from_jax() if problem.framework == "jax" else None

    def rank(self, problem: Problem) -> float:
        # A choice ranks what it cannot have, too.
        if problem.device != "cuda" or self.refuses(problem, self.config()) is not None:
            return INTERPRETED_RANK
        splits = self.config is WalkConfig
        return 9.0 if splits == pays_to_split(problem) else 11.0

    def programs(self, spec: Any, config: OnePassConfig, layouts: Sequence[Layout | None]) -> "Bound":
        """The launches for memory laid out so."""
        from seqpar_triton.bound import Bound

        operation = operations[self.operation]
        names = (*operation.operands, *operation.results)
        given = {n: x for n, x in zip(names, layouts, strict=True) if x is not None}
        return Bound(self.operation, spec, config, names, given)

    def scratch(
        self, spec: Any, config: OnePassConfig, layouts: Sequence[Layout | None]
    ) -> tuple[tuple[tuple[int, ...], str], ...]:
        return tuple(self.programs(spec, config, layouts).scratch.values())

    def bind(self, spec: Any, config: OnePassConfig, layouts: Sequence[Layout | None]) -> Launch:
        bound = self.programs(spec, config, layouts)
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
        from seqpar_triton.jax_arrays import function_of

        return function_of(self, spec, config, operands, results)


def has_device() -> bool:
    """Is there something to launch on: a GPU, or the interpreter?"""
    return interpreting() or _has_gpu()


@cache
def _has_gpu() -> bool:
    try:
        from seqpar_triton.device import current_device

        current_device()
    except Exception:  # Triton raises whatever the driver at hand does
        return False
    return True


def pays_to_split(problem: Problem) -> bool:
    """Does cutting time into segments look faster to the plan? Asked for row-major operands that broadcast nowhere."""
    from seqpar_triton.bound import Bound
    from seqpar_triton.device import NOMINAL, current_device

    operation = operations[problem.operation]
    matrix, time_last = problem.operation.startswith("matrix"), problem.layout == "time"
    if matrix:
        shape, axis = problem.shape, problem.axis
    elif time_last:
        shape, axis = (problem.rows, problem.time), 1
    else:
        shape, axis = (problem.outer, problem.time, problem.inner), 1
    metas = [
        None if dtype is None else Abstract(_shape_of(name, matrix, shape, axis, problem.options), dtype)
        for name, dtype in zip(operation.operands, problem.dtypes, strict=True)
    ]
    spec: Any
    if matrix:
        spec = MatrixWalk(axis, adjoint="adjoint" in problem.options)
    else:
        gate = next((word[5:] for word in problem.options if word.startswith("gate=")), "value")
        spec = Walk(axis, gate=gate, convex="convex" in problem.options, adjoint="adjoint" in problem.options)
    memory = (*metas, *operation.raw(spec, metas))
    names = (*operation.operands, *operation.results)
    layouts = {name: row_major(*x) for name, x in zip(names, memory, strict=True) if x is not None}
    device = current_device() if has_device() else NOMINAL
    return Bound(problem.operation, spec, WalkConfig(), names, layouts, device).segments > 1


def _shape_of(
    name: str, matrix: bool, shape: tuple[int, ...], axis: int, options: Sequence[str]
) -> tuple[int, ...]:
    """The shape of an operand that broadcasts nowhere but, if it is constant, over time."""
    if name in TIMELESS:
        return shape[:axis] + shape[axis + 1 :]
    if name == "A":
        steps = (1,) if "constant" in options else shape[axis : axis + 1]
        return (*shape[:axis], *steps, *shape[axis + 1 : -2], shape[-2], shape[-2])
    if matrix and name == "resets":
        return (*shape[:-2], 1, 1)
    return shape


class MatrixKernel(TritonKernel):
    """A kernel of the matrix recurrence: states of at most 16 rows."""

    def refuses(self, problem: Problem, config: OnePassConfig) -> str | None:
        rows, columns = problem.shape[-2:]
        if rows > LARGEST_MATRIX:
            return f"keeps states of at most {LARGEST_MATRIX} rows in registers, and these have {rows}"
        padded = (1 << max(0, rows - 1).bit_length()) * (1 << max(0, columns - 1).bit_length())
        if problem.operation.endswith("_backward") and padded > MOST_IN_COLUMNS:
            return f"sums a gradient over at most {MOST_IN_COLUMNS} numbers of a state, and these have {rows} x {columns}"
        return super().refuses(problem, config)


class Sequential(TritonKernel):
    operation = "linear_recurrence"
    method = "sequential"
    summary = "every option, in one pass: lanes over sequences, or over time where that lies contiguous"


class Chunked(TritonKernel):
    operation = "linear_recurrence"
    method = "chunked"
    config = WalkConfig
    summary = "the same with time in segments, in a fixed order: for few long sequences"


class Backward(TritonKernel):
    operation = "linear_recurrence_backward"
    method = "sequential"
    summary = "the whole vjp in one pass over time"


class ChunkedBackward(TritonKernel):
    operation = "linear_recurrence_backward"
    method = "chunked"
    config = WalkConfig
    summary = "the whole vjp with time in segments"


class MatrixSequential(MatrixKernel):
    operation = "matrix_recurrence"
    method = "sequential"
    summary = "every option, n up to 16, in one pass; states in registers"


class MatrixChunked(MatrixKernel):
    operation = "matrix_recurrence"
    method = "chunked"
    config = WalkConfig
    summary = "the same with time in segments, in a fixed order"


class MatrixBackward(MatrixKernel):
    operation = "matrix_recurrence_backward"
    method = "sequential"
    summary = "the whole vjp, n up to 16, in one pass over time"


class MatrixChunkedBackward(MatrixKernel):
    operation = "matrix_recurrence_backward"
    method = "chunked"
    config = WalkConfig
    summary = "the whole vjp, n up to 16, with time in segments"


KERNELS: tuple[Kernel, ...] = (
    Sequential(),
    Chunked(),
    Backward(),
    ChunkedBackward(),
    MatrixSequential(),
    MatrixChunked(),
    MatrixBackward(),
    MatrixChunkedBackward(),
)
