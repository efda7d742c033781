"""A solution beside the definition, on a prefix."""

from __future__ import annotations

import math
from typing import Any

from seqpar.solving import agreement
from seqpar.solving.canonical import Canonical
from seqpar.solving.rows import host
from seqpar.solving.sequential import walked

ROUGHLY = 64.0
"""Units of rounding that two orders of the same sums may differ by."""


def compare(solution: Any, steps: int, tol: float | None) -> tuple[int, float, bool]:
    """Steps compared, largest difference relative to max(1, |h|), and whether that is little."""
    problem: Canonical = solution.problem
    rec = problem.recurrence
    xp, steps = rec.xp, min(steps, rec.steps)
    if steps == 0 or rec.batch == 0:
        return 0, 0.0, True
    expected = walked(rec.part(0, steps), rec.stepper())
    back = tuple(problem.order.index(i) for i in range(len(problem.order)))
    found = xp.reshape(xp.permute_dims(solution.states, back), (rec.batch, rec.steps, rec.state))
    found = (xp.flip(found, axis=1) if problem.reverse else found)[:, :steps, ...]
    apart = agreement.distance(xp, found, expected) / agreement.size(xp, expected)
    error = float(host(xp.max(apart)))
    if tol is None:
        estimate = float(xp.max(solution.error_estimate))
        tol = max(
            ROUGHLY * agreement.epsilon(xp, expected.dtype), estimate if math.isfinite(estimate) else 0.0
        )
    return steps, error, error <= tol
