"""`record`: which calls a program makes, how often, and how long they take, so that what it needs is what is tuned.

Around a user's program: each kind of call is described once, and its calls are counted and timed. The file that comes out is read
by `seqpar autotune --from run.jsonl`. Where nobody records, calls pass none of this: see `seqpar.dispatch.watching`.
"""

import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqpar.dispatch.problem import Array
from seqpar.dispatch.watching import Posed, Runner, watching
from seqpar.errors import NotEligibleError, OptionError

from .report import counted
from .workload import Workload

SCHEMA = 1
TIMED = 16
"""On devices that work on their own, timing a call means waiting for it: the first so many are, and then one in so many."""


class Recording:
    """The calls that were seen so far. `record` gives one out; what is in it can be read while the program runs."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Workload, _Entry] = {}
        self._unrecorded: Counter[tuple[str, str]] = Counter()
        self._open = True

    def __repr__(self) -> str:
        with self._lock:
            return (
                f"Recording({counted(len(self._entries), 'call')}, {self._unrecorded.total()} not recorded)"
            )

    @property
    def workloads(self) -> list[Workload]:
        """Distinct calls, each weighted with the seconds that all its calls take together, the weightiest first.

        By the calls behind the first one, which may have compiled; what was called once has only that.

        What has no time (it became part of a compiled program, or was called once on a device) weighs as the mean of the others.
        """
        with self._lock:
            entries = list(self._entries.items())
        timed = [entry.seconds for _, entry in entries if entry.timed]
        mean = sum(timed) / len(timed) if timed else 1.0
        found = [replace(one, weight=entry.seconds if entry.timed else mean) for one, entry in entries]
        return sorted(found, key=lambda one: -one.weight)

    @property
    def unrecorded(self) -> dict[str, int]:
        """Calls that no description holds, by what they are and why."""
        with self._lock:
            return {f"{name}: {why}": count for (name, why), count in self._unrecorded.items()}

    def write(self, path: str | Path) -> None:
        """Everything as JSON lines, in one piece."""
        path = Path(path)
        own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
        try:
            own.write_text("".join(json.dumps(line) + "\n" for line in self._lines()), encoding="utf-8")
            own.replace(path)
        finally:
            own.unlink(missing_ok=True)

    def take(self, line: Mapping[str, Any]) -> None:
        """What one line of a file says. Raises KeyError, TypeError or ValueError for what is none."""
        if "workload" in line:
            entry = self._entries.setdefault(Workload.from_dict(line["workload"]), _Entry())
            entry.calls += int(line["calls"])
            entry.samples += int(line["calls"]) if line["seconds"] else 0
            entry.sum += float(line["seconds"])
            entry.traces += int(line["traces"])
        elif "why" in line:
            self._unrecorded[line["unrecorded"], line["why"]] += int(line["calls"])

    # As a watcher (seqpar.dispatch.watching).

    def runner(self, call: Posed, make: Callable[[], Runner]) -> Runner:
        run = make()
        entry = self._entry(call)
        if entry is None:
            return run
        device = call.binding.device(next(x for x in call.operands if x is not None))
        waits = device != "cpu" or call.binding.framework == "jax"
        return self._waited(run, entry, call.binding.finish) if waits else self._timed(run, entry)

    def traced(self, call: Posed) -> None:
        entry = self._entry(call)
        if entry is not None:
            with entry.lock:
                entry.traces += 1

    def passed_by(self, name: str, why: str) -> None:
        with self._lock:
            self._unrecorded[name, why] += 1

    def stop(self) -> None:
        """Count no more: runners that another thread still holds go on as before."""
        self._open = False

    def _entry(self, call: Posed) -> "_Entry | None":
        try:
            workload = Workload.posed(call.binding, call.operation, call.spec, call.operands)
        except (NotEligibleError, OptionError) as error:
            self.passed_by(call.operation.name, str(error))
            return None
        with self._lock:
            return self._entries.setdefault(workload, _Entry())

    def _timed(self, run: Runner, entry: "_Entry") -> Runner:
        clock = self._clock

        def timed(operands: Sequence[Array | None]) -> tuple[Array, ...]:
            if not self._open:
                return run(operands)
            start = clock()
            try:
                return run(operands)
            finally:
                entry.add(clock() - start)

        return timed

    def _waited(self, run: Runner, entry: "_Entry", finish: Callable[[Any], None]) -> Runner:
        clock = self._clock

        def timed(operands: Sequence[Array | None]) -> tuple[Array, ...]:
            if not self._open or not entry.wanted():
                return run(operands)
            # What is under way is not this call's.
            finish(next(x for x in operands if x is not None))
            start = clock()
            results = run(operands)
            finish(results[0])
            entry.sampled(clock() - start)
            return results

        return timed

    def _lines(self) -> Iterator[dict[str, Any]]:
        yield {"schema": SCHEMA, "recorded": len(self._entries), "unrecorded": sum(self._unrecorded.values())}
        with self._lock:
            entries = list(self._entries.items())
        for one, entry in sorted(entries, key=lambda pair: -pair[1].seconds):
            told = {"calls": entry.calls, "seconds": entry.seconds, "traces": entry.traces}
            yield {"workload": one.to_dict(), **told}
        for (name, why), count in self._unrecorded.items():
            yield {"unrecorded": name, "why": why, "calls": count}


class _Entry:
    """What was seen of one kind of call."""

    __slots__ = ("calls", "first", "lock", "samples", "sum", "traces")

    def __init__(self) -> None:
        self.calls = 0
        self.traces = 0
        """So often it became part of a program, or was transformed."""
        self.lock = threading.Lock()
        self.first: float | None = None
        """Seconds of the first call, where it was timed. It may have compiled, so it counts only where it is the only one."""
        self.samples = 0
        self.sum = 0.0

    @property
    def timed(self) -> bool:
        return self.samples > 0 or self.first is not None

    @property
    def seconds(self) -> float:
        """Of all calls together, by those that were timed."""
        return (self.sum / self.samples if self.samples else self.first or 0.0) * self.calls

    def add(self, seconds: float) -> None:
        with self.lock:
            self.calls += 1
            if self.calls == 1:
                self.first = seconds
            else:
                self.samples += 1
                self.sum += seconds

    def wanted(self) -> bool:
        """Count a call; is it one to be timed? Not the first, which compiles."""
        with self.lock:
            self.calls += 1
            return 1 < self.calls <= TIMED or self.calls % TIMED == 0

    def sampled(self, seconds: float) -> None:
        with self.lock:
            self.samples += 1
            self.sum += seconds


@contextmanager
def record(path: str | Path | None = None) -> Iterator[Recording]:
    """Note every call that a program makes inside a `with` block, in all threads of this process.

    At the end of the block, after an error as well, the calls are written to `path`, for `seqpar autotune --from`. Calls inside
    `jax.jit` are noted when they are traced. What takes a function of yours (a step, an operator of a scan) cannot be made
    again without it, and is counted only.

    Examples
    --------
    >>> import numpy as np, seqpar, seqpar_autotune
    >>> with seqpar_autotune.record() as calls:
    ...     for _ in range(3):
    ...         h = seqpar.linear_recurrence(np.ones((4, 512, 8)), np.ones((4, 512, 8)))
    >>> [workload.name for workload in calls.workloads]
    ['linear_recurrence 4x512x8 float64 numpy:cpu']
    """
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise OptionError(
            f"record: {str(path)!r} is in no folder. Make {Path(path).absolute().parent} first."
        )
    recording = Recording()
    try:
        with watching(recording):
            yield recording
    finally:
        recording.stop()
        if path is not None:
            recording.write(path)


def read(path: str | Path) -> list[Workload]:
    """The calls of a file that `record` wrote, weighted by the time that they took together."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"autotune: {str(path)!r} cannot be read: {error}.") from None
    recording = Recording()
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            if found.get("schema", SCHEMA) == SCHEMA:
                recording.take(found)
                continue
        except OptionError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OptionError(
                f"autotune: line {number} of {str(path)!r} is nothing that seqpar_autotune.record wrote ({error!r})."
            ) from None
        raise OptionError(
            f"autotune: {str(path)!r} was written by another version of seqpar. Record the run again."
        )
    return recording.workloads
