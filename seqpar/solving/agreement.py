"""When chunks agree, and what their disagreement costs: pure array functions, for eager and traced solvers alike.

A chunk p of sequence b starts in s[p] and ends in e[p]; the mismatch r[p] = |e[p-1] - s[p]| is all that is left of the
equations, since inside a chunk each state is the step of the one before it. How far it can push the states is not known from r
alone: an expansion hidden inside a chunk has made 1e-7 into 0.8. So each chunk is walked from two different starts, and the distance
d[t] of the two walks says how the recurrence treats a difference:

* end gain g = d[C] / d[0]: how much of a difference at the start is left at the end;
* expansion G = max over t of d[t] / min(d[s], s <= t): how much a difference grows again after it had shrunk, at any scale.

A start that is wrong by E[p] then makes states inside the chunk wrong by G E[p], and E[p+1] = r[p+1] + g G E[p]. These are
measurements along two walks, not bounds.

Shapes: states (chunk, chunks, batch, n), starts and ends (chunks, batch, n), distances (chunk + 1, chunks, batch), the rest
(chunks, batch).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.problem import Array
from seqpar.linear_recurrence import linear_recurrence

STATED = 8.0
"""Units of rounding, relative to max(1, |h|), to which boundaries of a user's step agree by default. Steps that run through
BLAS settle into a cycle of last bits (an Elman network, float32: 1 unit for ever), so that bitwise agreement is not to be had."""

ACCEPTED = 4.0
"""Agreement is accepted if the mismatch, carried through the gains, stays below so many tolerances."""

INFORMATIVE = 16.0
"""Two starts that differ by fewer units of rounding say nothing about forgetting: the walks differ by noise."""


class Gains(NamedTuple):
    """What two walks of each chunk showed; infinite where there were none."""

    end: Array
    expansion: Array


def epsilon(xp: Any, dtype: Any) -> float:
    """The unit of rounding of a real or complex dtype."""
    return float(xp.finfo(dtype).eps)


def same(xp: Any, left: Array, right: Array) -> Array:
    """Are two states equal to the bit (but for the sign of zero), NaN being equal to NaN? Over the last axis."""
    equal = (left == right) | ((left != left) & (right != right))
    return xp.all(equal, axis=-1)


def size(xp: Any, states: Array) -> Array:
    """max(1, |h|) over the last axis, where |h| is a number at all."""
    largest = xp.max(xp.abs(states), axis=-1)
    return xp.where(largest > 1.0, largest, xp.ones_like(largest))


def distance(xp: Any, left: Array, right: Array) -> Array:
    """Largest difference over the last axis; NaN is at no distance from NaN, nor infinity from itself."""
    difference = xp.abs(left - right)
    equal = (left == right) | ((left != left) & (right != right))
    return xp.max(xp.where(equal, xp.zeros_like(difference), difference), axis=-1)


def distances(xp: Any, starts: tuple[Array, Array], walks: tuple[Array, Array]) -> Array:
    """d[t] of two walks of the same chunks, from their starts to their ends."""
    first = distance(xp, *starts)
    return xp.concat([first[None, ...], distance(xp, *walks)], axis=0)


def gains(xp: Any, d: Array, unit: Array) -> Gains:
    """The gains of chunks walked twice, from the distances of their walks; `unit` is rounding at the size of the states."""
    d = xp.where(d == d, d, xp.full_like(d, float("inf")))
    floor = xp.where(unit == unit, unit, xp.ones_like(unit))
    smallest = xp.maximum(running_minimum(xp, d), floor[None, ...])
    expansion = xp.max(xp.maximum(d, floor[None, ...]) / smallest, axis=0)
    informative = d[0, ...] >= INFORMATIVE * floor
    start = xp.where(informative, d[0, ...], xp.ones_like(floor))
    end = xp.where(informative, d[-1, ...] / start, xp.full_like(floor, float("inf")))
    return Gains(_nan_to_inf(xp, end), _nan_to_inf(xp, expansion))


def running_minimum(xp: Any, d: Array) -> Array:
    """Smallest value so far along the first axis, by doubling."""
    length, reach = d.shape[0], 1
    while reach < length:
        d = xp.concat([d[:reach, ...], xp.minimum(d[reach:, ...], d[:-reach, ...])], axis=0)
        reach *= 2
    return d


def carried(xp: Any, mismatch: Array, found: Gains) -> Array:
    """Errors of the states inside each chunk: the mismatches carried through the gains of the chunks before."""
    through = found.end * found.expansion
    # The first chunk starts exactly, so whatever it would do to an error is of no interest. Large numbers stand for infinity,
    # so that no error at all stays none.
    through = xp.concat([xp.zeros_like(through[:1, ...]), through[:-1, ...]], axis=0)
    errors = linear_recurrence(_finite(xp, through), mismatch, axis=0)
    inside = xp.where(errors == 0.0, errors, errors * _finite(xp, found.expansion))
    return _nan_to_inf(xp, inside)


def noise(xp: Any, found: Gains, unit: Array, chunk: int) -> Array:
    """What rounding inside the chunks adds up to where differences shrink at the measured rate: (batch,)."""
    if unit.shape[0] < 2:
        return xp.zeros_like(unit[0, ...])
    rate = xp.max(found.end[1:, ...], axis=0) ** (1.0 / chunk)
    largest = 2.0 * xp.max(unit, axis=0)
    forgets = rate < 1.0
    room = xp.where(forgets, 1.0 - rate, xp.ones_like(rate))
    return xp.where(forgets, largest / room, xp.full_like(rate, float("inf")))


def _finite(xp: Any, x: Array) -> Array:
    return xp.where(x < 1e18, x, xp.full_like(x, 1e18))


def _nan_to_inf(xp: Any, x: Array) -> Array:
    return xp.where(x == x, x, xp.full_like(x, float("inf")))
