"""What a chunk of a linear recurrence does to the state that enters it, and how states cross many chunks.

A chunk maps k to slope * k + offset, or to offset alone if it holds a reset. The slope is the product of the chunk's
coefficients, rescaled. The product is not the whole story: a state that the definition loses to underflow half-way, or that
overflows there, would come back to life in a long product. So the extremes on the way travel with the product, and a state
beyond them enters as 0 or as infinity. Worked example in float32, chunk coefficients 1e-30, 1e-30, 1e30, 1e30, 1e30:
product 1e30, lowest 1e-60; a state 1e20 survives (1e-40 is a number), a state 1 vanishes (1e-60 is not), as in the definition.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Any, NamedTuple, TypeVar

from .arrays import along, in_time_order
from .scaled import Scaled, multipliers, scaled, times

Array = Any

__all__ = ["Slope", "Transfer", "entering_by_halving", "entering_by_loop", "slope"]


class Slope(NamedTuple):
    """The product of a chunk's coefficients; log |product|; the extremes of log |product of the first 1, 2, ... of them|.

    The logarithms only judge what is lost on the way, never enter a result. Zeros do not count as lowest: behind a zero
    nothing grows again, and infinity times 0 must stay NaN.
    """

    product: Scaled
    size: Array
    lowest: Array
    highest: Array


class Transfer(NamedTuple):
    """k -> offset if dropped else slope k + offset, one per chunk along an axis; a slope of size 1 serves all chunks."""

    slope: Slope
    offset: Array
    dropped: Array | None


class _Passage(NamedTuple):
    """A transfer in plain numbers, ready to be applied: states below `vanishing` are lost, above `overflowing` infinite."""

    factors: tuple[Array, ...]
    vanishing: Array
    overflowing: Array
    offset: Array
    dropped: Array | None


Part = TypeVar("Part")

# Stands for an infinite logarithm; a sum of 1e8 of them is a float32 still.
_ABSENT = 1e30


def slope(xp: Any, c: Array, axis: int, count: int, reverse: bool) -> Slope:
    """The slope of `count` coefficients along `axis`, which stays with size 1; one coefficient may stand for all."""
    size = xp.abs(c)
    zero = size == 0
    logarithm = xp.log(xp.where(zero, xp.ones_like(size), size))
    absent = xp.full_like(size, _ABSENT)
    log_or_absent = xp.where(zero, -absent, logarithm)
    x = Slope(scaled(xp, c), log_or_absent, xp.where(zero, absent, logarithm), log_or_absent)
    if c.shape[axis] == 1:
        return _power(xp, x, count)
    while count > 1:
        first, second, rest = _pairs(x, axis, count, reverse)
        x = _joined_slope(xp, first, second)
        if count % 2:
            x = _each(x, rest, lambda p, q: in_time_order(xp, [p, q], axis, reverse))
        count -= count // 2
    return x


def entering_by_loop(
    xp: Any, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The states entering `count` chunks along `axis`, one chunk after the other."""
    passage = _passage(xp, transfer)
    states = [start]
    for p in range(count - 1, 0, -1) if reverse else range(count - 1):
        states.append(_carried(xp, states[-1], _part(passage, axis, p, p + 1)))
    return in_time_order(xp, states, axis, reverse)


