"""`tuning("on_miss")`: the first call of every problem that was never tuned is tuned before it runs, for those who ask for that.

Without it nothing is ever tuned by a call. Where a call may not wait, inside a program that is being traced or a backward
pass, it runs by what is known, and its problem is tuned when the block ends.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqpar.dispatch import store
from seqpar.dispatch.choice import choose
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Numerics
from seqpar.dispatch.watching import Posed, Runner, watching
from seqpar.errors import NotEligibleError, OptionError, SeqparError, unknown_name

from .budget import check_seconds
from .lab import Lab, MakeWorker
from .report import Report, counted
from .storage import optuna
from .tuner import LIMITS, ONE_CANDIDATE, Run
from .worker import Worker
from .workload import Workload

SECONDS = 3.0
"""For one problem. Starting the process that measures takes longer than that, once."""


class OnMiss:
    """What a block of `tuning("on_miss")` does, and what it found. One at a time tunes, and the others wait for it."""

    def __init__(self, seconds: float, seed: int, directory: Path | None, lab: Lab) -> None:
        self.reports: list[Report] = []
        """Of every problem that was tuned."""
        self.put_off: list[Workload] = []
        """Problems of calls that may not wait: they are tuned when the block ends."""
        self._seconds, self._seed, self._directory, self._lab = seconds, seed, directory, lab
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._tuning = False
        self._seen: set[tuple[Workload, Numerics]] = set()
        self._later: dict[tuple[Workload, Numerics], None] = {}
        self._warned = False

    def __repr__(self) -> str:
        tuned = sum(len(one.measured) for one in self.reports)
        return (
            f"OnMiss({counted(tuned, 'problem')} tuned, {len(self.put_off)} put off to the end of the block)"
        )

    # As a watcher (seqpar.dispatch.watching).

    def runner(self, call: Posed, make: Callable[[], Runner]) -> Runner:
        found = self._missed(call)
        if found is not None:
            if self._may_wait(call):
                self._tune(*found)
            else:
                self._put_off(*found)
        return make()

    def traced(self, call: Posed) -> None:
        found = self._missed(call)
        if found is not None:
            self._put_off(*found)

    def passed_by(self, name: str, why: str) -> None:
        """Has no description, so that nothing can be measured of it."""

    def finish(self) -> None:
        """Tune what was put off."""
        with self._lock:
            while self._later:
                found = next(iter(self._later))
                del self._later[found]
                self._tune(*found)

    def _missed(self, call: Posed) -> tuple[Workload, Numerics] | None:
        """The workload of a call for whose problem nothing is known; None where something is, or where somebody chose."""
        request = call.request
        if request.method != "auto" or request.backend is not None or request.config is not None:
            return None
        if os.getpid() != self._process:  # a worker of a data loader: its parent's threads are not there
            return None
        with self._lock:
            if self._tuning:
                return None
        try:
            workload = Workload.posed(call.binding, call.operation, call.spec, call.operands)
            choice = choose(workload.problem, request)
        except (NotEligibleError, OptionError):  # whoever runs the call says so
            return None
        decided = choice.provenance in ("tuned", "shipped") or store.settled(
            workload.problem, request.numerics
        )
        return None if decided else (workload, request.numerics)

    def _may_wait(self, call: Posed) -> bool:
        backward = {rules.fused_backward for rules in operations.values()}
        return call.operation.name not in backward and not call.binding.in_backward_pass()

    def _put_off(self, workload: Workload, numerics: Numerics) -> None:
        with self._lock:
            key = workload, numerics
            if key not in self._seen and key not in self._later:
                self._later[key] = None
                self.put_off.append(workload)

    def _tune(self, workload: Workload, numerics: Numerics) -> None:
        with self._lock:
            if (workload, numerics) in self._seen:
                return
            self._seen.add((workload, numerics))
            self._tuning = True
            try:
                report = Run(
                    [workload],
                    self._lab,
                    preset="quick",
                    numerics=numerics,
                    seconds=self._seconds,
                    seed=self._seed,
                    directory=self._directory,
                ).report()
            except SeqparError as error:
                self._warn(f"{workload.name} was not tuned: {error}")
                return
            finally:
                self._tuning = False
            self.reports.append(report)
            if report.interrupted:
                raise KeyboardInterrupt
            note = report.results[0].note
            if note and note != ONE_CANDIDATE:
                self._warn(f"{workload.name}: {note}")
            # Whatever chose before must choose again.
            invalidate()

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"seqpar_autotune.tuning: {what}", RuntimeWarning, stacklevel=2)


@contextmanager
def tuning(
    when: str = "on_miss",
    *,
    seconds: float = SECONDS,
    seed: int = 0,
    directory: str | Path | None = None,
    imports: tuple[str, ...] = (),
    worker: MakeWorker = Worker,
) -> Iterator[OnMiss]:
    """Tune problems when they are first called, inside a `with` block, in all threads of this process.

    A call whose problem has no tuned result waits about `seconds`, and then runs what was found; later calls, and later
    processes, know it. Calls that name a method, a backend or a config are left alone.

    While JAX traces a function, and in backward passes, nothing waits: those calls run by what is known, and their problems
    are tuned when the block ends, unless an error ends it. A function compiled by `jax.jit` keeps what was chosen when it was
    traced: compile it again. Shapes that change from call to call are a problem each; plan buckets first.

    Examples
    --------
    >>> import numpy as np, seqpar, seqpar_autotune, tempfile
    >>> ones = np.ones((4, 512, 8))
    >>> with tempfile.TemporaryDirectory() as directory:  # leave it out, and calls go by what is found
    ...     with seqpar_autotune.tuning("on_miss", seconds=1, directory=directory) as found:
    ...         h = seqpar.linear_recurrence(ones, ones)
    >>> len(found.reports)
    1
    """
    if when != "on_miss":
        raise unknown_name("tuning", "when", when, ("on_miss",))
    check_seconds("tuning", seconds)
    optuna()  # says what is missing before the first call does
    with Lab(worker, LIMITS["quick"], imports) as lab:
        found = OnMiss(seconds, seed, None if directory is None else Path(directory), lab)
        with watching(found):
            yield found
        found.finish()
