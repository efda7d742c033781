"""When chunks agree, and what their disagreement costs: pure array functions, for eager and traced solvers alike.

A chunk p of sequence b starts in s[p] and ends in e[p]; the mismatch r[p] = |e[p-1] - s[p]| is all that is left of the
equations, since inside a chunk each state is the step of the one before it. How far it can push the states is not known from r
alone: an expansion hidden inside a chunk has made 1e-7 into 0.8. So each chunk is walked from two starts near each other, and the
distance d[t] of the two walks says what the recurrence makes of a small difference where it really goes:

* end gain g = d[C] / d[0]: how much of a difference at the start is left at the end;
* peak M = max over t of d[t] / d[0]: how large it becomes inside;
* expansion G = max over t of d[t] / min(d[s], s <= t): how much it grows after it had shrunk;
* total gain S = sum of d[t] / d[0] over the chunk: what a disturbance in every step, such as rounding, adds up to.

Starts that lie far apart would not do: a state forced near zero, from where tanh(2 h) expands, is met by another from far away
that lands on the same side, and nothing shows. Nor would starts that differ by rounding: their walks differ by noise.

A start that is wrong by E[p] then makes states inside the chunk wrong by M E[p], and E[p+1] = r[p+1] + g E[p]; rounding makes
max(S, G) units of error in a chunk, and goes on alike. These are
measurements along two walks, not bounds.

Shapes: states (chunk, chunks, batch, n), starts and ends (chunks, batch, n), distances (chunk + 1, chunks, batch), the rest
(chunks, batch).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import state_dtype
from seqpar.dispatch.problem import Array
from seqpar.linear_recurrence import linear_recurrence

STATED = 8.0
"""Units of rounding, relative to max(1, |h|), to which boundaries of a user's step agree by default. Steps that run through
BLAS settle into a cycle of last bits (an Elman network, float32: 1 unit for ever), so that bitwise agreement is not to be had."""

NEAR = 0.02
"""Starts further apart than this part of the state's size do not tell what becomes of a small difference."""

ACCEPTED = 4.0
"""Agreement is accepted if the mismatch, carried through the gains, stays below so many tolerances."""

LOUD = 250.0
"""Nor is it believed where rounding alone may have added up to so many tolerances: such a recurrence expands, and what is pressed
below rounding before it expands shows in nothing else."""

INFORMATIVE = 16.0
"""Two starts that differ by fewer units of rounding say nothing about forgetting: the walks differ by noise."""


LARGE = 1e18
"""Stands for infinity where it is multiplied: infinite gains are those that nobody measured, and no error at all stays none."""


class Gains(NamedTuple):
    """What two walks of each chunk showed; infinite where there were none."""

    end: Array
    peak: Array
    expansion: Array
    total: Array


class Judgement(NamedTuple):
    """What the boundaries of all chunks say, sequence by sequence."""

    differ: Array
    """(chunks, batch), boolean: the chunk does not start where the one before it ends, to the bit."""
    mismatch: Array
    """(chunks, batch)."""
    close: Array
    """(batch,), boolean: all mismatches are within the tolerance, whatever they may do."""
    agreed: Array
    """(batch,), boolean."""
    residual: Array
    """(batch,): the largest mismatch."""
    error_estimate: Array
    """(batch,)."""


