"""NumPy arrays as the host kernels see them, and random problems of every kind."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqpar import validation
from seqpar.dispatch.problem import Kernel, Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.testing.oracle import Array
from seqpar_host.kernels import Backward, Sequential


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def state_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(validation.state_of(dtype.name))


def launch(
    kernel: Kernel,
    spec: Walk,
    arrays: Sequence[Array | None],
    threads: int | None = None,
    config: Any = None,
) -> None:
    """Run a kernel on operands and results, the way that every call takes."""
    layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in arrays]
    bound = kernel.bind(spec, config or kernel.config(), layouts)
    bound([0 if x is None else x.ctypes.data for x in arrays], threads)


def walk(
    spec: Walk, a: Array, b: Array, h0: Any = None, resets: Any = None, threads: int | None = None
) -> Any:
    """(h, final), into memory that holds NaN before."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    h = np.full(shape, np.nan, b.dtype)
    final = np.full(without(shape, spec.axis), np.nan, state_of(b.dtype))
    launch(Sequential(), spec, [a, b, h0, resets, h, final], threads)
    return h, final


def backward(
    spec: Walk,
    a: Array,
    b: Any,
    h0: Any,
    resets: Any,
    h: Array,
    g: Array,
    g_final: Any,
    threads: int | None = None,
) -> Any:
    """(da, db, dh0); da is summed over time where a has one step for all."""
    shape, axis = h.shape, spec.axis
    summed = a.shape[axis] == 1 and shape[axis] != 1
    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    da_shape = (*shape[:axis], 1, *shape[axis + 1 :]) if summed else shape
    da = np.full(da_shape, np.nan, wide if summed else a.dtype)
    db = np.full(shape, np.nan, h.dtype)
    dh0 = np.full(without(shape, axis), np.nan, state_of(h.dtype))
    operands = [a, b if spec.convex else None, h0, resets, h, g, g_final]
    launch(Backward(), spec, [*operands, da, db, dh0], threads)
    return da, db, dh0


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    x = random.standard_normal(shape)
    if dtype.startswith("complex"):
        x = x + 1j * random.standard_normal(shape)
    return np.asarray(x).astype(dtype_of(dtype))


def coefficients(random: np.random.Generator, shape: tuple[int, ...], dtype: str, gate: str) -> Array:
    """Such that the walk forgets: |c| < 1."""
    x = numbers(random, shape, "complex128" if dtype.startswith("complex") else "float64")
    if gate == "value":
        x = x / (np.abs(x) + 0.3)
    elif gate == "log":
        x = x - np.abs(x.real) - x.real
    return np.asarray(x).astype(dtype_of(dtype))
