"""Is one thing faster than another? Decided on pairs of times that were taken next to each other.

The estimate is the Hodges-Lehmann one, the median of the means of all pairs of log-ratios; the interval inverts
Wilcoxon's signed-rank test, exactly: nothing is assumed of the noise but symmetry, which measuring the two in turns as
first and as second gives. Simulated with candidates that equal the default (tests/autotune/test_paired.py).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .outcome import Final

LEVEL = 0.01
"""Chance that the interval misses on its side."""
CERTAIN, FEW = 2.0, 3
"""Where there is no time for as many pairs as that takes: faster by this factor in every one of so many. Noise that makes one of
two equal things look twice as fast three times in a row is of no machine that can be tuned on."""


def compare(
    winner: Sequence[float], default: Sequence[float], *, least_gain: float, level: float = LEVEL
) -> Final:
    """Winner against default: adopted where it is faster by more than the noise, and by more than `least_gain`.

    >>> slow = [1.0, 1.1, 1.0, 0.9, 1.0, 1.2, 1.0, 1.1]
    >>> compare([0.8 * seconds for seconds in slow], slow, least_gain=0.02).adopted
    True
    """
    ratios = np.log(np.asarray(winner, float) / np.asarray(default, float))
    means = walsh_averages(ratios)
    if means.size == 0:
        return Final((), (), 1.0, math.inf, False)
    estimate = float(np.median(means))
    rank = _rank(len(ratios), level)
    if rank:
        noise = float(means[-rank]) - estimate
    elif len(ratios) >= FEW and ratios.max() < -math.log(CERTAIN):
        noise = float(ratios.max()) - estimate
    else:
        noise = math.inf
    # Relative, as the ratio is.
    noise = math.expm1(noise) if math.isfinite(noise) else noise
    gain = -math.expm1(estimate)
    adopted = gain > max(noise, least_gain)
    return Final(tuple(winner), tuple(default), math.exp(estimate), noise, adopted)


def fewest_rounds(level: float = LEVEL) -> int:
    """With fewer pairs no result can be certain: all n of one sign have the chance 2^-n."""
    return math.ceil(-math.log2(level))


def walsh_averages(values: np.ndarray) -> np.ndarray:
    """Means of all pairs, each value with itself too, rising."""
    i, j = np.triu_indices(len(values))
    return np.sort((values[i] + values[j]) / 2)


@functools.cache
def _rank(n: int, level: float) -> int:
    """Which of the averages, from the top, bounds the median from above with this chance to miss; 0 if none does."""
    # Number of subsets of 1..n with each sum: the distribution of the signed-rank statistic.
    ways = [1]
    for rank in range(1, n + 1):
        longer = ways + [0] * rank
        for i, count in enumerate(ways):
            longer[i + rank] += count
        ways = longer
    total, below = 2**n, 0
    for statistic, count in enumerate(ways):
        below += count
        if below > level * total:
            return statistic
    return 0
