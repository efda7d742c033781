"""Associative scans against the array API: y[t] = x[0] . x[1] ... x[t] for any associative `.` on lists of arrays.

Called by the public operation, which makes lists of leaves out of the user's trees, and by the XLA code, which shares the way
chunks are cut and put together. An element is one step of every leaf, with the time axis kept at size 1; `combine(left, right)`
works on any number of elements at once. Under `reverse` the walk starts at the last step, and the left operand is the later one.

All methods are one idea. Cut time into chunks and walk through all of them at once; scan over what the chunks come to; combine
what enters a chunk with every step of it. A few steps a chunk, all the way down, are the `tree`, sqrt(T) steps are `chunked`.
Each element is combined at most twice, no element is made up to fill a gap, and nothing is written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any, NamedTuple

Array = Any
Leaves = list[Array]
Combine = Callable[[Leaves, Leaves], Leaves]

__all__ = ["Combine", "Leaves", "Time", "chunked", "forward", "in_chunks", "length_of", "sequential", "tree"]


class Time(NamedTuple):
    """Where time lies in each leaf, and which way it is walked."""

    axes: tuple[int, ...]
    reverse: bool = False

    def part(self, leaves: Leaves, start: int, stop: int | None = None, step: int = 1) -> Leaves:
        """Steps start, start + step, ... of the walk, in the order of time; `start` and `stop` count along the walk."""
        if self.reverse:
            length = length_of(leaves, self)
            last = length - 1 - start
            if step > 1:
                place = slice(last % step, last + 1, step)
            else:
                place = slice(None if stop is None else length - stop, last + 1)
        else:
            # Open ends stay open: a compiler that traces symbols needs seconds for each that it has to compare.
            place = slice(start or None, stop, step)
        return [x[(slice(None),) * axis + (place, ...)] for x, axis in zip(leaves, self.axes, strict=True)]

    def joined(self, xp: Any, pieces: Sequence[Leaves]) -> Leaves:
        """One list of leaves from pieces in the order of the walk."""
        if len(pieces) == 1:
            return pieces[0]
        ordered = pieces[::-1] if self.reverse else pieces
        return [
            xp.concat(parts, axis=i) for parts, i in zip(zip(*ordered, strict=True), self.axes, strict=True)
        ]


def length_of(leaves: Leaves, time: Time) -> int:
    """Number of steps."""
    length: int = leaves[0].shape[time.axes[0]]
    return length


def sequential(xp: Any, combine: Combine, leaves: Leaves, time: Time) -> Leaves:
    """The definition: T - 1 combines of one element with one."""
    length = length_of(leaves, time)
    if length < 2:
        return leaves
    results = [time.part(leaves, 0, 1)]
    for t in range(1, length):
        results.append(combine(results[-1], time.part(leaves, t, t + 1)))
    return time.joined(xp, results)


def chunked(xp: Any, combine: Combine, leaves: Leaves, time: Time, *, chunk: int | None = None) -> Leaves:
    """Chunks of about sqrt(T) steps: 3 sqrt(T) calls of `combine`, two combines per element."""
    size = chunk or max(2, isqrt(length_of(leaves, time)))
    return in_chunks(xp, combine, leaves, time, size, lambda ends: sequential(xp, combine, ends, time))


def tree(
    xp: Any, combine: Combine, leaves: Leaves, time: Time, *, leaf: int = 2, symbolic: bool = False
) -> Leaves:
    """Chunks of `leaf` steps, whose ends are scanned the same way: O(log T) calls, fewer than two combines per element."""

    if (
        symbolic and time.reverse
    ):  # whose slices begin where T is not a multiple: minutes of a compiler's algebra
        return forward(xp, lambda x, on: tree(xp, combine, x, on, leaf=leaf, symbolic=True), leaves, time)

    def scan(ends: Leaves) -> Leaves:
        return tree(xp, combine, ends, time, leaf=leaf, symbolic=symbolic)

    return in_chunks(xp, combine, leaves, time, leaf, scan, symbolic=symbolic)


def forward(xp: Any, scan: Callable[[Leaves, Time], Leaves], leaves: Leaves, time: Time) -> Leaves:
    """Either direction by a scan that only walks forward: flip, scan, flip."""
    if not time.reverse:
        return scan(leaves, time)
    flipped = [xp.flip(x, axis=axis) for x, axis in zip(leaves, time.axes, strict=True)]
    results = scan(flipped, time._replace(reverse=False))
    return [xp.flip(x, axis=axis) for x, axis in zip(results, time.axes, strict=True)]


def in_chunks(
    xp: Any,
    combine: Combine,
    leaves: Leaves,
    time: Time,
    chunk: int,
    scan: Callable[[Leaves], Leaves],
    *,
    symbolic: bool = False,
) -> Leaves:
    """The scan by chunks of `chunk` steps, with `scan` for the scan over their ends.

    Worked example: 8 steps, chunks of 3, x for elements 0 ... 7, [0-2] for x[0] . x[1] . x[2]:

        local      [0]   [3]   [6]       [0-1] [3-4] [6-7]       [0-2] [3-5]      the last chunk has two steps
        ends                                                     [0-2] [0-5]      scanned; each enters the next chunk
        results    [0]   [0-3] [0-6]     [0-1] [0-4] [0-7]       [0-2] [0-5]

    Under `symbolic` the length may be a compiler's symbol, and no branch asks whether chunks come out even: a program made for
    one length then serves others.
    """
    length = length_of(leaves, time)
    if length <= chunk:
        return sequential(xp, combine, leaves, time)
    local = [time.part(leaves, 0, step=chunk)]
    for t in range(1, chunk):
        here = time.part(leaves, t, step=chunk)
        local.append(combine(time.part(local[-1], 0, length_of(here, time)), here))
    ends = scan(local.pop())
    results = []
    for steps in local:
        first, later = time.part(steps, 0, 1), length_of(steps, time) - 1
        if later:
            after = combine(time.part(ends, 0, later), time.part(steps, 1))
            first = time.joined(xp, [first, after])
        results.append(first)
    results.append(ends)
    if symbolic:
        return time.part(_interleaved(xp, _evened(xp, results, time), time), 0, length)
    count = length_of(ends, time)
    main = _interleaved(xp, [time.part(x, 0, count) for x in results], time)
    rest = [time.part(x, count) for x in results if length_of(x, time) > count]
    return time.joined(xp, [main, *rest])


def _interleaved(xp: Any, steps: list[Leaves], time: Time) -> Leaves:
    """The first step of every chunk, the second, ... in one row."""
    joined = []
    for axis, parts in zip(time.axes, zip(*steps, strict=True), strict=True):
        shape = parts[0].shape
        row = xp.stack(parts[::-1] if time.reverse else parts, axis=axis + 1)
        joined.append(xp.reshape(row, (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :])))
    return joined


def _evened(xp: Any, steps: list[Leaves], time: Time) -> list[Leaves]:
    """Steps of as many chunks as the first, for the chunk at the end that may lack some: with a step that does not matter."""
    count = length_of(steps[0], time)
    filler = time.part(steps[0], 0, 1)
    return [steps[0], *(time.part(time.joined(xp, [x, filler]), 0, count) for x in steps[1:])]
