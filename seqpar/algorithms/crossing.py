"""How states cross many chunks of an affine recurrence k -> c k + u, whatever c is: a number or a matrix.

A chunk maps the state k that enters it to slope k + offset, or to offset alone if it holds a reset. The offset is where a run
from zero ends; the slope, a product of coefficients, is kept by each kind of coefficient in a form that cannot overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import in_time_order
from seqpar.algorithms.pairs import pairs, part

Array = Any

__all__ = ["Coefficients", "Transfer", "entering_by_halving", "entering_by_loop"]


class Transfer(NamedTuple):
    """k -> offset if dropped else slope k + offset, one per chunk along an axis; a slope of size 1 serves all chunks."""

    slope: Any
    offset: Array
    dropped: Array | None


class Coefficients(NamedTuple):
    """What a kind of coefficient does. A passage is a transfer made ready for use: a nested tuple of arrays."""

    applied: Callable[[Any, Array, Array], Array]
    """(xp, c, k) -> c k, as the definition has it."""
    slope_of: Callable[[Any, Array, int, int, bool], Any]
    """(xp, c, axis, count, reverse) -> the slope of `count` steps along an axis, which stays with size 1."""
    joined: Callable[[Any, Any, Any], Any]
    """(xp, first, second) -> the slope of two chunks in the order of the walk."""
    passage_of: Callable[[Any, Transfer], Any]
    carried: Callable[[Any, Array, Any], Array]
    """(xp, k, passage) -> the state after the chunk."""


def entering_by_loop(
    xp: Any, kind: Coefficients, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The states entering `count` chunks along `axis`, one chunk after the other."""
    passage = kind.passage_of(xp, transfer)
    states = [start]
    for p in range(count - 1, 0, -1) if reverse else range(count - 1):
        states.append(kind.carried(xp, states[-1], part(passage, axis, p, p + 1)))
    return in_time_order(xp, states, axis, reverse)


def entering_by_halving(
    xp: Any, kind: Coefficients, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The same by recursion: join the chunks in pairs, find the states entering the pairs, then those entering the seconds."""
    if count == 1:
        return start
    half = count // 2
    first, second, _ = pairs(transfer, axis, count, reverse)
    into_second = kind.passage_of(xp, second)
    pair = Transfer(
        kind.joined(xp, first.slope, second.slope),
        kind.carried(xp, first.offset, into_second),
        first.dropped if first.dropped is None else first.dropped | second.dropped,
    )
    before = entering_by_halving(xp, kind, pair, start, axis, half, reverse)
    between = kind.carried(xp, before, kind.passage_of(xp, first))
    states = xp.stack([between, before] if reverse else [before, between], axis=axis + 1)
    states = xp.reshape(states, states.shape[:axis] + (2 * half,) + states.shape[axis + 2 :])
    if count % 2 == 0:
        return states
    end = 0 if reverse else half - 1
    after = kind.carried(xp, part(between, axis, end, end + 1), part(into_second, axis, end, end + 1))
    return in_time_order(xp, [states, after], axis, reverse)
