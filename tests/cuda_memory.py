"""The CUDA kernels of the recurrences on NumPy memory, against the definition."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cuda_emulator import EmulatedRuntime
from host_memory import dtype_of, numbers
from seqpar.dispatch.operation import Abstract, operations
from seqpar.dispatch.problem import Kernel, Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.testing import oracle
from seqpar.testing.oracle import Array
from seqpar_cupy.configs import ChunkedConfig
from seqpar_cupy.kernels import kernels

RUNTIME = EmulatedRuntime()
KERNELS = {(kernel.operation, kernel.method): kernel for kernel in kernels(RUNTIME)}


def kernel_for(operation: str, config: Any) -> Kernel:
    return KERNELS[operation, "chunked" if isinstance(config, ChunkedConfig) else "sequential"]


def aligned(shape: Sequence[int], dtype: Any) -> Array:
    """Memory at a multiple of 16 bytes, as frameworks hand it out, that holds NaN (or large integers)."""
    count = int(np.prod(shape))
    raw = np.full(count * dtype.itemsize + 16, 0xFF, np.uint8)
    start = -raw.ctypes.data % 16
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(tuple(shape))


def run(operation: str, spec: Any, operands: Sequence[Array | None], config: Any) -> tuple[Array, ...]:
    """The raw results of one kernel."""
    kernel = kernel_for(operation, config)
    metas = [None if x is None else Abstract(x.shape, x.dtype.name) for x in operands]
    results = [aligned(shape, dtype_of(dtype)) for shape, dtype in operations[operation].raw(spec, metas)]
    layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in (*operands, *results)]
    scratch = [aligned(shape, dtype_of(dtype)) for shape, dtype in kernel.scratch(spec, config, layouts)]
    launch = kernel.bind(spec, config, layouts)
    launch([0 if x is None else x.ctypes.data for x in (*operands, *results, *scratch)])
    return tuple(results)


def check_walk(
    spec: Walk, config: Any, a: Array, b: Array, h0: Any = None, resets: Any = None
) -> tuple[Array, ...]:
    """The forward kernel against the definition; its results."""
    found = run("linear_recurrence", spec, (a, b, h0, resets), config)
    right = oracle.walk(a, b, h0, resets, **spec._asdict())
    bounds = oracle.error_bound(a, b, h0, resets, roundings=16, **spec._asdict())
    for actual, expected, bound, name in zip(found, right, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
    return found


def check_backward(
    spec: Walk, config: Any, a: Array, b: Array, h0: Any, resets: Any, h: Array, g: Array, g_final: Any = None
) -> tuple[Array, ...]:
    """The backward kernel against the definition; its results."""
    operands = (a, b if spec.convex else None, h0, resets, h, g, g_final)
    found = run("linear_recurrence_backward", spec, operands, config)
    how = {name: value for name, value in spec._asdict().items() if name != "adjoint"}
    # The oracle sums da down to the shape of a: the kernel sums over time alone.
    a = np.broadcast_to(a, found[0].shape).copy()
    right = oracle.backward(a, b, h0, resets, h, g, g_final, **how)
    bounds = oracle.backward_error_bound(a, b, h0, resets, g, g_final, roundings=16, **how)
    for actual, expected, bound, name in zip(found, right, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
    return found


def check_matrix(
    spec: MatrixWalk,
    config: Any,
    A: Array,
    b: Array,
    h0: Any = None,
    resets: Any = None,
    g_final: Any = None,
    backward: bool = True,
) -> None:
    """The matrix kernels, backward as well if there is a backward pass, against the definition."""
    found = run("matrix_recurrence", spec, (A, b, h0, resets), config)
    right = oracle.matrix_walk(A, b, h0, resets, **spec._asdict())
    bounds = oracle.matrix_error_bound(A, b, h0, resets, **spec._asdict())
    for actual, expected, bound, name in zip(found, right, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
    if spec.adjoint or not backward:
        return
    h = found[0]
    g = aligned(h.shape, h.dtype)
    g[...] = numbers(np.random.default_rng(9), h.shape, b.dtype.name)
    found = run("matrix_recurrence_backward", spec, (A, h0, resets, h, g, g_final), config)
    how = {"axis": spec.axis, "reverse": spec.reverse, "transposed": spec.transposed}
    A = np.broadcast_to(A, found[0].shape).copy()
    right = oracle.matrix_backward(A, b, h0, resets, h, g, g_final, **how)
    bounds = oracle.matrix_backward_error_bound(A, b, h0, resets, g, g_final, **how)
    for actual, expected, bound, name in zip(found, right, bounds, ("dA", "db", "dh0"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
