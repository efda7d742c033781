"""The host kernels of the matrix recurrence on raw memory, and what they are compared with."""

from typing import Any

import numpy as np

from host_memory import launch, numbers, state_of
from seqpar.dispatch.operation import Abstract
from seqpar.matrix_recurrence_operation import BACKWARD, MatrixWalk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar.testing.oracle import Array
from seqpar_host.kernels import MatrixBackward, MatrixSequential


def walk(
    spec: MatrixWalk, A: Array, b: Array, h0: Any = None, resets: Any = None, threads: int | None = None
) -> Any:
    """(h, final), into memory that holds NaN before."""
    shape = (*np.broadcast_shapes(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    h = np.full(shape, np.nan, b.dtype)
    final = np.full(without(shape, spec.axis), np.nan, state_of(b.dtype))
    launch(MatrixSequential(), spec, [A, b, h0, resets, h, final], threads)
    return h, final


def backward(
    spec: MatrixWalk,
    A: Array,
    h0: Any,
    resets: Any,
    h: Array,
    g: Array,
    g_final: Any = None,
    threads: int | None = None,
) -> Any:
    """(dA, db, dh0) as a kernel writes them: dA is summed over time alone."""
    operands = [A, h0, resets, h, g, g_final]
    metas = [None if x is None else Abstract(x.shape, x.dtype.name) for x in operands]
    # NumPy knows bfloat16 by the dtype of the arrays alone.
    known = {x.dtype.name: x.dtype for x in operands if x is not None}
    results = [
        np.full(shape, np.nan, known.get(dtype, np.dtype(dtype) if dtype != "bfloat16" else None))
        for shape, dtype in BACKWARD.raw(spec, metas)
    ]
    launch(MatrixBackward(), spec, [*operands, *results], threads)
    return tuple(results)


def matrices(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Random ones that walks neither grow nor vanish by."""
    x = numbers(random, shape, "complex128" if dtype.startswith("complex") else "float64")
    return np.asarray(x / (1.1 * np.sqrt(shape[-1]))).astype(numbers(random, (), dtype).dtype)


def check_walk(spec: MatrixWalk, A: Array, b: Array, h0: Any = None, resets: Any = None) -> Array:
    """The kernel against the definition; its states."""
    found = walk(spec, A, b, h0, resets)
    right = oracle.matrix_walk(A, b, h0, resets, **spec._asdict())
    bounds = oracle.matrix_error_bound(A, b, h0, resets, **spec._asdict())
    for actual, expected, bound, name in zip(found, right, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
    return found[0]


def check_backward(
    spec: MatrixWalk, A: Array, b: Array, h0: Any, resets: Any, h: Array, g: Array, g_final: Any = None
) -> None:
    """The kernel against the definition."""
    how = {"axis": spec.axis, "reverse": spec.reverse, "transposed": spec.transposed}
    found = backward(spec, A, h0, resets, h, g, g_final)
    # The oracle sums dA down to A's shape: the kernel sums over time alone.
    A = np.broadcast_to(A, found[0].shape).copy()
    right = oracle.matrix_backward(A, b, h0, resets, h, g, g_final, **how)
    bounds = oracle.matrix_backward_error_bound(A, b, h0, resets, g, g_final, **how)
    for actual, expected, bound, name in zip(found, right, bounds, ("dA", "db", "dh0"), strict=True):
        oracle.assert_within(actual, expected, bound, name)


def check(
    spec: MatrixWalk,
    A: Array,
    b: Array,
    h0: Any = None,
    resets: Any = None,
    g: Any = None,
    g_final: Any = None,
) -> None:
    """Both kernels against the definition."""
    h = check_walk(spec, A, b, h0, resets)
    if not spec.adjoint:
        random = np.random.default_rng(9)
        g = numbers(random, h.shape, b.dtype.name) if g is None else g
        check_backward(spec, A, b, h0, resets, h, g, g_final)
