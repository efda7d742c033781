"""Walks over time of an affine recurrence k -> c k + u, whatever c is: step by step, in chunks, in a tree of chunks.

Shared by the recurrences, which say what their coefficients are (`Coefficients`) and lay out what the steps read (`Steps`):

    plain:     h[t] = u[t] if reset[t] else c[t] k + u[t];    k = h[t]
    adjoint:   h[t] = u[t] + k;                               k = 0 if reset[t] else c[t] h[t]

Both are affine in k, so that the parallel methods treat them alike.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, NamedTuple, Protocol, Self

from seqpar.algorithms.arrays import along, filled, in_time_order, state_dtype
from seqpar.algorithms.crossing import Coefficients, Transfer, entering_by_halving, entering_by_loop

Array = Any

__all__ = ["Direction", "Steps", "in_chunks", "in_tree", "starting", "step_by_step"]


class Direction(Protocol):
    """The options of a walk that the steps depend on."""

    def transpose(self) -> Self: ...

    @property
    def reverse(self) -> bool: ...
    @property
    def adjoint(self) -> bool: ...


class Steps(NamedTuple):
    """What the steps read, in the precision of the walk, with time along `axis`; states have `shape` and are kept as `dtype`."""

    c: Array
    u: Array
    resets: Array | None
    shape: tuple[int, ...]
    axis: int
    dtype: Any

    @property
    def length(self) -> int:
        return self.shape[self.axis]


def starting(xp: Any, h0: Array | None, shape: tuple[int, ...], axis: int, like: Array) -> Array:
    """The state that enters the walk, h0 or zeros, in the precision of `like` and with the time axis of size 1."""
    edge = shape[:axis] + (1,) + shape[axis + 1 :]
    if h0 is None:
        return filled(xp, edge, 0.0, like, like.dtype)
    return xp.broadcast_to(xp.expand_dims(xp.astype(h0, like.dtype, copy=False), axis=axis), edge)


def step_by_step(
    xp: Any, kind: Coefficients, walk: Direction, steps: Steps, start: Array
) -> tuple[Array, Array]:
    """The definition: a loop over all steps."""
    states, state = _run(xp, kind, walk, steps, start, range(steps.length))
    return _results(xp, walk, states, state, steps)


def in_chunks(
    xp: Any, kind: Coefficients, walk: Direction, steps: Steps, start: Array, chunk: int | None
) -> tuple[Array, Array]:
    """Chunks of about sqrt(T) steps, all at once: 3 sqrt(T) array steps, each operand read twice.

    All chunks run from a zero state; a loop over chunks carries the true states across; then all chunks run again from those.
    """
    return _chunked(xp, kind, walk, steps, start, chunk or max(1, isqrt(steps.length)), entering_by_loop)


def in_tree(
    xp: Any, kind: Coefficients, walk: Direction, steps: Steps, start: Array, leaf: int
) -> tuple[Array, Array]:
    """Chunks of `leaf` steps whose states are carried across by recursive halving: O(log T) array steps, O(T) work."""
    return _chunked(xp, kind, walk, steps, start, leaf, entering_by_halving)


def _run(
    xp: Any,
    kind: Coefficients,
    walk: Direction,
    steps: Steps,
    k: Array,
    times: range,
    keep: bool = True,
) -> tuple[list[Array], Array]:
    """The definition over `times`, taken in the direction of the walk; the time axis stays with size 1."""
    states = []
    for t in reversed(times) if walk.reverse else times:
        c, u, reset = (along(x, steps.axis, t, t + 1) for x in (steps.c, steps.u, steps.resets))
        if walk.adjoint:
            h = u + k
            k = kind.applied(xp, c, h)
            if reset is not None:
                k = xp.where(reset, xp.zeros_like(k), k)
        else:
            h = kind.applied(xp, c, k) + u
            if reset is not None:
                h = xp.where(reset, u, h)
            k = h
        if keep:
            states.append(xp.astype(h, steps.dtype, copy=False))
    return states, k


def _results(xp: Any, walk: Direction, states: list[Array], k: Array, steps: Steps) -> tuple[Array, Array]:
    # A copy without steps, because no result may be a view of an input.
    final = xp.astype(xp.squeeze(k, axis=steps.axis), state_dtype(xp, steps.dtype), copy=not states)
    if not states:
        return filled(xp, steps.shape, 0.0, k, steps.dtype), final
    return in_time_order(xp, states, steps.axis, walk.reverse), final


def _chunked(
    xp: Any, kind: Coefficients, walk: Direction, steps: Steps, start: Array, chunk: int, entering: Any
) -> tuple[Array, Array]:
    """Local runs from zero, `entering` for the states between chunks, runs again from those; a ragged rest walks last."""
    axis, length = steps.axis, steps.length
    count = length // chunk
    if count < 2 or chunk < 2:
        return step_by_step(xp, kind, walk, steps, start)

    covered = count * chunk
    first, rest = (length - covered, range(length - covered)) if walk.reverse else (0, range(covered, length))
    # Inside the chunks time is two axes: the chunk at `axis`, the step within it at `axis + 1`.
    c, u, resets = (_fold(xp, x, axis, first, count, chunk) for x in (steps.c, steps.u, steps.resets))
    shape = steps.shape[:axis] + (count, chunk) + steps.shape[axis + 1 :]
    folded = Steps(c, u, resets, shape, axis + 1, steps.dtype)
    zero = starting(xp, None, shape, axis + 1, start)
    offset = _run(xp, kind, walk, folded, zero, range(chunk), keep=False)[1]
    dropped = None if resets is None else xp.any(resets, axis=axis + 1, keepdims=True)
    transfer = Transfer(kind.slope_of(xp, c, axis + 1, chunk, walk.reverse), offset, dropped)
    state = entering(xp, kind, transfer, xp.expand_dims(start, axis=axis), axis, count, walk.reverse)
    states, state = _run(xp, kind, walk, folded, state, range(chunk))

    h = in_time_order(xp, states, axis + 1, walk.reverse)
    h = xp.reshape(h, steps.shape[:axis] + (covered,) + steps.shape[axis + 1 :])
    last = 0 if walk.reverse else count - 1
    state = xp.squeeze(along(state, axis, last, last + 1), axis=axis)
    more, state = _run(xp, kind, walk, steps, state, rest)
    return _results(xp, walk, [h, *more], state, steps)


def _fold(xp: Any, x: Array | None, axis: int, first: int, count: int, chunk: int) -> Array | None:
    if x is None or x.shape[axis] == 1:
        return None if x is None else xp.expand_dims(x, axis=axis)
    x = along(x, axis, first, first + count * chunk)
    return xp.reshape(x, x.shape[:axis] + (count, chunk) + x.shape[axis + 1 :])
