"""How far the states of a Newton method can be from the answer: the residual, carried through gains that its sweeps showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving.iteration import solution
from seqpar.solving.jacobians import Pattern, random_signs
from seqpar.solving.recurrence import Recurrence

FAR = 10.0
"""Updates and residuals relative to max(1, |h|) from which on an iterate says nothing about the neighbourhood of the answer."""
SAFETY = 4
"""Gains are measured along a few directions. Seen: estimates without this at half of the true error, never at a fourth."""


def error_estimate(
    xp: Any,
    updates: Sequence[Array],
    answered: Sequence[Array],
    gain: Array,
    residual: Array,
    rounding: float,
    tol: float,
    steps: int,
    left: int,
    exact: bool,
) -> Array:
    """The residual carried through measured gains; infinite where nothing was measured.

    In sweep i the update d_i answered the residual r_i. All that came after it, the sum of d_j for j >= i, is how far the
    states were from the answer when their residual was r_i. And if the iteration went on, its updates would go on falling
    as they did at last, each number of the state at its own rate; after as many sweeps as steps are left they end.

    updates: (batch, n) for each sweep, answered: (batch,), the largest of all steps relative to max(1, |h|); gain: (batch,),
    by `response`, 0 where it was not asked; residual: (batch,); left: the steps that were not exact before the last sweep; exact:
    is the whole Jacobian in use, so that the last update had almost none to follow?
    """
    r = xp.where(residual > rounding, residual, xp.full_like(residual, rounding))
    if steps == 1:
        return r
    # One update says what was answered; how much is to come, only the whole Jacobian knows by then.
    if len(updates) < (1 if exact else 2):
        return xp.full_like(r, float("inf"))
    amplified, later = gain, xp.zeros_like(r)
    near = xp.isfinite(r)
    for i, (d, at) in enumerate(zip(reversed(updates), reversed(answered), strict=True)):
        d = xp.max(d, axis=-1)
        at = xp.where(at > rounding, at, xp.full_like(at, rounding))
        near = near & ((i < 2) | ((d < FAR) & (at < FAR)))
        later = later + d
        amplified = xp.where(near, xp.maximum(amplified, later / at), amplified)
    error = r * amplified
    if not exact:
        last, before = updates[-1], updates[-2]
        rate = last / xp.where(before > 0, before, xp.ones_like(before))
        # Where the residual is small a rate over 1 is one of rounding; where it is not, the iteration runs away.
        rate = xp.where((rate < 1) | (residual > tol)[:, None], rate, xp.ones_like(rate))
        # The next update answers the residual that is left: where that is nothing, nothing is to come.
        following = xp.where(last * rate < error[:, None], last * rate, error[:, None])
        to_come = xp.where(following > 0, following * _geometric_sum(xp, rate, left), following)
        error = xp.where(residual > 0, xp.maximum(error, xp.max(to_come, axis=-1)), error)
    return SAFETY * error


def response(
    recurrence: Recurrence,
    pattern: Pattern,
    part: Array | None,
    h: Array,
    resets: Array | None,
    known: Array,
) -> Array:
    """How large the linearised states become, (batch,), that are pushed by 1 in every step; relative to max(1, |h|) both.

    Pushed always the same way, back and forth, and at random: rounding and what iterations leave is neither of them alone.
    A diagonal is taken by its size and pushed one way, which is the worst.
    """
    xp = recurrence.xp
    if part is None:
        return xp.zeros_like(h[:, 0, 0])
    size = xp.abs(h)
    size = xp.where(size > 1, size, xp.ones_like(size))
    if pattern.part == "diagonal":
        pushes = [size]
        part = xp.abs(part)
    else:
        turns = xp.astype(xp.arange(h.shape[1], device=device(h)) % 2, h.dtype)[None, :, None]
        pushes = [size, size * (1 - 2 * turns), size * random_signs(recurrence, tuple(h.shape), h, 0)]
    most = xp.zeros_like(h[:, 0, 0])
    for push in pushes:
        d = solution(xp, pattern, part, -push, resets, known)
        most = xp.maximum(most, xp.max(xp.max(xp.abs(d) / size, axis=-1), axis=-1))
    return most


def _geometric_sum(xp: Any, rate: Array, terms: int) -> Array:
    """1 + rate + rate^2 + ... of so many terms."""
    one = xp.ones_like(rate)
    near = xp.abs(rate - 1) < 1e-3
    away = xp.where(near, one * 0.5, rate)
    return xp.where(near, one * terms, (1 - away**terms) / (1 - away))
