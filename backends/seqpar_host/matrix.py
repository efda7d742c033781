"""The kernels of the matrix recurrence: which body is emitted for which specialisation."""

from typing import Any

from numba import types

from seqpar_host.job import Job, MatrixSpecialisation
from seqpar_host.matrix_backward import ColumnsBackward, VectorBackward
from seqpar_host.matrix_body import MatrixBody
from seqpar_host.matrix_forward import ColumnsForward, VectorForward
from seqpar_host.matrix_loops import ColumnLoopsForward, RowLoopsBackward, RowLoopsForward
from seqpar_host.simd import I64, Int
from seqpar_host.untyped import intrinsic

IN_REGISTERS: dict[tuple[str, str], type[MatrixBody]] = {
    ("matrix", "vector"): VectorForward,
    ("matrix", "columns"): ColumnsForward,
    ("matrix_backward", "vector"): VectorBackward,
    ("matrix_backward", "columns"): ColumnsBackward,
}
IN_MEMORY: dict[tuple[str, str], type[MatrixBody]] = {
    ("matrix", "vector"): RowLoopsForward,
    ("matrix", "columns"): ColumnLoopsForward,
    ("matrix_backward", "vector"): RowLoopsBackward,
}


def kernel(job: int) -> int:
    """Compiled once per type of `job`."""
    return _emit(job)


@intrinsic
def _emit(typing: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        of: MatrixSpecialisation = signature.args[0].specialisation
        bodies = IN_REGISTERS if of.size else IN_MEMORY
        bodies[of.kernel, of.mode](builder, of, Int(builder, args[0])).walk()
        return I64(0)

    if not isinstance(job, Job):
        return None
    return types.int64(job), generate
