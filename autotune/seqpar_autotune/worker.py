"""`Worker`: candidates run in another process, so that a crash, a hang, too little memory or a spoilt device costs one of them.

Called by the tuner, through `seqpar_autotune.lab`. The process is replaced whenever it may have been damaged; the next
one prepares the workload again, and the round goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from seqpar.dispatch.frameworks import binding_named
from seqpar.dispatch.options import Numerics
from seqpar.errors import BackendError, OptionError

from .candidates import Candidate
from .measuring import is_time
from .outcome import Failure, Reading
from .process import Process
from .verdict import Verdict
from .verification import Checked

STARTING = 120.0
"""Seconds to import a framework, to make operands, or to solve the problems for verification, unless `limit` is more."""
SUSPECTS, INQUIRIES = 6, 3
"""Where one failed only because another had run before, so many are looked at, each in a fresh process; and so often."""
DAMAGING = frozenset((Verdict.CRASH, Verdict.MEMORY, Verdict.WRONG))
"""After these the process is replaced: a sticky error of CUDA fails all later calls, and a wrong kernel may write anywhere."""
DOUBTFUL = frozenset((Verdict.CRASH, Verdict.MEMORY))
"""These may come from what ran before: nothing is blamed for them that was not alone in a process. What is wrong stays wrong."""


class Described(Protocol):
    """What a worker has to know of a workload: plain data, from which its process makes it again."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


