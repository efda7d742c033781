"""`tune_recurrence`: the method and the chunks of `solve_recurrence` for a step of the user's, by measurement.

Two searches per call. The first is among what `method="auto"` may follow, since it ends in the sequential answer: one step
after the other, or shooting with its knobs; what wins is stored, and calls that name neither method nor config take it from
then on. The second holds Newton's methods and the like against that choice. They are right to a tolerance, so that a win of
theirs is reported and not adopted.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqpar import explain, solve_recurrence
from seqpar.dispatch import store
from seqpar.dispatch.preset import GRADES, Grade
from seqpar.errors import BackendError, NotEligibleError, OptionError, unknown_name
from seqpar.solving.agreement import STATED
from seqpar.solving.tolerance import ROUNDING

from .budget import Budget, check_seconds
from .lab import Lab, MakeWorker, Tester, Tried
from .outcome import Outcome
from .progress import Display, display_for
from .report import Report, Tuned, text_of
from .rows import records_of
from .search import search
from .solving_candidates import choices, others, warm_points
from .solving_workload import SolveWorkload
from .space import Space
from .storage import optuna
from .store import Recorder
from .worker import Worker

SECONDS: dict[Grade, float] = {"quick": 10.0, "default": 40.0, "exhaustive": 240.0}
"""For one call."""
LIMITS: dict[Grade, float] = {"quick": 5.0, "default": 12.0, "exhaustive": 120.0}
"""Seconds that a candidate may take for one request."""
FIRST = 0.65
"""The part of the time that is for what can be adopted."""
EXPLORING = 0.7
"""The part of a search's time after which nothing is tried that was not tried before."""


@dataclass(frozen=True)
class Solved(Tuned):
    """One call: what `method="auto"` does from now on, and what else would have been faster."""

    others: Outcome | None = None
    """Of the second search, whose default is the choice of the first; None where there was none."""
    why_no_others: str = ""
    """What kept the second search from measuring anything."""

    @property
    def faster(self) -> str:
        """What would be faster if it were asked for; "" where nothing is, beyond the noise."""
        if self.others is None or not self.others.adopted or self.others.final is None:
            return ""
        point = self.others.choice
        method, eps = point.branch.partition(".")[2], float(np.finfo(_real(self.workload)).eps)
        tol = eps * (STATED if method == "shooting_newton" else ROUNDING)
        return f"method={method!r} ({text_of(point)}) would be {self.others.gain:.2f} times as fast, right to tol={tol:.1e}"

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "others": None if self.others is None else self.others.to_dict(),
            "faster": self.faster,
            "why_no_others": self.why_no_others,
        }


@dataclass(frozen=True, repr=False)
class SolvingReport(Report):
    """All calls of a run. Prints as the table of `tune`, and what users may ask for by name."""

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        for one in self.results:
            if isinstance(one, Solved) and one.faster:
                yield f"Not adopted, for its answer is not the sequential one: {one.workload.name}: {one.faster}."
            if isinstance(one, Solved) and one.why_no_others:
                yield f"Methods to be asked for by name were not measured: {one.workload.name}: {one.why_no_others}"


def tune_recurrence(
    step: Callable[..., Any],
    x: Any,
    h0: Any,
    params: Any = None,
    *,
    axis: int = -2,
    length: int | None = None,
    reverse: bool = False,
    resets: Any = None,
    preset: Grade = "default",
    seconds: float | None = None,
    seed: int = 0,
    progress: str | Display | None = None,
    directory: str | Path | None = None,
    imports: Sequence[str] = (),
    worker: MakeWorker = Worker,
    clock: Callable[[], float] = time.monotonic,
) -> SolvingReport:
    """Measure methods and chunks for a call of `solve_recurrence` with a step of yours, and have `method="auto"` follow that.

    The result serves calls with the same step and code, framework, device, dtypes, widths of state, inputs and parameters, for
    this batch and number of steps, and for those between sizes that were tuned. The numbers are no part of that: tune with
    typical ones. Where later ones forget more slowly, chunks are given up and the answer is the sequential one all the same.

    Parameters
    ----------
    step, x, h0, params, axis, length, reverse, resets
        As for `seqpar.solve_recurrence`. The step has to be at the top of a module: another process imports it. Functions that
        it calls are no part of its identity; tune again when they change what it costs.
    preset, seconds
        "quick", "default" or "exhaustive": how carefully, and for how long, 10, 40 or 240 seconds by default.
    seed, progress, directory, imports
        As for `tune`.

    Returns
    -------
    A report. It prints as a table, with what other methods would bring if they were asked for.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from seqpar_autotune.solving import tune_recurrence
    >>> from seqpar_autotune.solving_steps import elman, elman_numbers
    >>> with tempfile.TemporaryDirectory() as directory:  # leave it out, and calls run what was found
    ...     report = tune_recurrence(elman, **elman_numbers(1, 300, n=4), seconds=1, directory=directory)
    >>> report.gain >= 1
    True
    """
    with tempfile.TemporaryDirectory(prefix="seqpar-") as folder:
        workload = SolveWorkload.with_numbers(
            step, x, h0, params, file=Path(folder) / "numbers", axis=axis, length=length, reverse=reverse, resets=resets
        )  # fmt: skip
        # What is wrong with the call is said as the call itself would say it, and not by a process that dies of it.
        explain(
            solve_recurrence, step, x, h0, params, axis=axis, length=length, reverse=reverse, resets=resets
        )
        return tune_workloads(
            [workload],
            preset=preset,
            seconds=seconds,
            seed=seed,
            progress=progress,
            directory=directory,
            imports=imports,
            worker=worker,
            clock=clock,
        )


