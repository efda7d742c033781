"""How far two medians can be apart by chance, and how much faster or slower a machine was as a whole: for `changes`.

Everything is in logarithms of seconds, where "1.2 times as long" is the same distance for a microsecond and for a minute.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NORMAL = 1.4826
"""Standard deviation of normal numbers over the median of their absolute deviations."""
OF_MEDIAN = 1.2533
"""Standard error of the median over that of the mean, for normal numbers."""
UNKNOWN = 0.10
"""Spread of rounds that is assumed where no row of a run has enough rounds to tell."""
ENOUGH = 3
"""Rounds from which a spread is taken from a row itself."""


def deviation(numbers: Sequence[float]) -> float:
    """Their standard deviation, from the median of absolute deviations: few rounds beside a busy neighbour do not count."""
    centre = statistics.median(numbers)
    n = len(numbers)
    # A handful of numbers deviates less from its own median than from the true one (Croux and Rousseeuw, 1992).
    return NORMAL * n / max(n - 0.8, 0.2) * statistics.median(abs(x - centre) for x in numbers)


def usual_deviation(samples: Iterable[Sequence[float]]) -> float:
    """Of the rounds of a row, in a run: the median over rows with enough of them."""
    found = [deviation(logs) for logs in samples if len(logs) >= ENOUGH]
    return statistics.median(found) if found else UNKNOWN


@dataclass(frozen=True)
class Estimate:
    """A logarithm, and its standard error."""

    value: float
    error: float
    fast: float
    """The same of the faster rounds, by their lower quartile. What disturbs a machine makes rounds longer, never shorter: where
    most of a few rounds were disturbed, the median moves, and these stay."""

    @classmethod
    def of(cls, logs: Sequence[float], usual: float) -> Estimate:
        """The median of the rounds, which scatter as is `usual` in the run: few rounds agree or disagree by chance. Where they
        disagree by more than that, their own spread counts."""
        own = deviation(logs) / (1 + 1.5 / math.sqrt(len(logs))) if len(logs) >= ENOUGH else 0.0
        fast = sorted(logs)[(len(logs) - 1) // 4]
        return cls(statistics.median(logs), OF_MEDIAN * max(own, usual) / math.sqrt(len(logs)), fast)

    @classmethod
    def middle(cls, several: Sequence[Estimate]) -> Estimate:
        """Their median. How far they disagree does not count: two or three disagree by chance."""
        error = statistics.median(one.error for one in several) / math.sqrt(len(several))
        # Of two the median is the mean.
        error *= OF_MEDIAN if len(several) > 2 else 1.0
        value, fast = (statistics.median(getattr(one, of) for one in several) for of in ("value", "fast"))
        return cls(value, error, fast)

    def minus(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, math.hypot(self.error, other.error), self.fast - other.fast)

    def beyond(self, margin: float) -> int:
        """1 if it is above this, -1 if it is below minus this, 0 between; and by three quarters of it for the faster rounds."""
        for sign in (1, -1):
            if sign * self.value > margin and sign * self.fast > 0.75 * margin:
                return sign
        return 0


NOTHING = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Drift:
    """How much longer everything takes on a device, going by code that did not change."""

    ratio: Estimate
    """Logarithm of the common factor."""
    scatter: float
    """Standard deviation from row to row that rounds do not explain: what one run differs from the next without any reason."""
    yardsticks: int
    """Rows that it was taken from."""

    @classmethod
    def of(cls, ratios: Sequence[Estimate]) -> Drift:
        values = [ratio.value for ratio in ratios]
        centre, around = statistics.median(values), deviation(values)
        explained = statistics.median(ratio.error for ratio in ratios)
        error = OF_MEDIAN * max(around, explained) / math.sqrt(len(values))
        # The deviation of k rows is itself known to about one part in sqrt(k): what is within that, rounds explain.
        scatter = math.sqrt(max(around**2 - (1 + 1 / math.sqrt(len(values))) * explained**2, 0.0))
        return cls(Estimate(centre, error, centre), scatter, len(values))
