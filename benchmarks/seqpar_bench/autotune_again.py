"""Tuned choices measured once more: each beside the default that it replaced, in fresh processes, on other numbers.

Both take turns as first and as second, on operands that no cache holds, as the tuner measures. The interval is that of
Wilcoxon's signed-rank test on the rounds' own ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from seqpar.errors import BackendError, SeqparError
from seqpar_autotune.candidates import Candidate, candidate_of
from seqpar_autotune.outcome import Failure, Reading
from seqpar_autotune.paired import compare
from seqpar_autotune.space import Point
from seqpar_autotune.worker import Worker
from seqpar_autotune.workload import Workload
from seqpar_bench.measure import Samples

LEAST_ROUNDS = 15
LEVEL = 0.025
"""Chance that the interval misses on one of its sides: 95 % of intervals hold the ratio."""
SEED = 1
"""Of other numbers than those that it was tuned on."""
LIMIT = 60.0


class Timing(Protocol):
    """What is needed of a `Worker`."""

    def prepare(self, workload: Workload, seed: int = 0) -> None: ...
    def round(self, candidates: Sequence[Candidate]) -> list[Reading]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Again:
    """One choice beside its default."""

    name: str
    tuned: Samples
    default: Samples
    ratio: float
    """Tuned over default: above one, tuning made the call slower."""
    noise: float
    """Half the width of the 95 % interval around it, relative."""

    @property
    def slower(self) -> bool:
        """Slower than the default by more than the noise?"""
        return self.ratio > 1 + self.noise


def fresh() -> Timing:
    return Worker("cpu", limit=LIMIT)


def measured_again(
    results: Iterable[dict[str, Any]], rounds: int, make: Callable[[], Timing] = fresh
) -> dict[str, Again | str]:
    """By name, for results as `Tuned.to_dict` has them: the comparison, or why there is none."""
    found: dict[str, Again | str] = {}
    for _, group in groupby(sorted(results, key=_framework), _framework):
        worker = make()
        try:
            for result in group:
                try:
                    found[result["name"]] = _one(result, max(rounds, LEAST_ROUNDS), worker)
                except SeqparError as error:
                    found[result["name"]] = f"{type(error).__name__}: {error}"
        finally:
            worker.close()
    return found


def _framework(result: dict[str, Any]) -> str:
    return str(result["workload"]["framework"])


def _one(result: dict[str, Any], rounds: int, worker: Timing) -> Again:
    pair = [candidate_of(Point.from_dict(result[name])) for name in ("chosen", "default")]
    worker.prepare(workload_of(result["workload"]), SEED)
    seconds = [_round(worker, pair, turn) for turn in range(rounds)]
    return compared(result["name"], *zip(*seconds, strict=True))


def _round(worker: Timing, pair: Sequence[Candidate], turn: int) -> tuple[float, float]:
    """Seconds of both, the one and the other first in turn."""
    order = pair if turn % 2 == 0 else pair[::-1]
    readings = worker.round(order)
    for candidate, reading in zip(order, readings, strict=True):
        if isinstance(reading, Failure):
            raise BackendError(f"{candidate}: {reading.verdict}: {reading.message}")
    first, second = (float(reading) for reading in readings if not isinstance(reading, Failure))
    return (first, second) if turn % 2 == 0 else (second, first)


def compared(name: str, tuned: Sequence[float], default: Sequence[float]) -> Again:
    """Two rows of times that were taken side by side.

    >>> again = compared("call", [0.5, 0.51, 0.49] * 5, [1.0, 1.01, 0.99] * 5)
    >>> round(again.ratio, 2), again.noise < 0.02, again.slower
    (0.5, True, False)
    """
    above = compare(tuned, default, least_gain=0.0, level=LEVEL)
    below = compare(default, tuned, least_gain=0.0, level=LEVEL)
    half = math.expm1((math.log1p(above.noise) + math.log1p(below.noise)) / 2)
    return Again(name, Samples(tuple(tuned)), Samples(tuple(default)), above.ratio, half)


def workload_of(given: dict[str, Any]) -> Workload:
    """The workload that a dictionary describes, of an operation or of a user's step."""
    if "way" not in given:
        return Workload.from_dict(given)
    from seqpar_autotune.solving_workload import SolveWorkload

    return SolveWorkload.from_dict(given)
