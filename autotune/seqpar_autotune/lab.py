"""Where candidates of a run are tried: the worker at hand, which kernels keep failing in it, and what is written down of each.

Used by `tune`. A candidate is written to the store as soon as it has its first time or has failed, so that a run that is killed
loses the one in flight and no more.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from seqpar.dispatch.options import Numerics

from .candidates import Candidate, candidate_of
from .halving import FAR
from .outcome import Failure, LeftOut, Measured, Outcome, Reading
from .progress import Display
from .rows import record_of
from .space import Point, Space
from .store import Recorder
from .verdict import Verdict
from .verification import Checked
from .worker import Described
from .workload import Workload

COSTLY = frozenset((Verdict.TIMEOUT, Verdict.CRASH))
"""These cost a process, and the first one all the time that a candidate may take."""
STRIKES = 2
"""A kernel that failed so often in a costly way, and more often than it ran, is left out for the rest of the run."""


class Tried(Protocol):
    """What a run needs of a `Worker`."""

    @property
    def policy(self) -> Mapping[str, Any]: ...
    def prepare(self, workload: Described, seed: int = 0, *, numerics: Numerics = "any") -> None: ...
    def check(self, candidate: Candidate) -> Checked: ...
    def round(self, candidates: Sequence[Candidate]) -> list[Reading]: ...
    def close(self) -> None: ...


MakeWorker = Callable[..., Tried]
"""`Worker`, or what stands for it: `make(device, limit=..., imports=...)`."""


class Lab:
    """The worker of a run, one at a time: frameworks do not share a process, nor devices the machine while times are taken."""

    def __init__(
        self,
        make: MakeWorker,
        limit: float,
        imports: Sequence[str] = (),
        devices: Mapping[str, str] | None = None,
    ) -> None:
        self._make = make
        self._limit = limit
        self._imports = tuple(imports)
        self._devices = devices or {}
        """The device to use of each kind, where there are several."""
        self._worker: Tried | None = None
        self._of: tuple[str, str] | None = None
        self._struck: Counter[tuple[str, str]] = Counter()
        self._ran: Counter[tuple[str, str]] = Counter()

    def worker(self, workload: Workload) -> Tried:
        """A worker for a workload's framework and device."""
        wanted = workload.framework, workload.device
        if self._worker is None or self._of != wanted:
            self.close()
            device = self._devices.get(workload.device, workload.device)
            self._worker = self._make(device, limit=self._limit, imports=self._imports)
            self._of = wanted
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tell(self, operation: str, branch: str, reading: Reading) -> None:
        """How a candidate fared."""
        if not isinstance(reading, Failure):
            self._ran[operation, branch] += 1
        elif reading.verdict in COSTLY:
            self._struck[operation, branch] += 1

    def keeps_failing(self, operation: str, branch: str) -> bool:
        """Has a kernel cost enough?"""
        key = operation, branch
        return self._struck[key] >= max(STRIKES, self._ran[key] + 1)


class Tester:
    """The times of a workload's candidates, for `search`: tried by a worker, told to the store."""

    def __init__(
        self,
        lab: Lab,
        worker: Tried,
        operation: str,
        space: Space,
        recorder: Recorder | None,
        display: Display,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lab = lab
        self._worker = worker
        self._operation = operation
        self._default = space.default
        self._recorder = recorder
        self._display = display
        self._until = until
        """The time on the clock after which nothing new is tried."""
        self._clock = clock
        self._first: dict[Point, Reading] = {}
        self._untried: dict[Point, LeftOut] = {}
        self.space = dataclasses.replace(space, eligible=self._eligible(space))

    def __call__(self, points: Sequence[Point], /) -> Sequence[Reading]:
        new = [point for point in points if point not in self._first and point not in self._untried]
        # The default first: what is far behind it has had its time, and is not timed again beside it.
        for point in sorted(new, key=lambda point: point != self._default):
            self._try(point)
        readings: dict[Point, Reading] = {
            point: found
            for point, found in self._first.items()
            if isinstance(found, Failure) or (point in new and self._far(found))
        }
        readings |= self._untried
        running = [point for point in points if point not in readings]
        readings |= zip(running, self._worker.round([candidate_of(point) for point in running]), strict=True)
        return [readings[point] for point in points]

    def written(self, outcome: Outcome) -> Outcome:
        """Write a search that has ended to the store. Returns it as it is reported: without candidates that were left out."""
        tried = tuple(one for one in outcome.measured if one.point not in self._untried)
        outcome = dataclasses.replace(outcome, measured=tried)
        if self._recorder is not None:
            checks = {point.key: self._worker.check(candidate_of(point)).to_dict() for point in self._first}
            self._recorder.settle(outcome, checks)
        return outcome

    def _try(self, point: Point) -> None:
        if why := self._left_out(point):
            self._untried[point] = LeftOut(Verdict.INVALID, why)
            return
        self._display.trying(point)
        found = self._worker.round([candidate_of(point)])[0]
        self._first[point] = found
        self._lab.tell(self._operation, point.branch, found)
        if isinstance(found, Failure):
            self._display.failed(point, found)
            measured = Measured(point, found.verdict, message=found.message)
        else:
            measured = Measured(point, Verdict.OK, (found,))
        if self._recorder is not None:
            self._recorder.write(record_of(measured, default=point == self._default))

    def _left_out(self, point: Point) -> str:
        """Why a candidate is not tried, if it is not."""
        if point == self._default:
            return ""
        if self._lab.keeps_failing(self._operation, point.branch):
            return f"left out: {point.branch} crashed or hung before"
        # One beside the default always is: a run that tries nothing is of no use to anybody.
        late = self._until is not None and len(self._first) > 1 and self._clock() > self._until
        return "left out: no time was left" if late else ""

    def _far(self, seconds: float) -> bool:
        default = self._first.get(self._default)
        return isinstance(default, float) and seconds > FAR * default

    def _eligible(self, space: Space) -> Callable[[Point], bool]:
        def eligible(point: Point) -> bool:
            left_out = self._lab.keeps_failing(self._operation, point.branch)
            return space.eligible(point) and (point == space.default or not left_out)

        return eligible


def only_one(space: Space) -> bool:
    """Is there nothing to choose?"""
    found: Any = space.at_most(1, among=64)
    return found is not None and len(found) <= 1