def judge(
    xp: Any,
    entering: Array,
    starts: Array,
    sizes: Array,
    found: Gains,
    tol: float,
    independent: bool = False,
    accepted: float = ACCEPTED,
    before: Array | None = None,
) -> Judgement:
    """Do the chunks agree? entering: (chunks - 1, batch, n), what the ends hand to the next chunks; sizes: (chunks, batch).

    `before` (batch,) is the error of the states that enter the first chunk, relative like mismatches; None for none.

    `independent` walks give the same bits whatever is beside them, so that agreement to the bit leaves no error at all.
    """
    sizes = widened(xp, sizes)
    unit = epsilon(xp, starts.dtype) * sizes
    differ = ~same(xp, entering, starts[1:, ...])
    differ = xp.concat(
        [xp.zeros_like(differ[:1, ...]) if differ.shape[0] else _none(xp, sizes), differ], axis=0
    )
    mismatch = distance(xp, entering, starts[1:, ...]) / sizes[:-1, ...]
    mismatch = xp.concat([xp.zeros_like(sizes[:1, ...]), _nan_to_inf(xp, mismatch)], axis=0)
    residual = xp.max(mismatch, axis=0)
    own = inside = xp.max(carried(xp, mismatch, found), axis=0)
    if before is not None:
        mismatch = xp.concat([before[None, ...], mismatch[1:, ...]], axis=0)
        inside = xp.max(carried(xp, mismatch, found), axis=0)
    exact = ~xp.any(differ, axis=0)
    close = exact | (residual <= tol)
    noise = xp.max(rounding(xp, found, unit), axis=0)
    # What enters is off by was believed before, and is mostly rounding: 16 units where 32 are the limit for a mismatch, so that
    # an Elman network in float32 failed here, by chance, in each second stretch of time.
    quiet = noise + (inside - own) <= LOUD * max(tol, STATED * epsilon(xp, starts.dtype))
    agreed = exact | (close & (own <= accepted * tol) & (quiet | (accepted == float("inf"))))
    if independent:
        noise = xp.where(exact, xp.zeros_like(noise), noise)
    return Judgement(differ, mismatch, close, agreed, residual, inside + noise)


def _none(xp: Any, sizes: Array) -> Array:
    return sizes[:1, ...] != sizes[:1, ...]


def unmeasured(xp: Any, sizes: Array) -> Gains:
    """Nothing is known yet."""
    sizes = widened(xp, sizes)
    # Four arrays, not one four times: rows of them are written to.
    return Gains(*(xp.full_like(sizes, float("inf")) for _ in Gains._fields))


def worse(xp: Any, known: Gains, seen: Gains) -> Gains:
    """The larger of what was known and what was seen; what was not measured is infinite and gives way."""
    pairs = zip(known, seen, strict=True)
    infinite = float("inf")
    return Gains(
        *(xp.where(x == infinite, y, xp.where(y == infinite, x, xp.maximum(x, y))) for x, y in pairs)
    )


@lru_cache
def epsilon(xp: Any, dtype: Any) -> float:
    """The unit of rounding of a real or complex dtype."""
    return float(xp.finfo(dtype).eps)


def same(xp: Any, left: Array, right: Array) -> Array:
    """Are two states equal to the bit (but for the sign of zero), NaN being equal to NaN? Over the last axis."""
    equal = (left == right) | ((left != left) & (right != right))
    return xp.all(equal, axis=-1)


def size(xp: Any, states: Array) -> Array:
    """max(1, |h|) over the last axis, as far as |h| is finite: beside an infinite number all others would agree."""
    states = xp.where(xp.isfinite(states), states, xp.zeros_like(states))
    largest = widened(xp, xp.max(xp.abs(states), axis=-1))
    return xp.where(largest > 1.0, largest, xp.ones_like(largest))


def distance(xp: Any, left: Array, right: Array) -> Array:
    """Largest difference over the last axis; NaN is at no distance from NaN, nor infinity from itself."""
    difference = xp.abs(left - right)
    equal = (left == right) | ((left != left) & (right != right))
    return widened(xp, xp.max(xp.where(equal, xp.zeros_like(difference), difference), axis=-1))


def apart(xp: Any, left: Array, right: Array) -> Array:
    """Distance relative to the size of the states: a difference of 1 is little where they are 1e6, and much where they are 1."""
    d = distance_of_walks(xp, left, right)
    # Two reductions of everything cost a fifth of one along the state.
    small = _on_host(right) and xp.isdtype(right.dtype, "real floating")
    if small and bool(xp.max(right) <= 1.0) and bool(xp.min(right) >= -1.0):
        return d
    return d / size(xp, right)


def distance_of_walks(xp: Any, left: Array, right: Array) -> Array:
    """`distance` for arrays on the host, where a look at the result is cheap: the rest only for what is not finite."""
    plain = xp.max(xp.abs(left - right), axis=-1)
    if _on_host(plain) and bool(xp.all(xp.isfinite(plain))):
        return widened(xp, plain)
    return distance(xp, left, right)


