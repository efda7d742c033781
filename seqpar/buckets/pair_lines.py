"""Buckets of pairs along one number: the input, the output, their sum, or the longer of them.

Where both lengths go together these cost less than buckets of inputs with buckets of outputs in each, so
`seqpar.buckets.pairs` takes them if they do, and names them among the rivals if not. Each line is cut where the steps along it
are padded least; a bucket is then padded to the longest input and the longest output in it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.cuts import hull_cuts
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import histogram
from seqpar.buckets.prices import groups
from seqpar.dispatch.options import Request

Array = Any
KEYS: dict[str, Callable[[Array], Array]] = {
    "the input": lambda pairs: pairs[:, 0],
    "the output": lambda pairs: pairs[:, 1],
    "the sum of both": lambda pairs: pairs.sum(axis=1),
    "the longer of both": lambda pairs: pairs.max(axis=1),
}


class Line(NamedTuple):
    """Samples in the order of one number."""

    name: str
    longest: Array
    """(K, 2): the longest input and output of samples with each value of the number."""
    counts: Array
    """Of samples with each value."""
    ends: Callable[[int], list[int]]
    """The last value of each of so many buckets."""
    most: int

    def boundaries(self, number: int) -> Array:
        """Pairs that hold all samples in at most so many buckets, in the order of a plan."""
        return np.unique(self._boxes(self._starts(number)), axis=0)

    def cost(self, number: int, prices: Callable[[Array], Array]) -> float:
        """What they cost, if every sample stays in the bucket of its value."""
        starts = self._starts(number)
        counts = np.add.reduceat(self.counts.astype(np.float64), starts)
        return float((prices(self._boxes(starts)) * counts).sum())

    def reached(self, number: int, prices: Callable[[Array], Array]) -> float:
        """A cost that these boundaries do not exceed, inf if none is known.

        Where each pair holds the one before and costs no less, a sample that goes to an earlier one costs no more there.
        """
        boxes = self._boxes(self._starts(number))
        price = prices(boxes)
        rising = bool(
            (np.diff(boxes, axis=0) >= 0).all() and np.isfinite(price).all() and (np.diff(price) >= 0).all()
        )
        return self.cost(number, prices) if rising else np.inf

    def _starts(self, number: int) -> Array:
        return np.asarray([0, *(end + 1 for end in self.ends(min(number, self.most))[:-1])])

    def _boxes(self, starts: Array) -> Array:
        return np.maximum.reduceat(self.longest, starts, axis=0)


def lines(pairs: Array, counts: Array, buckets: int, request: Request) -> list[Line]:
    """One for each number, cut into up to so many buckets."""
    return [_line(name, key(pairs), pairs, counts, buckets, request) for name, key in KEYS.items()]


def _line(name: str, key: Array, pairs: Array, counts: Array, buckets: int, request: Request) -> Line:
    each = histogram(NAME, (key, counts))
    cuts = hull_cuts(groups(each.lengths.astype(np.float64), each.counts), buckets, request)
    where = np.searchsorted(each.lengths, key)
    longest = np.zeros((len(each.lengths), 2), np.int64)
    for side in (0, 1):
        # By columns: NumPy is ten times as fast where both operands have one axis.
        column = np.zeros(len(longest), np.int64)
        np.maximum.at(column, where, pairs[:, side])
        longest[:, side] = column
    return Line(name, longest, each.counts, cuts.ends, len(cuts.curve))
