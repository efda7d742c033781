"""`tune`: measure what is to be measured, within the time that there is, and remember it.

Called by `seqpar autotune`, by `tuning("on_miss")` and by users. Workload by workload: the space of its problem, a worker
process for its device, a search, and a line in the store for every candidate as soon as it has a time. Nothing here knows any
one operation.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.options import Numerics
from seqpar.dispatch.preset import GRADES, Grade
from seqpar.dispatch.profile import HardwareProfile
from seqpar.dispatch.row import described
from seqpar.errors import BackendError, MissingExtraError, NotEligibleError, OptionError, unknown_name

from .budget import Budget, check_seconds
from .candidates import candidate_of, kernels_of, space_of, warm_points
from .earlier import earlier
from .lab import Lab, MakeWorker, Tester, Tried, only_one
from .limits import least_seconds
from .outcome import Measured
from .presets import check_here, listed
from .presets import workloads as presets
from .process import check_devices
from .progress import Display, display_for
from .report import Report, Tuned
from .search import NUMERICS, search
from .space import Space
from .storage import optuna
from .store import Recorder
from .worker import Worker
from .workload import Workload

SECONDS: dict[Grade, float | None] = {"quick": 60.0, "default": 600.0, "exhaustive": None}
"""Time for all workloads together. A machine may need longer for what cannot be cut short: compiling, and starting processes."""
LIMITS: dict[Grade, float] = {"quick": 10.0, "default": 30.0, "exhaustive": 120.0}
"""Seconds that a candidate may take for one request, compiling included."""
SHORTEST = 10.0
"""The least that this may be where a user gives less time than that: what compiles for a few seconds is no failure."""
EQUAL = 0.5
"""The part of the time that is shared out equally; the rest goes by weight, so that what counts little is not left out."""
EXPLORING = 0.7
"""The part of a call's time after which no candidate is tried that was not tried before, whatever was planned."""
LEAST = 0.2
"""Seconds below which a workload is not begun."""
FAIR = 2.0
"""Seconds that a workload has at least while there is grace."""
PLAIN = "reference"
"""The backend of the algorithms in the array API: right everywhere, and fast where nothing else is."""
NOTHING = (
    "tune: there is nothing to tune: what was asked for has no representative problem here. Give other operations or "
    "frameworks, or record a run: see seqpar_autotune.record."
)
ONE_CANDIDATE = "nothing to choose: one candidate"


