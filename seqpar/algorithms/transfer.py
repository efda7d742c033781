"""What a chunk of a linear recurrence does to the state that enters it, and how states cross many chunks.

A chunk maps k to slope * k + offset, or to offset alone if it holds a reset. The slope is the product of the chunk's
coefficients, rescaled. The product is not the whole story: a state that the definition loses to underflow half-way, or that
overflows there, would come back to life in a long product. A larger state overflows sooner and is lost later, so two bounds
say it all: below one the state is lost, above the other it overflows, first. Worked example in float32, coefficients 1e-30,
1e-30, 1e30, 1e30, product 1: a state of 1 is lost (1e-60 is not a number), one of 1e20 survives (1e-40 is), none overflows;
the bounds are about 2e16 and infinity. A chunk of the same four in another order, 1e30 first, has 0 and about 3e-22.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Any, NamedTuple, TypeVar

from seqpar.algorithms.arrays import along, in_time_order
from seqpar.algorithms.scaled import Scaled, multipliers, scaled, times

Array = Any

__all__ = [
    "Passage",
    "Slope",
    "Transfer",
    "carried",
    "entering_by_halving",
    "entering_by_loop",
    "joined_slope",
    "passage_of",
    "slope_of",
]


class Slope(NamedTuple):
    """The product of a chunk's coefficients; log |product|; log |k| below which k is lost, and above which it overflows.

    The logarithms only judge what is lost on the way, they never enter a result. lost <= overflow, always.
    """

    product: Scaled
    size: Array
    lost: Array
    overflow: Array


class Transfer(NamedTuple):
    """k -> offset if dropped else slope k + offset, one per chunk along an axis; a slope of size 1 serves all chunks."""

    slope: Slope
    offset: Array
    dropped: Array | None


class Passage(NamedTuple):
    """A transfer in plain numbers, ready to be applied: |k| below `lost` becomes 0, above `overflow` infinity."""

    factors: tuple[Array, ...]
    lost: Array
    overflow: Array
    offset: Array
    dropped: Array | None


Part = TypeVar("Part")

# Stands for log(0): every finite state is lost. A sum of 1e8 of them is a float32 still.
_LOG_ZERO = -1e30


def slope_of(xp: Any, c: Array, axis: int, count: int, reverse: bool) -> Slope:
    """The slope of `count` coefficients along `axis`, which stays with size 1; one coefficient may stand for all."""
    size = xp.abs(c)
    zero = size == 0
    size = xp.log(xp.where(zero, xp.ones_like(size), size))
    size = xp.where(zero, xp.full_like(size, _LOG_ZERO), size)
    least, end = _range(xp, size)
    x = Slope(scaled(xp, c), size, least - size, end - size)
    if c.shape[axis] == 1:
        return _power(xp, x, count)
    while count > 1:
        first, second, rest = _pairs(x, axis, count, reverse)
        x = joined_slope(xp, first, second)
        if count % 2:
            x = _each(x, rest, lambda p, q: in_time_order(xp, [p, q], axis, reverse))
        count -= count // 2
    return x


def entering_by_loop(
    xp: Any, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The states entering `count` chunks along `axis`, one chunk after the other."""
    passage = passage_of(xp, transfer)
    states = [start]
    for p in range(count - 1, 0, -1) if reverse else range(count - 1):
        states.append(carried(xp, states[-1], _part(passage, axis, p, p + 1)))
    return in_time_order(xp, states, axis, reverse)


def entering_by_halving(
    xp: Any, transfer: Transfer, start: Array, axis: int, count: int, reverse: bool
) -> Array:
    """The same by recursion: join the chunks in pairs, find the states entering the pairs, then those entering the seconds."""
    if count == 1:
        return start
    half = count // 2
    first, second, _ = _pairs(transfer, axis, count, reverse)
    into_second = passage_of(xp, second)
    pair = Transfer(
        joined_slope(xp, first.slope, second.slope),
        carried(xp, first.offset, into_second),
        first.dropped if first.dropped is None else first.dropped | second.dropped,
    )
    before = entering_by_halving(xp, pair, start, axis, half, reverse)
    between = carried(xp, before, passage_of(xp, first))
    states = xp.stack([between, before] if reverse else [before, between], axis=axis + 1)
    states = xp.reshape(states, states.shape[:axis] + (2 * half,) + states.shape[axis + 2 :])
    if count % 2 == 0:
        return states
    end = 0 if reverse else half - 1
    after = carried(xp, _part(between, axis, end, end + 1), _part(into_second, axis, end, end + 1))
    return in_time_order(xp, [states, after], axis, reverse)


def carried(xp: Any, k: Array, passage: Passage) -> Array:
    """The state after a chunk. What is lost is deselected, never multiplied by 0: it may be NaN."""
    size = xp.abs(k)
    k = k * xp.where(size > passage.overflow, xp.full_like(size, float("inf")), xp.ones_like(size))
    k = xp.where(size < passage.lost, xp.zeros_like(k), k)
    for factor in passage.factors:
        k = k * factor
    k = k + passage.offset
    return k if passage.dropped is None else xp.where(passage.dropped, passage.offset, k)


def passage_of(xp: Any, transfer: Transfer) -> Passage:
    through = transfer.slope
    lost, overflow = _from_log(xp, through.lost), _from_log(xp, through.overflow)
    return Passage(multipliers(xp, through.product), lost, overflow, transfer.offset, transfer.dropped)


def _range(xp: Any, x: Array) -> tuple[float, float]:
    """Logarithms of the smallest number that still counts, 2**-145 or 2**-1070, and of the end of the range, 2**128 or 2**1024.

    Below that fewer than five bits are left, and rounding alone decides whether the definition keeps a state. It counts as
    lost, so that it cannot grow to infinity where the definition lost it. The end leaves room for the rounding of logarithms.
    """
    least, end = (-1070, 1024) if x.dtype == xp.float64 else (-145, 128)
    return least * log(2), end * log(2) + 0.01


def _from_log(xp: Any, x: Array) -> Array:
    """exp(x), or infinity at the end of the range without passing through an overflow."""
    beyond = x >= _range(xp, x)[1] - 0.02
    return xp.where(beyond, xp.full_like(x, float("inf")), xp.exp(xp.where(beyond, xp.zeros_like(x), x)))


def joined_slope(xp: Any, first: Slope, second: Slope) -> Slope:
    """A state between the bounds of the first chunk enters the second larger by the first's size."""
    lost = xp.maximum(first.lost, second.lost - first.size)
    overflow = xp.minimum(first.overflow, second.overflow - first.size)
    return Slope(
        times(xp, first.product, second.product),
        first.size + second.size,
        xp.minimum(lost, first.overflow),
        xp.maximum(overflow, first.lost),
    )


def _power(xp: Any, x: Slope, count: int) -> Slope:
    """`count` equal chunks one after the other, by squaring."""
    result = x
    for bit in bin(count)[3:]:
        result = joined_slope(xp, result, result)
        if bit == "1":
            result = joined_slope(xp, result, x)
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