def entering_by_halving(
    xp: Any, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The same by recursion: join the chunks in pairs, find the states entering the pairs, then those entering the seconds."""
    if count == 1:
        return start
    half = count // 2
    first, second, _ = _pairs(transfer, axis, count, reverse)
    into_second = _passage(xp, second)
    pair = Transfer(
        _joined_slope(xp, first.slope, second.slope),
        _carried(xp, first.offset, into_second),
        first.dropped if first.dropped is None else first.dropped | second.dropped,
    )
    before = entering_by_halving(xp, pair, start, axis, half, reverse)
    between = _carried(xp, before, _passage(xp, first))
    states = xp.stack([between, before] if reverse else [before, between], axis=axis + 1)
    states = xp.reshape(states, states.shape[:axis] + (2 * half,) + states.shape[axis + 2 :])
    if count % 2 == 0:
        return states
    end = 0 if reverse else half - 1
    after = _carried(xp, _part(between, axis, end, end + 1), _part(into_second, axis, end, end + 1))
    return in_time_order(xp, [states, after], axis, reverse)


def _carried(xp: Any, k: Array, passage: _Passage) -> Array:
    """The state after a chunk. What is lost is deselected, never multiplied by 0: it may be NaN."""
    size = xp.abs(k)
    k = k * xp.where(size > passage.overflowing, xp.full_like(size, float("inf")), xp.ones_like(size))
    k = xp.where(size < passage.vanishing, xp.zeros_like(k), k)
    for factor in passage.factors:
        k = k * factor
    k = k + passage.offset
    return k if passage.dropped is None else xp.where(passage.dropped, passage.offset, k)


def _passage(xp: Any, transfer: Transfer) -> _Passage:
    through = transfer.slope
    # Half of the smallest number, 2**-150 or 2**-1075, and the end of the range, 2**128 or 2**1024; with a margin of 1.4 in the
    # logarithm against its rounding: a state that just survives is better kept, and one that just fits is finite.
    least, end = (-1075, 1024) if through.size.dtype == xp.float64 else (-150, 128)
    vanishing = _from_log(xp, least * log(2) - 1.4 - through.lowest, end)
    overflowing = _from_log(xp, end * log(2) + 0.01 - through.highest, end)
    return _Passage(multipliers(xp, through.product), vanishing, overflowing, transfer.offset, transfer.dropped)


def _from_log(xp: Any, x: Array, end: int) -> Array:
    """exp(x), or infinity from 2**end on without passing through an overflow."""
    beyond = x >= end * log(2) * (1 - 1e-6)
    return xp.where(beyond, xp.full_like(x, float("inf")), xp.exp(xp.where(beyond, xp.zeros_like(x), x)))


def _joined_slope(xp: Any, first: Slope, second: Slope) -> Slope:
    lowest = xp.minimum(first.lowest, first.size + second.lowest)
    return Slope(
        times(xp, first.product, second.product),
        first.size + second.size,
        xp.where(first.size < -0.5 * _ABSENT, first.lowest, lowest),
        xp.maximum(first.highest, first.size + second.highest),
    )


def _power(xp: Any, x: Slope, count: int) -> Slope:
    """`count` equal chunks one after the other, by squaring."""
    result = x
    for bit in bin(count)[3:]:
        result = _joined_slope(xp, result, result)
        if bit == "1":
            result = _joined_slope(xp, result, x)
    return result


def _pairs(x: Part, axis: int, count: int, reverse: bool) -> tuple[Part, Part, Part]:
    """The firsts and the seconds of all pairs in the direction of the walk, and what is left over at its end."""
    even = count - count % 2
    begin, stop = (count - even, count) if reverse else (0, even)
    rest = _part(x, axis, 0, count - even) if reverse else _part(x, axis, even, count)
    first, second = begin + reverse, begin + (not reverse)
    return _part(x, axis, first, stop, 2), _part(x, axis, second, stop, 2), rest


def _part(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """A slice of every array of a nested tuple."""
    if isinstance(x, tuple):
        return _made(x, (_part(y, axis, start, stop, step) for y in x))
    return along(x, axis, start, stop, step)


def _each(x: Any, y: Any, join: Any) -> Any:
    """join(p, q) for all arrays p, q at equal places of two nested tuples."""
    if isinstance(x, tuple):
        return _made(x, (_each(p, q, join) for p, q in zip(x, y, strict=True)))
    return join(x, y)


def _made(like: Any, parts: Iterable[Any]) -> Any:
    """A tuple or named tuple of the same type."""
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
