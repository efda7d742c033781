"""Boundaries as others choose them, to be told what they would have cost."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Rival(NamedTuple):
    """Another way to choose boundaries, and what it would have cost under the same rules."""

    boundaries: tuple[int, ...]
    cost: float
    padding: float


def uniform(lengths: Array, counts: Array, buckets: int) -> Array:
    """Equal steps up to the longest."""
    return np.ceil(float(lengths[-1]) * np.arange(1, buckets + 1) / buckets)


def quantile(lengths: Array, counts: Array, buckets: int) -> Array:
    """As many sequences in each bucket (what `get_buckets` of fairseq does)."""
    return _equal_shares(lengths, counts, buckets)


def equal_duration(lengths: Array, counts: Array, buckets: int) -> Array:
    """As many steps in each bucket (what the `DynamicBucketingSampler` of lhotse does)."""
    return _equal_shares(lengths, lengths * counts, buckets)


def powers_of_two(lengths: Array, counts: Array, buckets: int) -> Array:
    """Every power of two from the shortest to the longest, however many that are; the longest itself in place of the last.

    So nobody is asked for the cost of lengths beyond the longest, and the last batch has room if the longest sequence has.
    """
    low, high = (int(np.ceil(np.log2(max(1, length)))) for length in (lengths[0], lengths[-1]))
    return np.minimum(2.0 ** np.arange(low, high + 1), lengths[-1])


RIVALS: dict[str, Callable[[Array, Array, int], Array]] = {
    "uniform": uniform,
    "quantile": quantile,
    "equal_duration": equal_duration,
    "powers_of_two": powers_of_two,
}


def _equal_shares(lengths: Array, shares: Array, buckets: int) -> Array:
    total = np.cumsum(shares, dtype=np.float64)
    # The boundary is the first length with which the share is full.
    return lengths[np.searchsorted(total, total[-1] * np.arange(1, buckets + 1) / buckets * (1 - 1e-12))]