def tune_workloads(
    workloads: Iterable[SolveWorkload],
    *,
    preset: Grade = "default",
    seconds: float | None = None,
    seed: int = 0,
    progress: str | Display | None = None,
    directory: str | Path | None = None,
    imports: Sequence[str] = (),
    worker: MakeWorker = Worker,
    clock: Callable[[], float] = time.monotonic,
) -> SolvingReport:
    """The same for several calls, each for so many seconds."""
    if preset not in GRADES:
        raise unknown_name("tune_recurrence", "preset", str(preset), set(GRADES))
    if seconds is not None:
        check_seconds("tune_recurrence", seconds)
    optuna()  # says what is missing before anything is started
    given, display, start = list(workloads), display_for(progress), clock()
    each = SECONDS[preset] if seconds is None else seconds
    results: list[Tuned] = []
    interrupted = False
    with Lab(worker, LIMITS[preset], imports) as lab, display:
        display.begin(given, each * len(given))
        try:
            for workload in given:
                found = _One(workload, lab, preset, each, seed, directory, display, clock).found()
                results.append(found)
                display.done(found)
                interrupted = any(
                    one is not None and one.why == "interrupted" for one in (found.outcome, found.others)
                )
                if interrupted:
                    break
        except KeyboardInterrupt:
            interrupted = True
        left = given[len(results) :]
        report = SolvingReport(
            results=(*results, *(Solved(one, note="not finished: interrupted") for one in left)),
            preset=preset,
            seconds=each * len(given),
            elapsed=clock() - start,
            seed=seed,
            interrupted=interrupted,
        )
        display.end(report)
    return report


@dataclass
class _One:
    """One call of a run."""

    workload: SolveWorkload
    lab: Lab
    preset: Grade
    seconds: float
    seed: int
    directory: str | Path | None
    display: Display
    clock: Callable[[], float]

    def found(self) -> Solved:
        """What both searches find; where nothing can be measured a note says why."""
        start = self.clock()
        try:
            space = choices(self.workload.problem)
            self.display.workload(self.workload, space.size, self.seconds, None)
            worker = self.lab.worker(self.workload)
            worker.prepare(self.workload, self.seed)
            result = self._searched(space, worker, self._left(start, FIRST))
            if result.outcome is not None and result.outcome.why != "interrupted":
                result = self._with_others(result, result.outcome, worker, self._left(start, 1.0))
        except (BackendError, NotEligibleError, OptionError) as error:
            return Solved(self.workload, note=f"not measured: {error}", elapsed=self.clock() - start)
        return replace(result, elapsed=self.clock() - start)

    def _left(self, start: float, part: float) -> float:
        return max(part * self.seconds - (self.clock() - start), 0.1 * self.seconds)

    def _searched(self, space: Space, worker: Tried, seconds: float) -> Solved:
        recorder = self._recorder(worker)
        with recorder or nullcontext():
            tester = self._tester(space, worker, recorder, seconds)
            outcome = tester.written(self._hunt(seconds)(tester.space, tester, warm=self._warm()))
        note = "" if recorder is not None and not recorder.unwritten else "not written"
        return Solved(self.workload, outcome=outcome, note=note)

    def _with_others(self, result: Solved, first: Outcome, worker: Tried, seconds: float) -> Solved:
        """The second search beside the first, whose outcome stands whatever becomes of this one: it is in the store."""
        try:
            rest = others(self.workload.problem, first.choice)
            return replace(result, others=self._others(rest, worker, result.note, seconds))
        except (BackendError, NotEligibleError, OptionError) as error:
            return replace(result, why_no_others=str(error))

    def _others(self, space: Space, worker: Tried, note: str, seconds: float) -> Outcome:
        """Beside the choice. Rows of it are for the record: none decides."""
        tester = self._tester(space, worker, None, seconds)
        outcome = tester.written(self._hunt(seconds)(tester.space, tester))
        recorder = self._recorder(worker) if not note else None
        with recorder or nullcontext():
            for record in records_of(outcome):
                if recorder is not None and f"{record.backend}.{record.method}" != space.default.branch:
                    recorder.write(replace(record, adopted=False, kept=False))
        return outcome

    def _hunt(self, seconds: float) -> Callable[..., Outcome]:
        return partial(
            search,
            budget=Budget(seconds=seconds),
            seed=self.seed,
            rigor=self.preset,
            study=self.workload.name,
            observe=self.display.round,
            clock=self.clock,
        )

    def _tester(self, space: Space, worker: Tried, recorder: Recorder | None, seconds: float) -> Tester:
        until = self.clock() + EXPLORING * seconds
        # What hangs or crashes does so for this call.
        name = self.workload.name
        return Tester(self.lab, worker, name, space, recorder, self.display, until, self.clock)

    def _warm(self) -> Any:
        return warm_points(self.workload.problem)

    def _recorder(self, worker: Tried) -> Recorder | None:
        profile = store.profile_for(self.workload.framework, self.workload.device)
        if profile is None:
            return None
        return Recorder(
            self.workload.operation,
            self.workload.problem,
            profile,
            self.directory,
            policy={**worker.policy, "memory": "warm"},
            rigor=self.preset,
            sampler=f"tpe:seed={self.seed}",
        )


def _real(workload: Any) -> str:
    """The precision of the states' parts; half types are walked in their own."""
    dtype = str(workload.problem.dtypes[0])
    return {"complex64": "float32", "complex128": "float64", "bfloat16": "float16"}.get(dtype, dtype)


def geometric_mean(gains: Iterable[float]) -> float:
    """Of gains that are finite; 1 where there are none.

    >>> geometric_mean([2.0, 8.0])
    4.0
    """
    logs = [math.log(gain) for gain in gains if math.isfinite(gain)]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0
