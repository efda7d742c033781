"""Recurrences and scans in float64 by their definitions, and how far an answer may be from them.

Called by the problems of `linear`, `matrices` and `scans`. No scan of seqpar runs here: what it computes is what is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqpar_bench.bench.operations.operands import HALF
from seqpar_bench.bench.problem import WrongAnswerError, epsilon

Array = Any
Product = Callable[[Array, Array], Array]
"""Of coefficients and states at one step."""
Combine = Callable[[Sequence[Array], Sequence[Array]], Sequence[Array]]

WHOLE = 1 << 17
"""Steps up to which a loop walks from the first to the last; beyond, it walks many parts at once."""
PART = 1024
"""Steps of a part. 0.95 to this power is 1e-23: nothing in float64 remembers what is older."""
FORGOTTEN = 1e-13
"""By how much a state, relative to the largest, may jump where two parts meet."""
BLOCK = 1 << 22
"""Numbers that are compared at once."""
ROUNDINGS = 64
"""By which an answer may be off, in roundings of its largest number in the precision of the states."""


# --- answers ------------------------------------------------------------------------------------------------------------------


def wide(x: Array) -> Array:
    """In float64 or complex128."""
    return np.asarray(x, np.complex128 if x.dtype.kind == "c" else np.float64)


def states(a: Array, b: Array, times: Product = np.multiply) -> Array:
    """h[t] = a[t] h[t-1] + b[t] from zeros in float64, time first. a has the length of b.

    Beyond `WHOLE` steps every part starts from what a walk over the part before it, from zeros, ended with. These states obey
    the recurrence at every step, save for jumps of `FORGOTTEN` where parts meet. That is proof: the error obeys the same
    recurrence, e[t] = a[t] e[t-1] + r[t] with r what the states miss the definition by, so where the past is forgotten within
    `PART` steps, e stays within PART |r|. Should a jump be larger, the past is not forgotten, and one walk goes all the way.
    """
    if len(b) <= WHOLE:
        return _walk(a, b, times)
    count = len(b) // PART
    cut = count * PART
    parts_a, parts_b = (x[:cut].reshape(count, PART, *x.shape[1:]).swapaxes(0, 1) for x in (a, b))
    start = np.zeros_like(parts_b[0])
    start[1:] = _last(parts_a, parts_b, times)[:-1]
    parts = _walk(parts_a, parts_b, times, start)
    jump = np.max(np.abs(parts[-1][:-1] - start[1:]))
    if not jump <= FORGOTTEN * np.max(np.abs(parts[-1])):
        return _walk(a, b, times)
    h = np.empty_like(b)
    h[:cut] = parts.swapaxes(0, 1).reshape(cut, *b.shape[1:])
    if cut < len(b):
        h[cut:] = _walk(a[cut:], b[cut:], times, h[cut - 1])
    return h


def costates(a: Array, g: Array, times: Product = np.multiply) -> Array:
    """k[t] = a[t+1] k[t+1] + g[t], which is the gradient of b, and k[t] h[t-1] that of a: the definition in reverse."""
    ahead = np.concatenate([a[1:], np.zeros_like(a[:1])])
    return states(ahead[::-1], g[::-1], times)[::-1]


def before(h: Array) -> Array:
    """h[t-1]: zeros before the first."""
    return np.concatenate([np.zeros_like(h[:1]), h[:-1]])


def partials(function: Callable[[Any, Any], Any], leaves: Sequence[Array]) -> tuple[Array, ...]:
    """y[t] = y[t-1] . x[t] of elements with one leaf or several, time first.

    Beyond `WHOLE` steps by associativity, in float64: parts by themselves, then each after all that is before it.
    """

    def combine(left: Sequence[Array], right: Sequence[Array]) -> Sequence[Array]:
        if len(left) == 1:
            return (function(left[0], right[0]),)
        return tuple(function(tuple(left), tuple(right)))

    if len(leaves[0]) <= WHOLE:
        return _combined(combine, leaves)
    count = len(leaves[0]) // PART
    cut = count * PART
    alone = _combined(combine, [x[:cut].reshape(count, PART, *x.shape[1:]).swapaxes(0, 1) for x in leaves])
    totals = _combined(combine, [x[-1] for x in alone])
    results = [np.empty_like(x) for x in leaves]
    for t in range(PART):
        mine = [x[t] for x in alone]
        moved = combine([x[:-1] for x in totals], [x[1:] for x in mine])
        for out, first, rest in zip(results, mine, moved, strict=True):
            out[t] = first[0]
            out[PART + t : cut : PART] = rest
    last = [x[cut - 1] for x in results]
    for t in range(cut, len(leaves[0])):
        last = list(combine(last, [x[t] for x in leaves]))
        for out, state in zip(results, last, strict=True):
            out[t] = state
    return tuple(results)


def _walk(a: Array, b: Array, times: Product, start: Array | None = None) -> Array:
    h = np.empty(b.shape, b.dtype)
    state = np.zeros_like(b[0]) if start is None and len(b) else start
    for t in range(len(b)):
        state = times(a[t], state) + b[t]
        h[t] = state
    return h


def _last(a: Array, b: Array, times: Product) -> Array:
    state = np.zeros_like(b[0])
    for t in range(len(b)):
        state = times(a[t], state) + b[t]
    return state


def _combined(combine: Combine, leaves: Sequence[Array]) -> tuple[Array, ...]:
    results = tuple(np.empty_like(x) for x in leaves)
    state: Sequence[Array] = [x[0] for x in leaves]
    for t in range(len(leaves[0])):
        if t:
            state = combine(state, [x[t] for x in leaves])
        for out, each in zip(results, state, strict=True):
            out[t] = each
    return results


# --- errors -------------------------------------------------------------------------------------------------------------------


def held_against(
    answer: Array,
    exact: Array,
    dtype: str,
    what: str,
    roundings: float = ROUNDINGS,
    stored: float | None = None,
) -> float:
    """The largest error of an answer, relative to the largest number of the exact one.

    An element may be off by `roundings` of the largest number, in the precision that states are carried in, which is single
    for half; and, where results are stored in half precision, by two of its own roundings (a gradient is a product of two
    such numbers). What is more raises.
    """
    if answer.shape != exact.shape:
        raise WrongAnswerError(f"{what}: its shape is {answer.shape}, and {exact.shape} is right")
    half = dtype in HALF
    allowed = roundings * epsilon("float32" if half else dtype)
    own = (2 * epsilon(dtype) if half else 0.0) if stored is None else stored
    largest = max((float(np.max(np.abs(x))) for x in _blocks(exact)), default=0.0) or 1.0
    error = excess = 0.0
    for found, right in zip(_blocks(answer), _blocks(exact), strict=True):
        with np.errstate(invalid="ignore"):
            off = np.abs(found - right)
        if not np.isfinite(off).all():
            raise WrongAnswerError(f"{what}: it holds numbers that are NaN or infinite")
        error = max(error, float(np.max(off)) / largest)
        if own:
            off -= own * np.abs(right)
        excess = max(excess, float(np.max(off)) / largest)
    if excess > allowed:
        of_its_own = f" besides {own:.2g} of each number" if own else ""
        raise WrongAnswerError(
            f"{what}: the error is {error:.2g} of the largest number, and {allowed:.2g} is allowed{of_its_own}"
        )
    return error


def _blocks(x: Array) -> list[Array]:
    flat = x.reshape(-1)
    return [flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK)]
