"""One problem, everybody who solves it: checked one by one, then timed in shared rounds in another process. Gives rows.

The process is the tuner's `Worker`, which survives what crashes, hangs or spoils a device, and says who it was; the rounds are
the tuner's `Rounds`, which take out what the machine does to all times of a round alike.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from seqpar_autotune.candidates import Candidate
from seqpar_autotune.outcome import Failure, Reading
from seqpar_autotune.rounds import Rounds
from seqpar_autotune.space import Point
from seqpar_autotune.verification import Checked
from seqpar_autotune.worker import Worker
from seqpar_bench.bench.limits import COPY, PRODUCT, copied, operations
from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.row import Row, Verdict
from seqpar_bench.bench.work import WAY

Clock = Callable[[], float]
FEWEST = 3
"""Rounds at least."""
PLAIN = "reference."
NOT_QUICK = "array code, which --quick leaves out: give --backend reference"
SLOW = 0.4
"""Seconds from which on a call is in the first rounds only: its times are long enough to be trusted."""


class Watcher(Protocol):
    """Told what happens, for those who wait."""

    def contestant(self, name: str, doing: str) -> None:
        """Begins to be checked, or timed."""


@dataclass(frozen=True)
class Wanted:
    """Which contestants are asked for; empty means all."""

    backends: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ("numpy", "torch", "jax", "cupy")
    peers: bool = True
    """Are peers asked for? The framework's own way is measured all the same, since speed-ups are over it."""
    kernels: bool = True
    plain: bool = True
    """Is the array code that every framework runs asked for too, where nobody names it? Most of the time goes there."""

    def takes(self, kind: str, name: str) -> bool:
        if kind in ("limit", "own"):
            return True
        if kind == "peer":
            return self.peers
        backend, _, method = name.partition(".")
        if self.backends or self.methods:
            return kind == "kernel" and (
                (not self.backends or backend in self.backends)
                and (not self.methods or method in self.methods)
            )
        return kind == "seqpar" or self.kernels

    def passes_over(self, row: Row) -> str:
        """Why a kernel that could be measured is not, "" if it is."""
        named = self.backends or self.methods or self.plain
        return "" if named or row.kind != "kernel" or not row.name.startswith(PLAIN) else NOT_QUICK


@dataclass(frozen=True)
class Effort:
    """How much time a problem may take."""

    seconds: float = 6.0
    """Of rounds."""
    rounds: int = 15
    """At most."""


