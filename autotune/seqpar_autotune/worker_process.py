"""The process that candidates run in, started by `seqpar_autotune.process` and by nobody else.

It reads one request per line from its input, JSON, and writes one answer per line. It may crash, hang or be killed at any
time: whoever asks knows what it asked. It ends when its input does, so that no worker outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Request = dict[str, Any]


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = _channel()
    faulthandler.enable()
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    work = _Work()
    while True:
        answers.write(json.dumps(work.answer(json.loads(inbox.get()))) + "\n")
        answers.flush()


def die_with(parent: int) -> None:
    """Linux kills this process when the thread that started it ends, even while a kernel lets no other thread run."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _channel() -> tuple[TextIO, TextIO]:
    """Input and output for requests alone: what kernels and compilers print goes to stderr."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _read(requests: TextIO, inbox: queue.SimpleQueue[str]) -> None:
    for line in requests:
        inbox.put(line)
    # Whoever started this process is gone. Compilers that it has started go with it.
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


class _Work:
    """What the requests are about: one workload at a time, and the candidates that ran on it."""

    def answer(self, request: Request) -> dict[str, Any]:
        """The answer to a request, or the verdict that an error of it means."""
        does: Callable[..., Any] = getattr(self, f"do_{request.pop('do')}")
        try:
            return {"answer": does(**request)}
        except Exception as error:
            return _failure(error)

    def do_start(self, imports: list[str], parent: int | None) -> None:
        """Before anything else: import what brings kernels along."""
        if parent is not None:
            die_with(parent)
        for name in imports:
            importlib.import_module(name)

    def do_prepare(self, workload: dict[str, Any], seed: int, cache: int | None, numerics: str) -> int:
        """Make operands to measure on. Returns how many sets of them are used in turns."""
        from .buffers import cache_of, rotation
        from .workload import Workload

        self.workload = Workload.from_dict(workload)
        self.seed = seed
        self.numerics: Any = numerics
        self.trials: Any = None
        self.samplers: dict[Any, Any] = {}
        if cache is None:
            cache = cache_of(self.workload.binding.profile(self.workload.device))
        self.sets = rotation(self.workload, seed, cache)
        return len(self.sets)

    def do_solve(self) -> None:
        """Problems for verification and their answers, by the plain algorithm."""
        from .verification import trials

        if self.trials is None:
            self.trials = trials(self.workload, self.seed)
            for trial in self.trials:
                _ = trial.answers, trial.operands

    def do_check(self, candidate: dict[str, Any]) -> dict[str, Any]:
        """Is the candidate right?"""
        from .candidates import Candidate
        from .verification import check

        return check(Candidate.from_dict(candidate), self.trials, self.numerics).to_dict()

    def do_time(self, candidate: dict[str, Any]) -> float:
        """Seconds of one call; one sample."""
        return float(self._sampler(candidate).sample())

    def do_warm(self, candidate: dict[str, Any]) -> None:
        """Make a candidate ready, so that the next sample takes no longer than those of its neighbours."""
        sampler = self._sampler(candidate)
        if not sampler.warm:
            sampler.warm_up()

    def _sampler(self, candidate: dict[str, Any]) -> Any:
        from .candidates import Candidate
        from .measuring import Sampler
        from .running import call_of

        given = Candidate.from_dict(candidate)
        if given not in self.samplers:
            call = call_of(self.workload, given, self.sets[0])
            self.samplers[given] = Sampler(self.workload.binding, call, self.sets)
        return self.samplers[given]


def _failure(error: BaseException) -> dict[str, Any]:
    from .verdict import Verdict

    verdict = verdict_of(error)
    # That it does not compile says the verdict; why, what it was raised from.
    told = list(causes(error))[-1] if verdict is Verdict.COMPILE else error
    return {"verdict": str(verdict), "message": digest(told)}


def verdict_of(error: BaseException) -> Any:
    """What an error that a candidate raises says of it."""
    from seqpar.buckets.user_step import is_out_of_memory
    from seqpar.errors import BackendError, NotEligibleError, OptionError

    from .verdict import Verdict

    if is_out_of_memory(error):
        return Verdict.MEMORY
    for each in causes(error):
        if isinstance(each, (NotEligibleError, OptionError)):
            return Verdict.INVALID
        if (
            isinstance(each, BackendError)
            or "compil" in f"{type(each).__name__} {type(each).__module__}".lower()
        ):
            return Verdict.COMPILE
    return Verdict.CRASH


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def digest(error: BaseException, most: int = 500) -> str:
    """An error in one line, its end cut off: compilers give pages."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= most else f"{text[:most]}..."


if __name__ == "__main__":
    main()
