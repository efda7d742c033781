"""Elements along an axis, each a tuple of arrays, joined in pairs: what a scan and a product over time have in common.

An element is any nested tuple of arrays; an axis of size 1 stands for equal elements all along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from seqpar.algorithms.arrays import along, in_time_order

__all__ = ["pairs", "part", "reduced"]

Elements = TypeVar("Elements")


def reduced(
    xp: Any,
    joined: Callable[[Any, Elements, Elements], Elements],
    x: Elements,
    axis: int,
    count: int,
    reverse: bool,
) -> Elements:
    """`count` elements in the direction of the walk joined into one, which keeps the axis with size 1."""
    if _size(x, axis) == 1:
        return _power(xp, joined, x, count)
    while count > 1:
        first, second, rest = pairs(x, axis, count, reverse)
        x = joined(xp, first, second)
        if count % 2:
            x = _each(x, rest, lambda p, q: in_time_order(xp, [p, q], axis, reverse))
        count -= count // 2
    return x


def pairs(x: Elements, axis: int, count: int, reverse: bool) -> tuple[Elements, Elements, Elements]:
    """The firsts and the seconds of all pairs in the direction of the walk, and what is left over at its end."""
    even = count - count % 2
    begin, stop = (count - even, count) if reverse else (0, even)
    rest = part(x, axis, 0, count - even) if reverse else part(x, axis, even, count)
    first, second = begin + reverse, begin + (not reverse)
    return part(x, axis, first, stop, 2), part(x, axis, second, stop, 2), rest


def part(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """A slice of every array of a nested tuple."""
    if isinstance(x, tuple):
        return _made(x, (part(y, axis, start, stop, step) for y in x))
    return along(x, axis, start, stop, step)


def _power(
    xp: Any, joined: Callable[[Any, Elements, Elements], Elements], x: Elements, count: int
) -> Elements:
    """`count` equal elements one after the other, by squaring."""
    result = x
    for bit in bin(count)[3:]:
        result = joined(xp, result, result)
        if bit == "1":
            result = joined(xp, result, x)
    return result


def _each(x: Any, y: Any, join: Any) -> Any:
    """join(p, q) for all arrays p, q at equal places of two nested tuples."""
    if isinstance(x, tuple):
        return _made(x, (_each(p, q, join) for p, q in zip(x, y, strict=True)))
    return join(x, y)


def _size(x: Any, axis: int) -> int:
    return _size(x[0], axis) if isinstance(x, tuple) else x.shape[axis]


def _made(like: Any, parts: Iterable[Any]) -> Any:
    """A tuple or named tuple of the same type."""
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
