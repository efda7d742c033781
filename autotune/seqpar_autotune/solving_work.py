"""What a worker's process does with a `SolveWorkload`: the recurrence with its numbers, the answer in double precision, calls.

A candidate is verified on the very problem, since whether it converges depends on the length of time: every sequence has to
have passed the method's own test, and the states have to be those of walking in float64, to rounding and the stated error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.solving import agreement
from seqpar.solving.bindings import solver_of
from seqpar.solving.eligible import refusal
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.sequential import sequential
from seqpar.solving.wish import Wish

from .candidates import Candidate
from .measuring import Sampler, clock_of
from .solving_candidates import config_of, wish_of
from .solving_workload import SolveWorkload
from .verdict import Verdict
from .verification import Checked

ROUGHLY = 64.0
"""Units of rounding that two orders of the same sums may differ by, beside what walking in this precision is off itself."""
NOISE = 4.0
"""Times the error of walking in this precision: chaos makes of a last bit what it likes, and no other answer is asked for."""
LOUD = 1e4
"""Units of rounding that a method may say it is off by."""


class SolvingWork:
    """One workload at a time; `seqpar_autotune.worker_process` hands requests on."""

    def do_prepare(self, workload: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.workload: SolveWorkload = SolveWorkload.from_dict(workload)
        self.recurrence = self.workload.recurrence()
        self.binding = self.recurrence.binding
        self.exact: Any = None
        self.samplers: dict[Candidate, Sampler] = {}
        return {"clock": clock_of(self.binding, (self.recurrence.h0,)), "sets": 1}

    def do_solve(self) -> None:
        """The states by the definition, and how far off they are in the precision at hand."""
        own = self._states(_walked(self.recurrence))
        self.exact = self._exactly(own)
        self.noise = _apart(own, self.exact)

    def do_check(self, candidate: dict[str, Any]) -> dict[str, Any]:
        return self._checked(Candidate.from_dict(candidate)).to_dict()

    def do_time(self, candidate: dict[str, Any]) -> float:
        return self._sampler(candidate).sample()

    def do_warm(self, candidate: dict[str, Any]) -> None:
        sampler = self._sampler(candidate)
        if not sampler.warm:
            sampler.warm_up()

    def _checked(self, candidate: Candidate) -> Checked:
        why = refusal(self.workload.problem, candidate.method, config_of(candidate))
        if why is not None:
            return Checked(Verdict.INVALID, why)
        solved = self._solved(candidate)
        on_host = self.binding.on_host
        bad = int((~np.asarray(on_host(solved.converged), bool)).sum())
        if bad:
            residual = float(np.max(on_host(solved.residual)))
            return Checked(Verdict.INVALID, f"{bad} sequences did not converge: residual {residual:.1e}")
        unit = agreement.epsilon(self.recurrence.xp, self.recurrence.h0.dtype)
        said = np.asarray(on_host(solved.error_estimate), float)
        said = np.where(said <= LOUD * unit, said, 0.0)
        bound = NOISE * self.noise + np.maximum(ROUGHLY * unit, said)
        error = _apart(self._states(solved), self.exact) / bound
        worst = float(error.max(initial=0.0))
        if worst <= 1.0:
            return Checked(Verdict.OK, "", worst)
        return Checked(Verdict.WRONG, f"{worst:.3g} times as far from walking in float64 as it may be", worst)

    def _solved(self, candidate: Candidate) -> Solved:
        return solver_of(self.binding).solve(self.recurrence, wish_of(candidate))

    def _sampler(self, candidate: dict[str, Any]) -> Sampler:
        given = Candidate.from_dict(candidate)
        if given not in self.samplers:
            sets = [(self.recurrence.h0,)]
            self.samplers[given] = Sampler(self.binding, lambda _: (self._solved(given).states,), sets)
        return self.samplers[given]

    def _states(self, solved: Solved) -> Any:
        found = np.array(self.binding.on_host(solved.states))
        return found.astype(np.complex128 if found.dtype.kind == "c" else np.float64)

    def _exactly(self, own: Any) -> Any:
        """In double precision where the step can be walked so: not with constants of its own precision, nor in a program."""
        if self.binding.posed_on(self.workload.device)[1]:
            return own
        try:
            return self._states(_walked(self.workload.recurrence("float64")))
        except Exception:  # whatever a step makes of numbers that it was not written for
            return own


def _walked(recurrence: Recurrence) -> Solved:
    if recurrence.binding.posed_on(recurrence.binding.device(recurrence.h0))[1]:
        return solver_of(recurrence.binding).solve(recurrence, Wish(method="sequential"))
    return sequential(recurrence, recurrence.stepper())


def _apart(left: Any, right: Any) -> Any:
    """Largest distance of each sequence, relative to max(1, |h|); equal where both are no numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(np.isfinite(left) & np.isfinite(right), abs(left - right), np.inf)
        apart = np.where((left == right) | (~np.isfinite(left) & ~np.isfinite(right)), 0.0, apart)
        size = np.maximum(1.0, np.where(np.isfinite(right), abs(right), 1.0))
        return (apart / size).reshape(len(left), -1).max(axis=1, initial=0.0)
