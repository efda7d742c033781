"""`seqpar.explain`: what would run for a call, and why everything else would not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqpar.dispatch import store
from seqpar.dispatch.choice import Choice, choose, stored_config
from seqpar.dispatch.faces import prepare
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.row import Row

if TYPE_CHECKING:
    from seqpar.dispatch.closest import Closest


@dataclass(frozen=True, repr=False)
class Explanation:
    """A problem, the choice made for it, and every candidate. Prints as a short table."""

    problem: Problem
    choice: Choice
    closest: "Closest | None" = None
    """Where nothing stored answered: the stored result of the most similar problem, and what is otherwise about it."""
    passed_over: tuple[str, ...] = ()
    """Stored results for this problem that cannot serve it, each with the reason."""

    @property
    def backend(self) -> str:
        return self.choice.kernel.backend

    @property
    def method(self) -> str:
        return self.choice.kernel.method

    @property
    def config(self) -> Any:
        return self.choice.config

    @property
    def provenance(self) -> str:
        return self.choice.provenance

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [str(self.problem), f"  runs: {self.choice}"]
        if self.choice.row is not None:
            lines.append(f"  because: {grounds(self.choice.row)}")
        lines += [f"  stored, and of no use: {what}" for what in self.passed_over]
        if self.closest is not None:
            lines.append(f"  closest stored result: {self.closest}")
        for candidate in sorted(self.choice.candidates, key=lambda c: (c.refusal is not None, c.rank)):
            if candidate.kernel is self.choice.kernel:
                continue
            why = candidate.refusal or f"ranks lower ({candidate.rank:g})"
            if candidate.refusal is None and self.choice.row is not None:
                why = "measured slower, or not measured"
            lines.append(f"  not {candidate.label}: {why}")
        return "\n".join(lines)


def explained(problem: Problem, choice: Choice, numerics: str = "any") -> Explanation:
    """A choice with what the store has to say about it."""
    if choice.provenance in ("explicit", "overlay"):
        return Explanation(problem, choice)
    from seqpar.dispatch.closest import closest

    passed = []
    for row in store.lookup(problem, numerics):
        if choice.row is not None and row.origin == choice.row.origin:
            break
        kernels = [c.kernel for c in choice.candidates if c.kernel.label == f"{row.backend}.{row.method}"]
        why = stored_config(row, kernels[0], problem)[1] if kernels else "there is no such kernel here"
        passed.append(f"{row.label} ({row.origin}): {why or 'its kernel was ruled out'}")
    missed = closest(problem) if choice.row is None else None
    return Explanation(problem, choice, missed, tuple(passed))


def grounds(row: Row) -> str:
    """Why a stored result is believed, in words."""
    measured = "measured" if row.ratio is None else f"measured at {row.ratio:.2f} of the default's time"
    if row.kept:
        measured = "measured, and nothing beat this default"
    noise = "" if row.noise is None else f", noise {row.noise:.1%}"
    when = f" on {row.when[:10]}" if row.when else ""
    sizes = f" for (outer={row.sizes[0]}, time={row.sizes[1]}, inner={row.sizes[2]})"
    where = f", with {', '.join(row.elsewhere)}" if row.elsewhere else ""
    return f"{measured}{noise}{when}{sizes if row.provenance == 'nearest' else ''}{where} ({row.origin})"


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Say what a call would run and why, without running it.

    For operations on arrays this is an `Explanation`: the kernel, and every candidate with the reason it lost. For
    `seqpar.solve_recurrence` it is what the first steps showed (they are walked for it) and the prediction for each method.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> a = b = np.ones((4, 100, 8), np.float32)
    >>> why = seqpar.explain(seqpar.linear_recurrence, a, b)
    >>> why.backend, why.method, why.provenance
    ('host', 'sequential', 'heuristic')
    """
    call = prepare(function, *args, **kwargs)
    if hasattr(call, "explanation"):
        return call.explanation()
    problem = call.problem()
    return explained(problem, choose(problem, call.request), call.request.numerics)