@dataclass
class Contest:
    """Everybody on one problem. `worker` is for its device."""

    problem: Problem
    device: str
    worker: Worker
    wanted: Wanted = field(default_factory=Wanted)
    effort: Effort = field(default_factory=Effort)
    skip: dict[tuple[str, str], str] = field(default_factory=dict)
    """Who is left out, by framework and name, and why."""
    clock: Clock = time.perf_counter
    watcher: Watcher | None = None

    def rows(self) -> list[Row]:
        self.worker.prepare(_Posed(self.problem, self.device, self.wanted.frameworks))
        facts = self.worker.policy
        base = Row(
            operation=self.problem.operation,
            problem=self.problem.name,
            shape=self.problem.shape,
            dtype=self.problem.dtype,
            which=self.problem.which,
            framework="",
            device=self.device,
            name="",
            kind="peer",
            nbytes=facts["nbytes"],
            flops=facts["flops"],
            sweep=self.problem.sweep,
            length=self.problem.length,
        )
        rows: dict[Point, Row] = {}
        for each in facts["contestants"]:
            if not self.wanted.takes(each["kind"], each["name"]):
                continue
            row = replace(base, framework=each["framework"], name=each["name"], kind=each["kind"])
            point = Point(f"{row.framework}.{row.name}")
            if why := each["missing"]:
                rows[point] = replace(row, verdict="missing", note=why)
            elif (
                why := each["left out"]
                or self.skip.get((row.framework, row.name))
                or self.wanted.passes_over(row)
            ):
                rows[point] = replace(row, verdict="left out", note=why)
            else:
                rows[point] = self._checked(row)
        ready = [point for point, row in rows.items() if row.verdict == "ok"]
        if any(rows[point].kind != "limit" for point in ready):
            self._time(rows, ready)
        else:
            rows = {point: row for point, row in rows.items() if row.kind != "limit"}
        return list(rows.values())

    def _checked(self, row: Row) -> Row:
        self._say(row, "checked")
        found = self.worker.check(_candidate(row))
        if not found.ok:
            return _failed(row, found)
        return replace(row, ran=found.message if row.kind == "seqpar" else "", error=found.error)

    def _time(self, rows: dict[Point, Row], ready: Sequence[Point]) -> None:
        default = next((p for p in ready if rows[p].kind == "seqpar"), ready[0])

        def evaluate(points: Sequence[Point]) -> list[Reading]:
            found = []
            for point in points:
                self._say(rows[point], "timed")
                found += self.worker.round([_candidate(rows[point])])
            return found

        rounds = Rounds(evaluate, default, generator=random.Random(0), clock=self.clock)
        end = self.clock() + self.effort.seconds
        for count in range(self.effort.rounds):
            among = [
                p for p in ready if p not in rounds.failures and not (count >= FEWEST and _slow(rounds, p))
            ]
            if not among or (count >= FEWEST and self.clock() > end):
                break
            if rounds.default not in among:
                # It takes part in every round, and is slow, or has failed.
                rounds.default = among[0]
            rounds.run(among)
        # A framework may have several ways of its own: speed-ups are over the fastest.
        own: dict[str, Point] = {}
        for point in sorted(rounds.working, key=rounds.ratio, reverse=True):
            if rows[point].kind == "own":
                own[rows[point].framework] = point
        for point in ready:
            if point in rounds.failures:
                failure = rounds.failures[point]
                rows[point] = _failed(rows[point], failure)
                continue
            row = replace(rows[point], seconds=tuple(rounds.seconds[point]))
            over = own.get(row.framework)
            if over is not None and row.kind != "limit":
                row = replace(row, speedup=rounds.ratio(over) / rounds.ratio(point))
            rows[point] = replace(row, spread=spread(row.seconds))
        self._bound(rows, rounds)

    def _bound(self, rows: dict[Point, Row], rounds: Rounds) -> None:
        """The limit of every row, from the copy and the product beside it; and what those two are."""
        copy, product = (
            next((r for r in rows.values() if r.kind == "limit" and r.name == name and r.timed), None)
            for name in (COPY, PRODUCT)
        )
        least = 0.0
        if copy is not None and copy.median and self.problem.nbytes:
            least = self.problem.nbytes * copy.median / (2 * copied(self.problem))
        if product is not None and product.median and self.problem.flops:
            least = max(least, self.problem.flops * product.median / operations(self.device))
        for point, row in rows.items():
            if row.name == COPY and row.kind == "limit":
                rows[point] = replace(row, nbytes=2 * copied(self.problem), flops=None)
            elif row.name == PRODUCT and row.kind == "limit":
                rows[point] = replace(row, nbytes=None, flops=operations(self.device))
            elif least and row.timed:
                rows[point] = replace(row, limit=least)

    def _say(self, row: Row, doing: str) -> None:
        if self.watcher is not None:
            self.watcher.contestant(f"{row.framework} {row.name}", doing)


@dataclass(frozen=True)
class _Posed:
    """What a worker asks of a workload."""

    problem: Problem
    device: str
    frameworks: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.problem)

    def to_dict(self) -> dict[str, Any]:
        return {
            "way": WAY,
            "problem": self.problem.to_dict(),
            "device": self.device,
            "frameworks": list(self.frameworks),
        }


def spread(seconds: Iterable[float]) -> float | None:
    """Half of the range of the middle half, relative to the median."""
    given = sorted(seconds)
    if len(given) < 2:
        return None
    low, middle, high = statistics.quantiles(given, n=4, method="inclusive")
    return (high - low) / 2 / middle


def _candidate(row: Row) -> Candidate:
    return Candidate(row.framework, row.name)


def _failed(row: Row, found: Checked | Failure) -> Row:
    return replace(row, verdict=cast("Verdict", str(found.verdict)), note=without_places(found.message))


def without_places(text: str) -> str:
    """An error without where things lie on the machine at hand: rows are there to be shown to others."""
    for place, name in ((sys.prefix, "<python>"), (tempfile.gettempdir(), "<tmp>"), (str(Path.home()), "~")):
        if len(place) > 1:
            text = text.replace(place, name)
    return text


def _slow(rounds: Rounds, point: Point) -> bool:
    seconds = rounds.seconds.get(point)
    return seconds is not None and statistics.median(seconds) > SLOW
