"""Pairs of lengths as they come (a list of pairs, an (N, 2) array, a histogram of such) as distinct pairs with counts."""

from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import is_histogram, numbers, summed
from seqpar.buckets.pair_plan import pairs
from seqpar.errors import OptionError, ShapeError

Array = Any


class Pairs(NamedTuple):
    """Distinct pairs as they are padded at least, and what they are in truth."""

    padded: Array
    """(D, 2), multiples of the step."""
    counts: Array
    tokens: Array
    """Steps of inputs and outputs of all samples of each."""

    @property
    def samples(self) -> int:
        return int(self.counts.sum())


def read_pairs(lengths: Any) -> tuple[Array, Array]:
    """Distinct pairs and how many samples have each."""
    if is_histogram(lengths):
        given, counts = pairs(NAME, "lengths", lengths[0]), numbers(NAME, "counts", lengths[1])
        if len(given) != len(counts):
            raise ShapeError(
                f"{NAME}: the histogram has {len(given)} pairs and {len(counts)} counts. Give one for each."
            )
    else:
        given = pairs(NAME, "lengths", lengths)
        counts = np.ones(len(given), np.int64)
    used = counts > 0
    given, counts = given[used], counts[used]
    if not len(given):
        raise OptionError(f"{NAME}: lengths is empty. Give the lengths of at least one sample.")
    if not given.any():
        raise OptionError(f"{NAME}: all {len(given)} pairs are zero. Give numbers of steps.")
    if float((given.sum(axis=1).astype(np.float64) * counts).sum()) >= 2.0**62:
        raise OptionError(
            f"{NAME}: the sequences have more than 2**62 steps in all. Give counts in larger units."
        )
    found, where = distinct(given)
    return found, summed(where, counts, len(found))


def distinct(given: Array) -> tuple[Array, Array]:
    """Each pair once, and which of them each given one is."""
    first, second = (given[:, 0], given[:, 1])
    width = int(second.max()) + 1
    if (int(first.max()) + 1) * width >= 2**62:
        (_, first), (_, second) = (np.unique(x, return_inverse=True) for x in (first, second))
        width = int(second.max()) + 1
    keys = first * width + second
    most = int(keys.max()) + 1
    if most < 4 * len(keys) + 1024:
        # Without sorting: 10 ms for a million pairs, not 150.
        seen = np.zeros(most, bool)
        seen[keys] = True
        where = (np.cumsum(seen) - 1)[keys]
        size = int(seen.sum())
    else:
        once, where = np.unique(keys, return_inverse=True)
        size = len(once)
    found = np.zeros((size, 2), np.int64)
    found[where] = given
    return found, where


def rounded(given: Array, step: int) -> Array:
    return np.maximum(-(-given // step), 1) * step
