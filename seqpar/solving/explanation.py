"""What `seqpar.explain` says of `solve_recurrence`: the prediction that a choice was made by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.options import Request, laid_over
from seqpar.solving.automatic import Plan, plan
from seqpar.solving.bindings import solver_of
from seqpar.solving.canonical import Canonical
from seqpar.solving.checks import check_step
from seqpar.solving.configs import ShootingConfig
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.tuned import NAME, problem_of
from seqpar.solving.wish import Wish


@dataclass(frozen=True, repr=False)
class RecurrenceExplanation:
    """The method that `solve_recurrence` would start with, and why. Prints as a short table."""

    problem: str
    method: str
    reason: str
    predictions: tuple[tuple[str, float], ...]
    """Predicted times, of which only the ratios mean anything."""
    rate: float | None
    """Logarithm of what is left of a difference after one step, as the probe measured it."""
    memory: float | None
    """Steps after which the start of a walk no longer matters."""
    config: Any
    provenance: str
    backend: str = "reference"
    """Steps of a user's run as code of their framework."""
    closest: Any = None
    """Where nothing stored answered: the stored result of the most similar problem, and what is otherwise about it."""
    refused: tuple[str, ...] = ()
    """Of a cell the kernels that do not take the call, and why."""

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [self.problem, f"  runs: {self.method} ({self.provenance}): {self.reason}"]
        if self.memory is not None and self.rate is not None:
            lines.append(f"  probe: forgets in {self.memory:.0f} steps, rate {self.rate:.2g} a step")
        if self.predictions:
            least = min(cost for _, cost in self.predictions)
            told = ", ".join(f"{name} {cost / least:.2g}" for name, cost in self.predictions)
            lines.append(f"  predicted times, relative: {told}")
        if self.closest is not None:
            lines.append(f"  closest stored result: {self.closest}")
        lines += [f"  not {kernel}" for kernel in self.refused]
        return "\n".join(lines)


def explanation(
    problem: Canonical, wish: Wish, request: Request, refused: tuple[str, ...] = ()
) -> RecurrenceExplanation:
    """What would run, and why; the automatic choice walks the first steps for it, as it would in the call."""
    return replace(_explanation(problem, wish, request), refused=refused)


def _explanation(problem: Canonical, wish: Wish, request: Request) -> RecurrenceExplanation:
    rec = problem.recurrence
    dtype = rec.binding.dtype_name(rec.h0.dtype)
    where = f"{rec.binding.framework} on {rec.binding.device(rec.h0)}"
    told = (
        f"solve_recurrence: {rec.batch} sequences of {rec.steps} steps, state {rec.state}, {dtype}, {where}"
    )
    if wish.method != "auto":
        return RecurrenceExplanation(
            told, wish.method, "as asked", (), None, None, wish.config, request.source
        )
    by_shapes = solver_of(rec.binding).plan_by_shapes(rec, wish)
    if by_shapes is not None:
        method, knobs, reason = by_shapes
        where_from = _provenance(wish)
        return RecurrenceExplanation(
            told, method, reason, (), None, None, knobs, where_from, closest=_closest(rec, wish)
        )
    if 0 in (rec.steps, rec.batch):
        return RecurrenceExplanation(
            told, "sequential", "there is nothing to solve", (), None, None, None, "heuristic"
        )
    with laid_over(Request(backend=request.backend, numerics=request.numerics)):
        stepper = rec.stepper()
        check_step(rec, stepper)
        found: Plan = plan(rec, stepper, wish)
    config = ShootingConfig(chunk=found.chunk, burn_in=found.burn_in) if found.chunk else None
    rate, memory = (None, None) if found.probe is None else (found.probe.rate, found.probe.memory)
    return RecurrenceExplanation(
        told,
        found.method,
        found.reason,
        found.predictions,
        rate,
        memory,
        config,
        _provenance(wish),
        closest=_closest(rec, wish),
    )


def _provenance(wish: Wish) -> str:
    row = None if wish.decision is None else wish.decision.row
    return "heuristic" if row is None else str(row.provenance)


def _closest(rec: Recurrence, wish: Wish) -> Any:
    """The stored result that comes nearest, where there are some and none was followed."""
    device = rec.binding.device(rec.h0)
    if wish.decision is not None or not store.any_of(NAME, rec.binding.framework, device):
        return None
    from seqpar.dispatch.closest import closest

    problem = problem_of(rec)
    return None if problem is None else closest(problem)
