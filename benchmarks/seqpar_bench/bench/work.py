"""What a worker's process does with a problem of `seqpar bench`: numbers, contestants, answers that are checked, and times.

`seqpar_autotune.worker_process` makes a `BenchWork` and hands requests on; `seqpar_bench.bench.contest` asks them. A contestant
is named by a `Candidate`: the framework in place of a backend, its name in place of a method.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

from seqpar_autotune.candidates import Candidate
from seqpar_autotune.measuring import Sampler
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.verification import Checked
from seqpar_bench.bench.frames import Frame, NumPy, frames
from seqpar_bench.bench.limits import limits
from seqpar_bench.bench.problem import Call, Contestant, Problem, WrongAnswerError

CALM = 3e-3
"""Seconds between one contestant and the next."""
WAY = "seqpar_bench.bench.work:BenchWork"


class BenchWork:
    """One problem at a time."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, str], Frame] = {}

    def do_prepare(self, workload: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Make the numbers; say who takes part, and who does not and why."""
        self.problem = Problem.from_dict(workload["problem"])
        self._made: dict[Candidate, Call] = {}
        self._samplers: dict[Candidate, Sampler] = {}
        self._known: dict[Candidate, tuple[Frame, Contestant]] = {}
        problem, device = self.problem, workload["device"]
        found: list[dict[str, Any]] = []
        asked = [name for name in workload["frameworks"] if name in (problem.frameworks or [name])]
        here = [frame for frame in frames(device) if frame.name in asked]
        there = []
        for frame in here:
            why = frame.missing() or ("has no " + problem.dtype if problem.dtype in frame.lacks else "")
            if why:
                absent = {"framework": frame.name, "name": frame.title, "kind": "peer"}
                found.append({**absent, "missing": why, "left out": ""})
            else:
                there.append(frame)
        if there:
            # What a host can do NumPy tells, also where it takes no part itself.
            measure = NumPy(device) if device == "cpu" else there[0]
            found += [self._entered(measure, limit) for limit in limits(problem, measure)]
        for frame in there:
            found += [self._entered(frame, contestant) for contestant in problem.contestants(frame)]
        return {"contestants": found, "nbytes": problem.nbytes, "flops": problem.flops}

    @property
    def _dtypes(self) -> tuple[str, ...]:
        """What results may be of: the problem's dtype, and of complex problems the real one of norms and residuals."""
        dtype = self.problem.dtype
        return dtype, {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)

    def _entered(self, frame: Frame, contestant: Contestant) -> dict[str, Any]:
        self._known[Candidate(frame.name, contestant.name)] = (frame, contestant)
        return {
            "framework": frame.name,
            "name": contestant.name,
            "kind": contestant.kind,
            "missing": missing(contestant),
            "left out": left_out(contestant, self.problem),
        }

    def do_solve(self) -> None:
        """The answer in float64."""
        self.problem.solve()

    def do_check(self, candidate: dict[str, Any]) -> dict[str, Any]:
        """Run it once and hold its answer against float64. The message of what is right says what ran."""
        frame, contestant, call = self._contestant(Candidate.from_dict(candidate))
        results = call()
        if contestant.kind == "limit":
            return Checked(Verdict.OK).to_dict()
        results = contestant.read(results)
        if odd := [name for x in results if (name := frame.binding.dtype_name(x.dtype)) not in self._dtypes]:
            return Checked(Verdict.WRONG, f"gives {odd[0]}, not {self.problem.dtype}").to_dict()
        answer = tuple(frame.numpy(x) for x in results)
        try:
            loosely = {"loose": True} if contestant.loose else {}
            error = self.problem.check(answer, **loosely)
        except WrongAnswerError as wrong:
            return Checked(Verdict.WRONG, str(wrong)).to_dict()
        for number, (x, given) in enumerate(
            zip(self.problem.arrays(frame), self.problem.given, strict=True), start=1
        ):
            # The next one would compute with other numbers.
            if not np.array_equal(frame.binding.on_host(x), given, equal_nan=given.dtype.kind in "fc"):
                return Checked(Verdict.WRONG, f"writes into its operand {number}").to_dict()
        return Checked(Verdict.OK, contestant.ran(), error).to_dict()

    def do_warm(self, candidate: dict[str, Any]) -> dict[str, Any] | None:
        """Make ready for timing; what the check finds then, since some are right once and wrong after many calls."""
        sampler = self._sampler(Candidate.from_dict(candidate))
        if sampler.warm:
            return None
        sampler.warm_up()
        return self.do_check(candidate)

    def do_time(self, candidate: dict[str, Any]) -> float:
        """Seconds of one call; one sample."""
        sampler = self._sampler(Candidate.from_dict(candidate))
        # Threads of whoever ran before wait for more at full speed, for a few milliseconds, and take the cores meanwhile.
        time.sleep(CALM)
        return sampler.sample()

    def _contestant(self, candidate: Candidate) -> tuple[Frame, Contestant, Call]:
        frame, contestant = self._known[candidate]
        if candidate not in self._made:
            self._made[candidate] = contestant.make()
        return frame, contestant, self._made[candidate]

    def _sampler(self, candidate: Candidate) -> Sampler:
        if candidate not in self._samplers:
            frame, _, call = self._contestant(candidate)
            # Which device an array is on says whose clock counts.
            sets = [(frame.array(np.zeros(1, np.float32)),)]
            self._samplers[candidate] = Sampler(frame.binding, lambda _: call(), sets)
        return self._samplers[candidate]


def absence(contestant: Contestant, problem: Problem) -> str:
    """Why a contestant takes no part in a problem, "" if it does."""
    return missing(contestant) or left_out(contestant, problem)


def missing(contestant: Contestant) -> str:
    """What it needs that is not installed, with the line that installs it."""
    gone = [name for name in contestant.requires if not _is_there(name)]
    return f"not installed: pip install {contestant.install or ' '.join(gone)}" if gone else ""


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def left_out(contestant: Contestant, problem: Problem) -> str:
    """Why it is not worth trying here."""
    if contestant.left_out:
        return contestant.left_out
    if contestant.longest is not None and problem.length > contestant.longest:
        return f"takes too long beyond {contestant.longest:,} steps"
    return ""