class Worker:
    """A process that checks and times candidates on one device.

    `device`: "cpu", "cuda" or "cuda:1". `limit`: seconds that a candidate may take for one request, compiling included. `cache`:
    bytes of the cache that operands are not to be found in; by default the device's last level. `imports`: modules that the
    process imports first, for kernels that are not installed.

        with Worker() as worker:
            worker.prepare(workload, seed=0)
            seconds = worker.round([default, other])
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        limit: float = 30.0,
        cache: int | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self.device = device
        self.limit = limit
        self.cache = cache
        self.imports = tuple(imports)
        self.starts = 0
        """Processes that were started so far."""
        self.policy: dict[str, Any] = {}
        """How the workload is measured, for the store: whose "clock", "events" or "wall"; number of "sets" used in turns."""
        self._process: Process | None = None
        self._preparing: dict[str, Any] | None = None
        self._solved = False
        self._warm: set[Candidate] = set()
        self._guests: list[Candidate] = []
        """What ran in the process at hand, the last one last."""
        self._checked: dict[Candidate, Checked] = {}
        self._inquiries = 0

    def prepare(self, workload: Described, seed: int = 0, *, numerics: Numerics = "any") -> None:
        """All that follows is about this workload. Raises `BackendError` where its operands cannot be made."""
        if workload.device != self.device.partition(":")[0]:
            raise OptionError(
                f"Worker: {workload.name} is not for device={self.device!r}. Give it to a worker for {workload.device!r}."
            )
        described = workload.to_dict()
        self._preparing = {
            "workload": described,
            "threads": _threads(described.get("framework"), workload.device),
            "seed": seed,
            "cache": self.cache,
            "numerics": numerics,
        }
        self._checked.clear()
        self._inquiries = 0
        if self._process is not None and self._process.alive:
            found = self._prepared(self._process)
            if not isinstance(found, Failure):
                return
            # Perhaps memory was not enough for two workloads, or what ran before has done damage.
            self.close()
        self._ready()

    def check(self, candidate: Candidate) -> Checked:
        """Is the candidate right, and does it stay within the limit? Asked once per workload; `verdict` and `message` say."""
        known = self._checked.get(candidate)
        if known is None:
            found = self._judged("check", candidate)
            known = _failed(found) if isinstance(found, Failure) else Checked.from_dict(found)
            self._checked[candidate] = known
            if known.verdict is Verdict.WRONG:
                self.close()
        return known

    def round(self, candidates: Sequence[Candidate]) -> list[Reading]:
        """Seconds of one call of each, taken next to each other in this order. What was not checked is checked before."""
        for candidate in candidates:
            if self.check(candidate).ok and candidate not in self._warm:
                self._warmed(candidate)
        readings = [self._reading(candidate) for candidate in candidates]
        # A candidate may have been blamed for what came after it.
        return [
            reading if self.check(candidate).ok else _failure(self.check(candidate))
            for candidate, reading in zip(candidates, readings, strict=True)
        ]

    def close(self) -> None:
        """End the process. The worker can be used on, and then starts another one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warmed(self, candidate: Candidate) -> None:
        found = self._judged("warm", candidate)
        if isinstance(found, Failure):
            self._checked[candidate] = _failed(found)
        elif isinstance(found, dict) and (again := Checked.from_dict(found)).verdict is Verdict.WRONG:
            self._checked[candidate] = again._replace(message=f"after many calls {again.message}")
            self.close()

    def _reading(self, candidate: Candidate) -> Reading:
        known = self.check(candidate)
        if not known.ok:
            return _failure(known)
        found = self._judged("time", candidate)
        if not isinstance(found, Failure) and not is_time(found):
            # A clock may be set in between, once.
            found = self._judged("time", candidate)
        if not isinstance(found, Failure) and not is_time(found):
            found = Failure(Verdict.UNSTABLE, f"{found!r} s is not a time")
        if isinstance(found, Failure):
            self._checked[candidate] = _failed(found)
            return found
        return float(found)

    def _judged(self, do: str, candidate: Candidate) -> Any:
        """An answer about a candidate, or a failure that is its own."""
        found = self._once(do, candidate)
        if not isinstance(found, Failure):
            return found
        before = [guest for guest in self._guests if guest != candidate]
        if found.verdict in DAMAGING:
            self.close()
        if found.verdict not in DOUBTFUL or not before:
            return found
        again = self._once(do, candidate)
        if not isinstance(again, Failure):
            if found.verdict is Verdict.CRASH:
                self._blame(do, candidate, before)
        elif again.verdict in DAMAGING:
            self.close()
        return again

    def _blame(self, do: str, victim: Candidate, before: Sequence[Candidate]) -> None:
        """Which of those before made the victim fail? Each runs with it, alone, in a fresh process."""
        if self._inquiries >= INQUIRIES:
            return
        self._inquiries += 1
        for suspect in list(reversed(before))[:SUSPECTS]:
            self.close()
            if isinstance(self._once("time", suspect), Failure):
                continue
            found = self._once(do, victim)
            if isinstance(found, Failure) and found.verdict is Verdict.CRASH:
                self.close()
                why = f"what runs after it in the same process fails: {found.message}"
                self._checked[suspect] = Checked(Verdict.CRASH, why)
                return

    def _once(self, do: str, candidate: Candidate) -> Any:
        process = self._ready()
        if do == "check" and not self._solved:
            solved = process.ask("solve", max(self.limit, STARTING))
            if isinstance(solved, Failure):
                self.close()
                raise _unable("solve its problems for verification", solved)
            self._solved = True
        if candidate in self._guests:
            self._guests.remove(candidate)
        self._guests.append(candidate)
        found = process.ask(do, self.limit, candidate=candidate.to_dict())
        if do in ("warm", "time") and not isinstance(found, Failure):
            self._warm.add(candidate)
        return found

    def _ready(self) -> Process:
        """The process at hand, or a new one, with the workload prepared."""
        if self._preparing is None:
            raise OptionError("Worker: there is no workload yet. Call worker.prepare(workload) first.")
        if self._process is not None and self._process.alive:
            return self._process
        self.close()
        self.starts += 1
        self._process = process = Process(self.device)
        found = process.start(self.imports, max(self.limit, STARTING))
        if not isinstance(found, Failure):
            found = self._prepared(process)
        if isinstance(found, Failure):
            self.close()
            raise _unable("prepare it", found)
        return process

    def _prepared(self, process: Process) -> Any:
        assert self._preparing is not None
        self._solved = False
        self._warm.clear()
        self._guests.clear()
        found = process.ask("prepare", max(self.limit, STARTING), **self._preparing)
        if not isinstance(found, Failure):
            self.policy = found
        return found


def _threads(framework: str | None, device: str) -> int | None:
    """The framework's own limit of threads here, which is a part of the profile that results are filed under."""
    return None if framework is None or device != "cpu" else binding_named(framework).threads()


def _failed(found: Failure) -> Checked:
    return Checked(found.verdict, found.message)


def _failure(found: Checked) -> Failure:
    return Failure(found.verdict, found.message)


def _unable(what: str, found: Failure) -> BackendError:
    return BackendError(
        f"Worker: the workload cannot be tuned: the process could not {what} ({found.verdict}: {found.message})."
    )
