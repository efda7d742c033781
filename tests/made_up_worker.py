"""A worker that runs nothing: what candidates take is made up, and so is the clock. For tests of what decides by such times."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import seqpar
from seqpar.dispatch.operation import operations
from seqpar_autotune.candidates import Candidate
from seqpar_autotune.outcome import Failure
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.verification import Checked
from seqpar_autotune.workload import Workload

SECONDS = Callable[[Candidate], Any]
"""Seconds of a candidate, or its failure."""


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MadeUp:
    """Makes workers, as `Worker` itself does, and remembers what they were asked."""

    def __init__(
        self, seconds: SECONDS, *, noise: float = 0.005, to_try: float = 0.1, limit_costs: bool = True
    ) -> None:
        self.seconds = seconds
        self.noise = noise
        self.to_try = to_try
        """Seconds that compiling and verifying a candidate takes."""
        self.clock = Clock()
        self.random = random.Random(1)
        self.tried: list[tuple[str, Candidate]] = []
        """Workload and candidate, in the order of the first try."""
        self.made: list[str] = []
        self.closed = 0
        self.before_round: Callable[[Candidate], None] = lambda candidate: None

    def __call__(self, device: str, *, limit: float, imports: Sequence[str] = ()) -> "MadeUpWorker":
        self.made.append(device)
        return MadeUpWorker(self, limit)


class MadeUpWorker:
    def __init__(self, maker: MadeUp, limit: float) -> None:
        self.maker, self.limit = maker, limit
        self.checked: dict[Candidate, Checked] = {}
        self.name = ""
        self.policy: dict[str, Any] = {}

    def prepare(self, workload: Workload, seed: int = 0, *, numerics: str = "any") -> None:
        self.checked.clear()
        self.name = workload.name
        self.policy = {"clock": "made up", "sets": 3}
        self.maker.clock.now += 0.5

    def check(self, candidate: Candidate) -> Checked:
        if candidate not in self.checked:
            self.maker.before_round(candidate)
            self.maker.tried.append((self.name, candidate))
            found = self.maker.seconds(candidate)
            failed = isinstance(found, Failure)
            hangs = failed and found.verdict is Verdict.TIMEOUT
            self.maker.clock.now += self.limit if hangs else self.maker.to_try
            self.checked[candidate] = Checked(found.verdict, found.message) if failed else Checked(Verdict.OK)
        return self.checked[candidate]

    def round(self, candidates: Sequence[Candidate]) -> list[Any]:
        return [self.reading(candidate) for candidate in candidates]

    def reading(self, candidate: Candidate) -> Any:
        known = self.check(candidate)
        if not known.ok:
            return Failure(known.verdict, known.message)
        seconds = self.maker.seconds(candidate) * self.maker.random.lognormvariate(0, self.maker.noise)
        # A sample lasts a millisecond at least.
        self.maker.clock.now += max(seconds, 1e-3)
        return seconds

    def close(self) -> None:
        self.maker.closed += 1


def call(*shape: int, weight: float = 1.0, framework: str = "numpy") -> Workload:
    """A linear recurrence of these sizes."""
    ones = np.ones(shape, np.float32)
    found = Workload.of(seqpar.linear_recurrence, ones, ones)
    return Workload(found.operation, found.spec, found.operands, framework, found.device, weight)


def chunked_wins(candidate: Candidate) -> float:
    """Half the default's time in chunks, the less the nearer they are to 4096 steps."""
    if candidate.label != "host.chunked":
        return 1e-3
    return 5e-4 * (1 + 0.1 * abs(np.log2(candidate.config["chunk"] / 4096)))


def default_wins(candidate: Candidate) -> float:
    return 1e-3 if candidate.label == "host.sequential" else 3e-3


assert "linear_recurrence" in operations
