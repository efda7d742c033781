"""Small array functions that the standard lacks and several algorithms need: slices along one axis, shapes, sums, precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from array_api_compat import device

Array = Any

__all__ = [
    "along",
    "broadcast_shape",
    "double_of",
    "filled",
    "in_time_order",
    "previous",
    "read_only",
    "state_dtype",
    "sum_to",
]


def state_dtype(xp: Any, dtype: Any) -> Any:
    """The precision in which a state is carried: float32 for the half types, the type itself otherwise."""
    return next((kind for kind in (xp.float64, xp.complex64, xp.complex128) if _is(dtype, kind)), xp.float32)


def double_of(xp: Any, dtype: Any, like: Array) -> Any:
    """Double precision for a single, where the device of `like` has it; else the type itself."""
    wide = {"float64": xp.float32, "complex128": xp.complex64}
    have = xp.__array_namespace_info__().dtypes(device=device(like))
    return next((have[name] for name, single in wide.items() if _is(dtype, single) and name in have), dtype)


def _is(dtype: Any, kind: Any) -> bool:
    """Is it that dtype, in whichever byte order? NumPy's `isdtype` knows byte orders, and refuses bfloat16."""
    native = dtype.newbyteorder("=") if hasattr(dtype, "newbyteorder") else dtype
    return bool(native == kind)


def broadcast_shape(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The common shape of two shapes of equal rank."""
    return tuple(n if m == 1 else m for m, n in zip(first, second, strict=True))


def along(x: Array, axis: int, start: int, stop: int, step: int = 1) -> Array:
    """x[start:stop:step] along one axis; an axis of size 1 stands for all its repetitions and stays as it is."""
    if x is None or x.shape[axis] == 1:
        return x
    return x[(slice(None),) * axis + (slice(start, stop, step), ...)]


def in_time_order(xp: Any, walked: list[Array], axis: int, reverse: bool) -> Array:
    """One array from pieces collected in the order of the walk."""
    return xp.concat(walked[::-1] if reverse else walked, axis=axis)


def filled(xp: Any, shape: tuple[int, ...], value: float, like: Array, dtype: Any) -> Array:
    """A constant array on the device of `like`."""
    return xp.full(shape, value, dtype=dtype, device=device(like))


def previous(xp: Any, h: Array, h0: Array | None, axis: int, reverse: bool) -> Array:
    """The state that entered each step: h shifted by one step, h0 (or 0) at the start, in the precision of the state."""
    steps = h.shape[axis]
    h = xp.astype(h, state_dtype(xp, h.dtype), copy=False)
    if steps == 0:
        return h
    edge = h.shape[:axis] + (1,) + h.shape[axis + 1 :]
    if h0 is None:
        first = filled(xp, edge, 0.0, h, h.dtype)
    else:
        first = xp.broadcast_to(xp.expand_dims(xp.astype(h0, h.dtype, copy=False), axis=axis), edge)
    if steps == 1:
        return xp.astype(first, h.dtype, copy=True)
    later = along(h, axis, 1, steps) if reverse else along(h, axis, 0, steps - 1)
    return in_time_order(xp, [first, later], axis, reverse)


def sum_to(xp: Any, x: Array, shape: Sequence[int]) -> Array:
    """The transpose of broadcasting: sum `x` over the axes along which an operand of `shape` was repeated."""
    extra = len(x.shape) - len(shape)
    own = (1,) * extra + tuple(shape)
    repeated = tuple(i for i, (m, n) in enumerate(zip(own, x.shape, strict=True)) if m == 1 and n != 1)
    if repeated:
        wide = xp.astype(x, state_dtype(xp, x.dtype), copy=False)
        x = xp.astype(xp.sum(wide, axis=repeated, keepdims=True), x.dtype, copy=False)
    return xp.reshape(x, tuple(shape)) if extra else x


def read_only(x: Array) -> Array:
    """A view that a user's function cannot write through, where the library has such views (NumPy)."""
    if getattr(getattr(x, "flags", None), "writeable", False):
        x = x[...]
        x.flags.writeable = False
    return x
