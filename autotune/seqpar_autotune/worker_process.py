"""The process that candidates run in, started by `seqpar_autotune.process` and by nobody else.

It reads one request per line from its input, JSON, and writes one answer per line. It may crash, hang or be killed at any
time: whoever asks knows what it asked. Another, tiny process sees to it that none outlives the process that started it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Request = dict[str, Any]
MARK = "\x1e"
"""In front of every answer; JSON has no such character."""


def main(lifeline: int | None) -> None:
    """Answer requests until there are no more. `lifeline`: one end of a pipe; the other is closed when the parent is gone."""
    if lifeline is not None:
        watched_from(lifeline)
    requests, answers = _channel()
    faulthandler.enable()
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    work = _Work()
    while True:
        answers.write(MARK + json.dumps(work.answer(json.loads(inbox.get()))) + "\n")
        answers.flush()


def watched_from(lifeline: int) -> None:
    """A second process that ends this one, and whatever it starts, when the lifeline is cut.

    A thread could not: a kernel may let no other thread run. Linux's signal at a parent's death would end this process alone,
    and not the compilers that it has started.
    """
    if os.fork():
        os.close(lifeline)
        return
    # Nothing of the channel may stay open here, or the parent would not see that the worker is gone.
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, 256)
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


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
    os._exit(0)


class _Work:
    """What the requests are about: one workload at a time, and the candidates that ran on it."""

    way: Any = None

    def answer(self, request: Request) -> dict[str, Any]:
        """The answer to a request, or the verdict that an error of it means."""
        name = f"do_{request.pop('do')}"
        try:
            if name == "do_prepare":
                # A workload may bring a way of its own to be made, verified and called.
                way = request["workload"].get("way")
                self.way = None if way is None else _made(way)
                if (threads := request.pop("threads", None)) is not None:
                    _limit(request["workload"]["framework"], threads)
            does: Callable[..., Any] = getattr(self.way, name, None) or getattr(self, name)
            return {"answer": does(**request)}
        except Exception as error:
            return _failure(error)

    def do_start(self, imports: list[str]) -> None:
        """Before anything else: import what brings kernels along."""
        for name in imports:
            importlib.import_module(name)

    def do_prepare(
        self, workload: dict[str, Any], seed: int, cache: int | None, numerics: str
    ) -> dict[str, Any]:
        """Make operands to measure on. Returns how it is measured: whose clock counts, and sets of operands used in turns."""
        from .buffers import cache_of, rotation
        from .measuring import clock_of
        from .workload import Workload

        self.workload = Workload.from_dict(workload)
        self.seed = seed
        self.numerics: Any = numerics
        self.trials: Any = None
        self.samplers: dict[Any, Any] = {}
        if cache is None:
            cache = cache_of(self.workload.binding.profile(self.workload.device))
        self.sets = rotation(self.workload, seed, cache)
        return {"clock": clock_of(self.workload.binding, self.sets[0]), "sets": len(self.sets)}

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
        from .verification import check, larger

        instead = larger(self.workload, self.seed)
        return check(Candidate.from_dict(candidate), self.trials, self.numerics, instead=instead).to_dict()

    def do_time(self, candidate: dict[str, Any]) -> float:
        """Seconds of one call; one sample."""
        return float(self._sampler(candidate).sample())

    def do_warm(self, candidate: dict[str, Any]) -> dict[str, Any] | None:
        """Make a candidate ready, so that the next sample takes no longer than those of its neighbours.

        Returns what verification finds then, on the problem that it starts with: some go wrong after many calls.
        """
        from .candidates import Candidate
        from .verification import check

        sampler = self._sampler(candidate)
        if sampler.warm:
            return None
        sampler.warm_up()
        given = Candidate.from_dict(candidate)
        again = [trial for trial in self.trials or () if given.refusal(trial.workload.problem) is None]
        return check(given, again[:1]).to_dict() if again else None

    def _sampler(self, candidate: dict[str, Any]) -> Any:
        from .candidates import Candidate
        from .measuring import Sampler
        from .running import call_of

        given = Candidate.from_dict(candidate)
        if given not in self.samplers:
            call = call_of(self.workload, given, self.sets[0])
            self.samplers[given] = Sampler(self.workload.binding, call, self.sets)
        return self.samplers[given]


def _limit(framework: str, threads: int) -> None:
    """Give a framework the limit of threads that it has in the parent, whose results are filed under it."""
    from seqpar.dispatch.frameworks import binding_named
    from seqpar.errors import OptionError

    if framework == "torch":
        import torch

        torch.set_num_threads(threads)
    here = binding_named(framework).threads()
    if here != threads:
        raise OptionError(
            f"{framework} has a limit of {threads} threads where results are filed, and of {here} in the process that measures. "
            "Set it by a variable of the environment, which both have."
        )


def _made(path: str) -> Any:
    """An object of the class that ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)()


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
