"""`seqpar.explain`: what would run for a call, and why everything else would not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seqpar.dispatch.choice import Choice, choose
from seqpar.dispatch.faces import prepare
from seqpar.dispatch.problem import Problem


@dataclass(frozen=True, repr=False)
class Explanation:
    """A problem, the choice made for it, and every candidate. Prints as a short table."""

    problem: Problem
    choice: Choice

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
        for candidate in sorted(self.choice.candidates, key=lambda c: (c.refusal is not None, c.rank)):
            if candidate.kernel is self.choice.kernel:
                continue
            why = candidate.refusal or f"ranks lower ({candidate.rank:g})"
            lines.append(f"  not {candidate.label}: {why}")
        return "\n".join(lines)


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
    return Explanation(problem, choose(problem, call.request))
