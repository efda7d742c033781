"""A solution beside the definition, on a prefix."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.cells.solving import Posed
from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.canonical import Canonical
from seqpar.solving.rows import host
from seqpar.solving.sequential import walked

ROUGHLY = 64.0
"""Units of rounding that two orders of the same sums may differ by."""


def compare(solution: Any, steps: int, tol: float | None) -> tuple[int, float, float, bool]:
    """Steps compared, largest difference relative to max(1, |h|), the tolerance, and whether it is kept."""
    both = of_cell if isinstance(solution.problem, Posed) else of_step
    xp, steps, found, expected = both(solution, steps)
    if 0 in expected.shape[:2]:
        return 0, 0.0, 0.0 if tol is None else tol, True
    apart = xp.max(agreement.distance(xp, found, expected) / agreement.size(xp, expected), axis=1)
    errors = host(apart)
    if tol is not None:
        return steps, float(errors.max()), tol, bool((errors <= tol).all())
    unit = agreement.epsilon(xp, expected.dtype)
    estimates = host(solution.error_estimate).reshape(-1)
    # An estimate that says nothing excuses nothing.
    says = estimates <= agreement.LOUD * agreement.STATED * unit
    allowed = np.maximum(ROUGHLY * unit, np.where(says, estimates, 0.0))
    return steps, float(errors.max()), float(allowed.max()), bool((errors <= allowed).all())


def of_step(solution: Any, steps: int) -> tuple[Any, int, Array, Array]:
    """The first steps of a solution and of the definition: (batch, steps, n)."""
    problem: Canonical = solution.problem
    rec = problem.recurrence
    xp, steps = rec.xp, min(steps, rec.steps)
    if steps == 0 or rec.batch == 0:
        return xp, 0, solution.states, rec.h0[:0, None, :]
    expected = walked(rec.part(0, steps), rec.stepper())
    back = tuple(problem.order.index(i) for i in range(len(problem.order)))
    found = xp.reshape(xp.permute_dims(solution.states, back), (rec.batch, rec.steps, rec.state))
    found = (xp.flip(found, axis=1) if problem.reverse else found)[:, :steps, ...]
    return xp, steps, found, expected


def of_cell(solution: Any, steps: int) -> tuple[Any, int, Array, Array]:
    """The same of a cell, by its kernel's own walk, step by step, which chunks equal to the bit."""
    problem: Posed = solution.problem
    form = problem.route.form
    xp, steps = problem.route.binding.namespace(problem.x), min(steps, form.steps)
    return xp, steps, form.walked(xp, solution.states)[:, :steps, :], problem.walked(steps)
