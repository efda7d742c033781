"""How far the states of a Newton method can be from the answer: the residual, carried through gains that its sweeps showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.dispatch.problem import Array

FAR = 10.0
"""Updates and residuals relative to max(1, |h|) from which on an iterate says nothing about the neighbourhood of the answer."""
SAFETY = 4
"""Gains are measured along a few directions. Seen: estimates without this at half of the true error, never at a fourth."""


def error_estimate(
    xp: Any,
    updates: Sequence[Array],
    answered: Sequence[Array],
    residual: Array,
    rounding: float,
    steps: int,
    left: int,
) -> Array:
    """The residual carried through measured gains; infinite where nothing was measured.

    In sweep i the update d_i answered the residual r_i. All that came after it, the sum of d_j for j >= i, is how far the
    states were from the answer when their residual was r_i. And if the iteration went on, its updates would go on falling
    as they did at last, from the size that the residual has now; after as many sweeps as steps are left they end.

    updates, answered: (batch,) for each sweep, the largest of all steps, relative to max(1, |h|); residual: (batch,); left: the
    steps that were not exact before the last sweep.
    """
    r = xp.where(residual > rounding, residual, xp.full_like(residual, rounding))
    if steps == 1:
        return r
    if not updates:
        return xp.full_like(r, float("inf"))
    amplified = answer = later = xp.zeros_like(r)
    near = xp.isfinite(r)
    for i, (d, at) in enumerate(zip(reversed(updates), reversed(answered), strict=True)):
        at = xp.where(at > rounding, at, xp.full_like(at, rounding))
        near = near & ((i < 2) | ((d < FAR) & (at < FAR)))
        later = later + d
        amplified = xp.where(near, xp.maximum(amplified, later / at), amplified)
        answer = xp.where(near, xp.maximum(answer, d / at), answer)
    if len(updates) > 1:
        last, before = updates[-1], updates[-2]
        rate = last / xp.where(before > 0, before, xp.ones_like(before))
        amplified = xp.maximum(amplified, answer * _geometric_sum(xp, rate, left))
    return SAFETY * r * amplified


def _geometric_sum(xp: Any, rate: Array, terms: int) -> Array:
    """1 + rate + rate^2 + ... of so many terms."""
    one = xp.ones_like(rate)
    near = xp.abs(rate - 1) < 1e-3
    away = xp.where(near, one * 0.5, rate)
    return xp.where(near, one * terms, (1 - away**terms) / (1 - away))
