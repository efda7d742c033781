"""The CUDA kernels as the run-time compiler makes them for A100 and H100: no spills, copies that run on their own, wide loads."""

from collections.abc import Sequence
from typing import Any

import pytest

from cuda_compiler import Compiled, compiled
from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import Abstract, operations
from seqpar.dispatch.problem import Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.testing.examples import Shape
from seqpar.validation import state_of
from seqpar_cupy import ChunkedConfig, SequentialConfig
from seqpar_cupy.linear_plan import Linear
from seqpar_cupy.matrix_plan import Matrices

SEQUENTIAL, CHUNKED = SequentialConfig(), ChunkedConfig(segments=4)
DTYPES = ["bfloat16", "float32", "float64", "complex64", "complex128"]
FEW, MANY = (8, 4096, 1536), (64, 1024, 4096)


class Sources:
    """A device that keeps sources instead of compiling them."""

    device = "cuda"

    def __init__(self) -> None:
        self.found: list[str] = []

    def multiprocessors(self) -> int:
        return 132

    def function(self, source: str) -> Any:
        self.found.append(source)


def linear(
    shape: Shape, dtype: str, config: Any, backward: bool = False, resets: bool = False, **flags: Any
) -> list[str]:
    """The sources of all kernels of one call."""
    spec = Walk(flags.pop("axis", 1), **flags)
    full, runtime = Abstract(shape, dtype), Sources()
    edge = Abstract(shape[: spec.axis] + shape[spec.axis + 1 :], state_of(dtype))
    mask = (
        Abstract((*shape[:-1], shape[-1] if spec.axis == len(shape) - 1 else 1), "bool") if resets else None
    )
    operands: Sequence[Any] = (full, full, edge, mask)
    if backward:
        operands = (full, full if spec.convex else None, edge, mask, full, full, edge)
    raw = operations["linear_recurrence_backward" if backward else "linear_recurrence"].raw(spec, operands)
    Linear.of(runtime, spec, config, layouts((*operands, *raw))).run()
    return runtime.found


def matrix(n: int, k: int, dtype: str, backward: bool = False, constant: bool = False) -> list[str]:
    """The sources of all kernels of one call with time in segments."""
    spec, runtime = MatrixWalk(1), Sources()
    A, b = Abstract((64, 1 if constant else 4096, n, n), dtype), Abstract((64, 4096, n, k), dtype)
    edge, mask = Abstract((64, n, k), state_of(dtype)), Abstract((64, 4096, 1, 1), "bool")
    operands = (A, edge, mask, b, b, edge) if backward else (A, b, edge, mask)
    raw = operations["matrix_recurrence_backward" if backward else "matrix_recurrence"].raw(spec, operands)
    Matrices.of(runtime, spec, CHUNKED, layouts((*operands, *raw))).run()
    return runtime.found


def layouts(metas: Sequence[Abstract | None]) -> list[Layout | None]:
    return [None if x is None else row_major(*x) for x in metas]


def checked(source: str, architecture: int) -> Compiled:
    """A kernel that keeps everything in registers."""
    found = compiled(source, architecture)
    assert found.spills == 0, f"{found.spills} bytes are spilled with {found.registers} registers"
    return found


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("architecture", "dtype"), [*((90, dtype) for dtype in DTYPES), (80, "float16")])
def test_walks_copy_ahead_and_do_not_spill(architecture: int, dtype: str, backward: bool) -> None:
    if dtype in ("bfloat16", "complex128"):  # one number per copy, where few sequences leave it at that
        for source in linear(FEW, dtype, CHUNKED, backward):
            assert checked(source, architecture).count(r"cp\.async\.c[ag]") >= 16
    for source in linear(MANY, dtype, SEQUENTIAL, backward):
        found = checked(source, architecture)
        operand = 8 if dtype.endswith("16") else 16
        assert found.count(rf"cp\.async\.c[ag]\.shared\.global \[\S+\], \[\S+\], {operand};") >= 16
        assert found.count(rf"st\.global\.v[24]\.[bfu]{4 * operand // 8}") or found.count(
            r"st\.global\.v[24]"
        )


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("architecture", "dtype"), [*((90, dtype) for dtype in DTYPES), (80, "float32")])
def test_rows_load_and_store_vectors_and_do_not_spill(architecture: int, dtype: str, backward: bool) -> None:
    *reduced, walked = linear((8, 512, 65536), dtype, CHUNKED, backward, axis=2, reverse=backward)
    for source in reduced:
        assert checked(source, architecture).count(r"ld\.global\.nc\.v4") >= 4
    found = checked(walked, architecture)
    assert found.count(r"ld\.global\.nc\.v4") >= 4
    assert found.count(r"st\.global\.v4") >= (2 if backward else 1)


@pytest.mark.parametrize(("gate", "dtype"), [("log", "bfloat16"), ("logit", "float32")])
@pytest.mark.parametrize("backward", [False, True])
def test_gates_and_resets_do_not_spill(gate: str, dtype: str, backward: bool) -> None:
    for axis in (1, 2):
        for source in linear(FEW, dtype, CHUNKED, backward, resets=True, axis=axis, gate=gate, convex=True):
            checked(source, 90)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4, 16])
def test_matrices_of_every_size_stay_in_registers(n: int, backward: bool) -> None:
    *reduced, walked = matrix(n, 1, "float32", backward)
    for source in reduced:
        checked(source, 90)
    found = checked(walked, 90)
    assert found.stack == 0
    # Rows of 8 bytes or of 16: read at once in the forward pass, written at once in the backward pass.
    if n % 4 == 0 or n == 2:
        assert (
            found.count(rf"{'st' if backward else 'ld'}\.global(\.nc)?\.v{4 if n % 4 == 0 else 2}\.b32") >= 1
        )


@pytest.mark.parametrize(("dtype", "k"), [("bfloat16", 4), ("complex64", 1), ("complex128", 1)])
def test_matrices_of_every_format_stay_in_registers(dtype: str, k: int) -> None:
    for source in (
        *matrix(16, k, dtype),
        *matrix(16, k, dtype, True),
        *matrix(16, k, dtype, True, constant=True),
    ):
        checked(source, 90)
    checked(matrix(4, k, dtype)[-1], 80)
