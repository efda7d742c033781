"""Linear recurrences against the array API: one walk over time by three methods, and its fused backward pass.

Called by the public operation where no faster kernel serves, by the bindings, and by tests. Operands are canonical: a, b and
resets have the rank of the result and broadcast against each other; h0 lacks the time axis. With c the coefficient that `a`
stands for, u = b (or (1 - c) b under convex), and k the state carried along the walk, starting as h0 or 0:

    plain:     h[t] = u[t] if reset[t] else c[t] k + u[t];    k = h[t]
    adjoint:   h[t] = b[t] + k;                               k = 0 if reset[t] else c[t] h[t]

The result is (h, k at the end). The adjoint walk in the other direction is the linear transpose of the plain one, never
conjugated. Both are affine in k, so the parallel methods treat them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any, NamedTuple, Protocol, TypeVar

from array_api_compat import device

from seqpar.algorithms.arrays import (
    along,
    broadcast_shape,
    filled,
    in_time_order,
    previous,
    state_dtype,
    sum_to,
)
from seqpar.algorithms.gates import coefficient, coefficient_derivative, complement
from seqpar.algorithms.transfer import Transfer, entering_by_halving, entering_by_loop, slope_of

Array = Any

__all__ = [
    "backward",
    "chunked",
    "coefficient",
    "coefficient_derivative",
    "complement",
    "previous",
    "sequential",
    "state_dtype",
    "sum_to",
    "tree",
]


class WalkOptions(Protocol):
    """The static options of one walk."""

    @property
    def axis(self) -> int: ...
    @property
    def reverse(self) -> bool: ...
    @property
    def gate(self) -> str: ...
    @property
    def convex(self) -> bool: ...
    @property
    def adjoint(self) -> bool: ...


W = TypeVar("W", bound=WalkOptions)


def sequential(
    xp: Any, walk: WalkOptions, a: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Array, Array]:
    """The definition: a loop over all steps. Non-finite values travel exactly as the formula carries them."""
    steps, state = _operands(xp, walk, a, b, h0, resets)
    states, state = _run(xp, walk, steps, state, range(steps.length), b.dtype)
    return _results(xp, walk, states, state, steps, b)


def chunked(
    xp: Any,
    walk: WalkOptions,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    chunk: int | None = None,
) -> tuple[Array, Array]:
    """Chunks of about sqrt(T) steps, all at once: 3 sqrt(T) array steps, each operand read twice.

    All chunks run from a zero state; a loop over chunks carries the true states across; then all chunks run again from those.
    """
    length = broadcast_shape(a.shape, b.shape)[walk.axis]
    return _in_chunks(xp, walk, a, b, h0, resets, chunk or max(1, isqrt(length)), entering_by_loop)


def tree(
    xp: Any,
    walk: WalkOptions,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    leaf: int = 8,
) -> tuple[Array, Array]:
    """Chunks of `leaf` steps whose states are carried across by recursive halving: O(log T) array steps, O(T) work."""
    return _in_chunks(xp, walk, a, b, h0, resets, leaf, entering_by_halving)


def backward(
    xp: Any,
    walk: W,
    a: Array,
    b: Array | None,
    h0: Array | None,
    resets: Array | None,
    h: Array,
    g: Array,
    g_final: Array | None,
    solve: Callable[[W, Array, Array, Array | None, Array | None], tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """(da, db, dh0) of a plain walk with result h, from the cotangents of h and of the final state: one adjoint walk.

        lam = the adjoint walk over g, from g_final, against the direction of the plain walk; dh0 is where it ends
        dc  = (0 if reset else lam * h_before) - (lam * b under convex);   da = dc * dc/da;   db = lam or (1 - c) lam

    `da` has the shape of `a`; `db` the full shape, for the caller to reduce. `b` is read under convex only. The walk over
    half precision cotangents runs in float32, so that `da` loses nothing to rounded intermediate values.
    """
    state = state_dtype(xp, h.dtype)
    against = type(walk)(  # type: ignore[call-arg]
        axis=walk.axis, reverse=not walk.reverse, gate=walk.gate, convex=False, adjoint=True
    )
    lam, dh0 = solve(against, a, xp.astype(g, state, copy=False), g_final, resets)
    dc = lam * previous(xp, h, h0, walk.axis, walk.reverse)
    if resets is not None:
        dc = xp.where(resets, xp.zeros_like(dc), dc)
    wide = xp.astype(a, state, copy=False)
    db = lam
    if walk.convex:
        dc = dc - lam * xp.astype(b, state, copy=False)
        db = complement(xp, wide, walk.gate) * lam
    da = sum_to(xp, dc, a.shape)
    if walk.gate != "value":
        da = da * coefficient_derivative(xp, wide, walk.gate)
    return xp.astype(da, a.dtype, copy=False), xp.astype(db, h.dtype, copy=False), dh0


class _Steps(NamedTuple):
    """What the steps read, in the precision of the state: c, u, resets with time along `axis`."""

    c: Array
    u: Array
    resets: Array | None
    shape: tuple[int, ...]
    axis: int

    @property
    def length(self) -> int:
        return self.shape[self.axis]


def _operands(
    xp: Any, walk: WalkOptions, a: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[_Steps, Array]:
    state = state_dtype(xp, b.dtype)
    carry = _carry_dtype(xp, state, walk.gate, b)
    shape = broadcast_shape(a.shape, b.shape)
    edge = shape[: walk.axis] + (1,) + shape[walk.axis + 1 :]
    a = xp.astype(xp.astype(a, state, copy=False), carry, copy=False)
    u = xp.astype(b, carry, copy=False)
    if walk.convex:
        u = complement(xp, a, walk.gate) * u
    if h0 is None:
        start = filled(xp, edge, 0.0, b, carry)
    else:
        start = xp.broadcast_to(xp.expand_dims(xp.astype(h0, carry, copy=False), axis=walk.axis), edge)
    return _Steps(coefficient(xp, a, walk.gate), u, resets, shape, walk.axis), start


def _carry_dtype(xp: Any, state: Any, gate: str, like: Array) -> Any:
    """The precision of the walk: the state's, and double that for gates, whose point is a memory of a million steps.

    Below 1 float32 has nothing between 1 and 1 - 6e-8. A coefficient of exp(-1e-7) rounded to it is off by 2 % of what it
    forgets, which at 131,072 steps is an error of 1e-3.
    """
    if gate == "value" or state not in (xp.float32, xp.complex64):
        return state
    wide = "float64" if state == xp.float32 else "complex128"
    return xp.__array_namespace_info__().dtypes(device=device(like)).get(wide, state)


def _run(
    xp: Any, walk: WalkOptions, steps: _Steps, k: Array, times_: range, dtype: Any, keep: bool = True
) -> tuple[list[Array], Array]:
    """The definition over `times_`, taken in the direction of the walk; the time axis stays with size 1."""
    states = []
    for t in reversed(times_) if walk.reverse else times_:
        c, u, reset = (along(x, steps.axis, t, t + 1) for x in (steps.c, steps.u, steps.resets))
        if walk.adjoint:
            h = u + k
            k = c * h
            if reset is not None:
                k = xp.where(reset, xp.zeros_like(k), k)
        else:
            h = c * k + u
            if reset is not None:
                h = xp.where(reset, u, h)
            k = h
        if keep:
            states.append(xp.astype(h, dtype, copy=False))
    return states, k


def _results(
    xp: Any, walk: WalkOptions, states: list[Array], k: Array, steps: _Steps, b: Array
) -> tuple[Array, Array]:
    # A copy without steps, because no result may be a view of an input.
    state = state_dtype(xp, b.dtype)
    final = xp.astype(xp.squeeze(k, axis=steps.axis), state, copy=not states)
    if not states:
        return filled(xp, steps.shape, 0.0, b, b.dtype), final
    return in_time_order(xp, states, steps.axis, walk.reverse), final


def _in_chunks(
    xp: Any,
    walk: WalkOptions,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    chunk: int,
    entering: Callable[[Any, Transfer, Array, int, int, bool], Array],
) -> tuple[Array, Array]:
    """Local runs from zero, `entering` for the states between chunks, runs again from those; a ragged rest walks last."""
    steps, start = _operands(xp, walk, a, b, h0, resets)
    axis, length = steps.axis, steps.length
    count = length // chunk
    if count < 2 or chunk < 2:
        states, state = _run(xp, walk, steps, start, range(length), b.dtype)
        return _results(xp, walk, states, state, steps, b)

    covered = count * chunk
    first, rest = (length - covered, range(length - covered)) if walk.reverse else (0, range(covered, length))
    # Inside the chunks time is two axes: the chunk at `axis`, the step within it at `axis + 1`.
    folded_shape = steps.shape[:axis] + (count, chunk) + steps.shape[axis + 1 :]
    c, u, own_resets = (_fold(xp, x, axis, first, count, chunk) for x in (steps.c, steps.u, steps.resets))
    folded = _Steps(c, u, own_resets, folded_shape, axis + 1)
    zero = filled(xp, folded_shape[: axis + 1] + (1,) + folded_shape[axis + 2 :], 0.0, b, start.dtype)
    offset = _run(xp, walk, folded, zero, range(chunk), b.dtype, keep=False)[1]
    transfer = Transfer(slope_of(xp, folded.c, axis + 1, chunk, walk.reverse), offset, _dropped(xp, folded))
    state = entering(xp, transfer, xp.expand_dims(start, axis=axis), axis, count, walk.reverse)
    states, state = _run(xp, walk, folded, state, range(chunk), b.dtype)

    h = in_time_order(xp, states, axis + 1, walk.reverse)
    h = xp.reshape(h, steps.shape[:axis] + (covered,) + steps.shape[axis + 1 :])
    last = 0 if walk.reverse else count - 1
    state = xp.squeeze(along(state, axis, last, last + 1), axis=axis)
    more, state = _run(xp, walk, steps, state, rest, b.dtype)
    return _results(xp, walk, [h, *more], state, steps, b)


def _fold(xp: Any, x: Array | None, axis: int, first: int, count: int, chunk: int) -> Array | None:
    if x is None or x.shape[axis] == 1:
        return None if x is None else xp.expand_dims(x, axis=axis)
    x = along(x, axis, first, first + count * chunk)
    return xp.reshape(x, x.shape[:axis] + (count, chunk) + x.shape[axis + 1 :])


def _dropped(xp: Any, steps: _Steps) -> Array | None:
    return None if steps.resets is None else xp.any(steps.resets, axis=steps.axis, keepdims=True)