def tune(
    workloads: Workload | Iterable[Workload] | None = None,
    *,
    preset: Grade = "default",
    operations: Iterable[str] | None = None,
    frameworks: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
    numerics: Numerics = "any",
    seconds: float | None = None,
    seed: int = 0,
    storage: Any = None,
    progress: str | Display | None = None,
    directory: str | Path | None = None,
    imports: Sequence[str] = (),
    worker: MakeWorker = Worker,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Measure methods and their knobs for some calls, and have `seqpar` choose by that from now on.

    Every candidate runs in a process of its own, where it is verified before it is timed; one that crashes or hangs costs
    itself. Only what beats the default by more than the noise is chosen. What was measured is kept whatever ends the run.

    Parameters
    ----------
    workloads
        Calls as `Workload.of` describes them, or as `record` found them; those of `preset` by default.
    preset
        "quick", "default" or "exhaustive": how many representative calls, how carefully, and with how much time.
    operations, frameworks, devices
        Which of the preset's. Devices are "cpu", "cuda", or one of several as in "cuda:1"; one of each kind.
    numerics
        "deterministic" leaves out whatever gives other bits in every run.
    seconds
        Time for all of them: a minute for "quick", ten minutes for "default", no limit for "exhaustive".
    seed
        Of the order in which candidates are tried, and of the numbers that they are measured on.
    storage
        A file, "grpc://host:port" or a URL of a database, in which Optuna keeps trials: with the same one, several machines
        of one kind search together, and optuna-dashboard shows them.
    progress
        "rich", "plain", "json", or an object as in `seqpar_autotune.progress`; None says nothing.
    directory
        Where results are written, for tests and for transport; choices read the user's cache only.
    imports
        Modules that define kernels which are not installed.

    Examples
    --------
    >>> import numpy as np, seqpar, seqpar_autotune, tempfile
    >>> ones = np.ones((4, 512, 8), np.float32)
    >>> call = seqpar_autotune.Workload.of(seqpar.linear_recurrence, ones, ones)
    >>> with tempfile.TemporaryDirectory() as directory:  # leave it out, and the next call runs what was found
    ...     report = seqpar_autotune.tune(call, preset="quick", seconds=2, directory=directory)
    >>> report.results[0].outcome.evaluations > 1, report.gain >= 1
    (True, True)
    """
    if preset not in GRADES:
        raise unknown_name("tune", "preset", str(preset), set(GRADES))
    if numerics not in NUMERICS:
        raise unknown_name("tune", "numerics", numerics, NUMERICS)
    if seconds is not None:
        check_seconds("tune", seconds)
    operations, frameworks, devices = (
        None if names is None else listed("tune", name, names)
        for name, names in (("operations", operations), ("frameworks", frameworks), ("devices", devices))
    )
    check_devices("tune", devices or ())
    optuna()  # says what is missing before anything is started
    named = {device.partition(":")[0]: device for device in devices or ()}
    if workloads is None:
        check_here("tune", frameworks, devices)
        given = presets(preset, operations, frameworks, list(named) or None)
    else:
        given = _workloads(workloads)
    if not given:
        raise OptionError(NOTHING)
    limit = LIMITS[preset] if seconds is None else min(LIMITS[preset], max(seconds, SHORTEST))
    with Lab(worker, limit, imports, named) as lab:
        return Run(
            in_order(given),
            lab,
            preset=preset,
            numerics=numerics,
            seconds=SECONDS[preset] if seconds is None else seconds,
            seed=seed,
            storage=storage,
            directory=None if directory is None else Path(directory),
            grace=0.0 if seconds is not None else SECONDS[preset] or 0.0,
            clock=clock,
            display=display_for(progress),
        ).report()


def _workloads(given: Any) -> list[Workload]:
    """Those that a user gave, one or several."""
    if isinstance(given, Workload):
        return [given]
    if isinstance(given, Iterable) and not isinstance(given, str):
        found = list(given)
        wrong = next((one for one in found if not isinstance(one, Workload)), None)
        if wrong is None:
            return found
        given = wrong
    raise OptionError(
        f"tune: workloads={str(given)[:80]!r} is no Workload. Give Workload.of(seqpar.linear_recurrence, a, b), for example, "
        "or name operations, as in operations=['qr']."
    )


def in_order(workloads: Iterable[Workload]) -> list[Workload]:
    """The weightiest first, those of one framework and device together: each of these has a process of its own."""
    given = list(workloads)
    shares: dict[tuple[str, str], float] = {}
    for one in given:
        shares[one.device, one.framework] = shares.get((one.device, one.framework), 0.0) + one.weight
    places = {key: place for place, key in enumerate(shares)}

    def order(one: Workload) -> tuple[float, int, float]:
        key = one.device, one.framework
        return -shares[key], places[key], -one.weight

    return sorted(given, key=order)


def share_of(left: float, rest: Sequence[tuple[float, float]]) -> float:
    """Seconds for the first of what is still to be tuned, of those that are left, from the weight and the effort of each.

    >>> share_of(60.0, [(1.0, 2.0), (1.0, 1.0), (1.0, 0.0)])
    40.0
    """
    efforts = sum(effort for _, effort in rest)
    weighed = sum(weight * effort for weight, effort in rest)
    weight, effort = rest[0]
    if not efforts:
        return left
    equally = effort / efforts
    return left * (EQUAL * equally + (1 - EQUAL) * (weight * effort / weighed if weighed else equally))


def space_for(workload: Workload, preset: Grade) -> Space:
    """What is searched. The quick grade leaves the plain algorithms out, which take most of the time, unless one is the default.

    Raises `NotEligibleError` where nothing runs the call.
    """
    problem = workload.problem
    space = space_of(problem)
    if preset != "quick" or candidate_of(space.default).backend == PLAIN:
        return space
    return space_of(problem, backends={kernel.backend for kernel in kernels_of(problem)} - {PLAIN})


def study_of(workload: Workload, numerics: Numerics, profile: HardwareProfile | None) -> str:
    """The name of a search in a storage: its call's, and a hash of all that times depend on and that name leaves out.

    Calls along another axis may have equal names, and machines of different kinds may meet in one storage.
    """
    call = {name: value for name, value in workload.to_dict().items() if name != "weight"}
    facts = [call, described(workload.problem), "" if profile is None else profile.digest]
    mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return f"{workload.name} {numerics} {mark}"


@dataclass
class Run:
    """One run over workloads, in their order."""

    workloads: list[Workload]
    lab: Lab
    preset: Grade = "default"
    numerics: Numerics = "any"
    seconds: float | None = None
    seed: int = 0
    storage: Any = None
    directory: Path | None = None
    grace: float = 0.0
    """Seconds beyond those, for workloads that would not be begun otherwise: on a slow machine, unless the user named a time."""
    clock: Callable[[], float] = time.monotonic
    display: Display = field(default_factory=Display)

    def __post_init__(self) -> None:
        self._start = self.clock()
        self._spaces: dict[Workload, Space | str] = {one: self._space(one) for one in self.workloads}

    @property
    def elapsed(self) -> float:
        return self.clock() - self._start

    def report(self) -> Report:
        results: list[Tuned] = []
        interrupted = False
        with self.display:
            self.display.begin(self.workloads, self.seconds, self.elapsed)
            try:
                for place, workload in enumerate(self.workloads):
                    found = self._one(workload, self._share(place))
                    results.append(found)
                    self.display.done(found)
                    interrupted = found.outcome is not None and found.outcome.why == "interrupted"
                    if interrupted:
                        break
            except KeyboardInterrupt:
                interrupted = True
            rest = self.workloads[len(results) :]
            report = Report(
                results=(*results, *(Tuned(one, note="not finished: interrupted") for one in rest)),
                preset=self.preset,
                seconds=self.seconds,
                elapsed=self.elapsed,
                seed=self.seed,
                interrupted=interrupted,
            )
            self.display.end(report)
        return report

    def _space(self, workload: Workload) -> Space | str:
        """What is searched, or why nothing is."""
        try:
            space = space_for(workload, self.preset)
        except (BackendError, NotEligibleError, OptionError, MissingExtraError) as error:
            return f"not measured: {error}"
        return ONE_CANDIDATE if only_one(space) else space

    def _share(self, place: int) -> float | None:
        """Seconds for a workload: what its forerunners left of theirs goes to those behind."""
        if self.seconds is None:
            return None
        rest = self.workloads[place:]
        share = share_of(self.seconds - self.elapsed, [(one.weight, self._effort(one)) for one in rest])
        return share if self.elapsed > self.seconds + self.grace else max(share, min(FAIR, self.grace))

    def _why_not_begun(self, share: float) -> str:
        if self.seconds is None or self.seconds - self.elapsed < LEAST:
            return "not begun: no time was left"
        return f"not begun: its share of the time that is left is {max(share, 0):.2f} s, which is too short"

    def _effort(self, workload: Workload) -> float:
        space = self._spaces[workload]
        return 0.0 if isinstance(space, str) else math.log2(1 + space.size)

    def _one(self, workload: Workload, seconds: float | None) -> Tuned:
        """One workload: where nothing can be measured a note says why."""
        start, space = self.elapsed, self._spaces[workload]
        if isinstance(space, str):
            return Tuned(workload, note=space)
        if seconds is not None and seconds < LEAST:
            return Tuned(workload, note=self._why_not_begun(seconds))
        try:
            limit = least_seconds(workload)
            self.display.workload(workload, space.size, seconds, limit)
            worker = self.lab.worker(workload)
            worker.prepare(workload, self.seed, numerics=self.numerics)
            left = None if seconds is None else max(seconds - (self.elapsed - start), LEAST)
            found = self._searched(workload, space, worker, left, limit)
        except (BackendError, NotEligibleError, OptionError) as error:
            return Tuned(workload, note=f"not measured: {error}", elapsed=self.elapsed - start)
        return replace(found, elapsed=self.elapsed - start)

    def _searched(
        self, workload: Workload, space: Space, worker: Tried, seconds: float | None, limit: float | None
    ) -> Tuned:
        problem = workload.problem
        profile = store.profile_for(workload.framework, workload.device)
        known: list[Measured] = []
        if profile is not None and self.preset != "exhaustive":
            stored = earlier(problem, profile, self.directory, self.numerics)
            # The default is measured anew: it is what all times are compared with.
            known = [one for one in stored if one.point != space.default]
        with ExitStack() as stack:
            recorder = None
            if profile is not None:
                recorder = Recorder(
                    workload.operation,
                    problem,
                    profile,
                    self.directory,
                    policy={**worker.policy, "memory": "cold"},
                    rigor=self.preset,
                    sampler=f"tpe:seed={self.seed}",
                    numerics=self.numerics,
                )
                stack.enter_context(recorder)
            until = None if seconds is None else self.clock() + EXPLORING * seconds
            tester = Tester(
                self.lab, worker, workload.operation, space, recorder, self.display, until, self.clock
            )
            outcome = search(
                tester.space,
                tester,
                budget=None if seconds is None else Budget(seconds=seconds),
                seed=self.seed,
                rigor=self.preset,
                numerics=self.numerics,
                storage=self.storage,
                study=study_of(workload, self.numerics, profile),
                warm=warm_points(problem),
                known=known,
                limit=None if self.preset == "exhaustive" else limit,
                observe=self.display.round,
                clock=self.clock,
            )
            outcome = tester.written(outcome)
        note = "" if recorder is not None and not recorder.unwritten else "not written"
        return Tuned(workload, outcome=outcome, limit=limit, note=note)
