"""Many problems one after the other: a contest for each, within a time if there is one, and a `Run` that is whole at any moment.

Called by the command. Ctrl-C ends it with what was found so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from seqpar.dispatch.preset import Grade
from seqpar.errors import SeqparError
from seqpar_autotune.worker import Worker
from seqpar_bench.bench.contest import Contest, Effort, Wanted
from seqpar_bench.bench.hardware import memory_left
from seqpar_bench.bench.limits import COPY, PRODUCT, product_dtype
from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.row import Row, Run
from seqpar_bench.bench.watching import Display

EFFORTS: dict[Grade, Effort] = {
    "quick": Effort(seconds=1.0, rounds=7),
    "default": Effort(seconds=5.0, rounds=15),
    "exhaustive": Effort(seconds=15.0, rounds=31),
}
ANSWERING: dict[Grade, float] = {"quick": 20.0, "default": 60.0, "exhaustive": 240.0}
"""Seconds that a contestant may take to answer, compiling included."""
SWEPT: dict[Grade, float] = {"quick": 0.25, "default": 2.0, "exhaustive": 8.0}
"""Seconds of one call from which on a contestant takes no part in longer problems of a sweep."""
SHARE = 0.5
"""Of the memory that nobody uses, for one problem."""
OURS_FAIL = ("wrong", "crash", "timeout", "memory", "compile", "unstable")


@dataclass
class Session:
    """A run that is under way."""

    run: Run
    grade: Grade = "default"
    wanted: Wanted = field(default_factory=Wanted)
    effort: Effort | None = None
    seconds: float | None = None
    """For everything, all devices together; problems that no time is left for are left out."""
    display: Display = field(default_factory=Display)
    keep: Callable[[], None] = lambda: None
    """Called after each problem: whoever is killed later has its rows."""
    _copied: dict[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    def measure(self, problems: Sequence[Problem], device: str) -> None:
        """All problems on one device, in their order."""
        start, before = self.clock(), self.run.elapsed
        self.display.begin(len(problems), device)
        slow: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
        try:
            with Worker(device, limit=ANSWERING[self.grade]) as worker:
                for number, problem in enumerate(problems):
                    left = None if self.seconds is None else self.seconds - before - (self.clock() - start)
                    if left is not None and left <= 0:
                        self.run.left_out += [f"{p}: no time was left" for p in problems[number:]]
                        break
                    if problem.memory > SHARE * memory_left():
                        gib = problem.memory / 2**30
                        self.run.left_out.append(f"{problem}: takes {gib:.1f} GiB of memory")
                        continue
                    self.display.problem(problem, number)
                    effort = _effort(self._effort, left, len(problems) - number)
                    # A sweep goes on to longer problems without those that were slow before.
                    known = slow.setdefault((problem.operation, problem.sweep, problem.which), {})
                    rows = self._rows(problem, device, worker, known, effort)
                    self.run.rows += rows
                    self.run.elapsed = before + self.clock() - start
                    self.keep()
                    self.display.done(problem, rows)
        finally:
            self.run.elapsed = before + self.clock() - start

    @property
    def _effort(self) -> Effort:
        return self.effort or EFFORTS[self.grade]

    def _rows(
        self,
        problem: Problem,
        device: str,
        worker: Worker,
        slow: dict[tuple[str, str], str],
        effort: Effort,
    ) -> list[Row]:
        wanted, skip = self.wanted, {}
        if problem.sweep:
            wanted, skip = replace(wanted, peers=False, kernels=False), slow
        contest = Contest(
            problem, device, worker, wanted, effort, skip=skip, clock=self.clock, watcher=self.display
        )
        try:
            rows = contest.rows()
        except SeqparError as error:
            self.run.troubles.append(f"{problem}: {error}")
            return []
        for row in rows:
            if problem.sweep and row.kind != "limit" and (row.median or 0.0) > SWEPT[self.grade]:
                slow[row.framework, row.name] = f"took {row.median:.2g} s at {row.length:,}"
            if row.kind in ("seqpar", "kernel") and row.verdict in OURS_FAIL:
                self.run.troubles.append(f"{problem}, {row.framework} {row.name}: {row.verdict}: {row.note}")
        self._limits(problem, device, rows)
        return rows

    def _limits(self, problem: Problem, device: str, rows: Sequence[Row]) -> None:
        """What a roofline is drawn with: the copy of most bytes, which no cache holds, and the best product of each precision."""
        known = self.run.limits.setdefault(device, {})
        for row in rows:
            if row.kind != "limit" or not row.timed:
                continue
            if row.name == COPY and row.bandwidth:
                if (row.nbytes or 0) >= self._copied.get(device, 0):
                    self._copied[device] = row.nbytes or 0
                    known["copy"] = row.bandwidth
            elif row.name == PRODUCT and row.rate:
                dtype = product_dtype(problem)
                known[dtype] = max(known.get(dtype, 0.0), row.rate)


def _effort(effort: Effort, left: float | None, problems: int) -> Effort:
    """Less where time is short: half of a problem's share goes to checks and compilers."""
    return effort if left is None else replace(effort, seconds=min(effort.seconds, left / problems / 2))
