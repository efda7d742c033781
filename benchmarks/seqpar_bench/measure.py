"""Time several things against each other: interleaved rounds, medians, ratios.

Machines drift (clocks, neighbours, page caches). So everything that will be compared is timed in the same rounds, one
sample of each per round, and a ratio is the median over rounds of what two neighbours in time did. Minima and all
samples are kept, so a reader can form another opinion.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Thunk = Callable[[], object]
"""Does the work once and waits until it is done."""


class MeasurementError(RuntimeError):
    """A clock or a result that cannot be right."""


@dataclass(frozen=True)
class Samples:
    """Seconds per call, one number per round."""

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds:
            raise MeasurementError("measure: no samples. Give at least one round.")
        for value in self.seconds:
            if not (math.isfinite(value) and value > 0):
                raise MeasurementError(
                    f"measure: a sample of {value!r} s is not a time. Measure longer calls."
                )

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    def over(self, other: "Samples") -> float:
        """How many times longer this takes than `other`: the median of the rounds' own ratios."""
        return statistics.median(m / n for m, n in zip(self.seconds, other.seconds, strict=True))


def interleave(
    cases: Mapping[str, Thunk],
    *,
    rounds: int = 15,
    sample_seconds: float = 2e-3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Samples]:
    """Time every case once per round, round after round.

    A case shorter than `sample_seconds` is repeated within a sample until it is that long, so that the clock's
    resolution does not matter. Each case runs twice beforehand: compilation and first touches are not timed.
    """
    if rounds < 1:
        raise MeasurementError(f"measure: rounds={rounds} is not a positive number. Give at least 1.")
    repeats = {name: _repeats(thunk, sample_seconds, clock) for name, thunk in cases.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds):
        names = list(cases)
        # Start each round elsewhere: nobody always runs behind the same neighbour's cache contents.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(_sample(cases[name], repeats[name], clock))
    return {name: Samples(tuple(values)) for name, values in seconds.items()}


def _sample(thunk: Thunk, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        thunk()
    return (clock() - start) / repeats


def _repeats(thunk: Thunk, target: float, clock: Callable[[], float]) -> int:
    thunk()
    once = _sample(thunk, 1, clock)
    if once >= target:
        return 1
    # One call is too short to be judged alone: estimate from ten.
    each = max(_sample(thunk, 10, clock), 1e-9)
    return max(1, math.ceil(target / each))