def _on_host(x: Array) -> bool:
    return str(getattr(x, "device", "cpu")).lower().startswith("cpu")


def near(epsilon: float) -> float:
    """The largest distance of two starts, relative to their size, that counts as small."""
    return max(NEAR, 3.0 * math.sqrt(epsilon))


def gains(xp: Any, d: Array, unit: Array, near: float = float("inf"), least: float = INFORMATIVE) -> Gains:
    """The gains of chunks walked twice, from the distances of their walks; infinite where these say nothing.

    `unit` is rounding at the size of the states; `near` the largest difference of two starts that counts as small, `least` the
    smallest that is more than rounding, in such units.
    """
    d, unit = _finite(xp, d), widened(xp, unit)
    floor = xp.where(unit < LARGE, unit, xp.ones_like(unit))
    smallest = xp.maximum(running_minimum(xp, d), floor[None, ...])
    expansion = xp.max(xp.maximum(d, floor[None, ...]) / smallest, axis=0)
    first = d[0, ...]
    informative = (first >= least * floor) & (first <= near * floor)
    start = xp.where(informative, first, xp.ones_like(floor))
    # A difference that has become large says no more how much a small one would have grown.
    grown = xp.max(d, axis=0) > xp.maximum(near * floor, first)
    largest, peak = xp.full_like(floor, LARGE), xp.max(d, axis=0) / start
    peak, expansion = (xp.where(grown, largest, x) for x in (peak, expansion))
    found = (d[-1, ...] / start, peak, expansion, xp.sum(d, axis=0) / start)
    unknown = xp.full_like(floor, float("inf"))
    return Gains(*(xp.where(informative, _finite(xp, x), unknown) for x in found))


def running_minimum(xp: Any, d: Array) -> Array:
    """Smallest value so far along the first axis, by doubling."""
    length, reach = d.shape[0], 1
    while reach < length:
        d = xp.concat([d[:reach, ...], xp.minimum(d[reach:, ...], d[:-reach, ...])], axis=0)
        reach *= 2
    return d


def carried(xp: Any, mismatch: Array, found: Gains) -> Array:
    """Errors of the states inside each chunk: the mismatches carried through the gains of the chunks before."""
    through = found.end
    through = xp.concat([xp.zeros_like(through[:1, ...]), through[:-1, ...]], axis=0)
    errors = _finite(xp, linear_recurrence(_finite(xp, through), mismatch, axis=0))
    inside = errors * _finite(xp, found.peak)
    return xp.where(inside < LARGE, inside, xp.full_like(inside, float("inf")))


def rounding(xp: Any, found: Gains, unit: Array) -> Array:
    """Errors of the states inside each chunk by what rounding in every step adds up to, in it and in the chunks before."""
    total = found.total
    if total.shape[0] < 2:
        return xp.zeros_like(total)
    # What is made at the end of a contraction may expand again, which its sum does not show.
    total = xp.maximum(total, found.expansion)
    # Where nobody has walked the first chunk twice, it is taken to be like the worst of the others.
    first = xp.where(total[:1, ...] < LARGE, total[:1, ...], xp.max(total[1:, ...], axis=0, keepdims=True))
    made = _finite(xp, 2.0 * unit * xp.concat([first, total[1:, ...]], axis=0))
    entering = xp.concat([xp.zeros_like(made[:1, ...]), made[:-1, ...]], axis=0)
    errors = made + carried(xp, entering, found)
    return xp.where(errors < LARGE, errors, xp.full_like(errors, float("inf")))


def _finite(xp: Any, x: Array) -> Array:
    """A large number for infinity and NaN."""
    return xp.where(x < LARGE, x, xp.full_like(x, LARGE))


def widened(xp: Any, x: Array) -> Array:
    """Half precision cannot hold a gain."""
    return xp.astype(x, state_dtype(xp, x.dtype), copy=False)


def _nan_to_inf(xp: Any, x: Array) -> Array:
    return xp.where(x == x, x, xp.full_like(x, float("inf")))
