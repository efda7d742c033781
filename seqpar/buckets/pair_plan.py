"""The result of `seqpar.plan_buckets` for pairs of lengths, such as those of a translation: a bucket has two boundaries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqpar.buckets.lengths import on_host, whole
from seqpar.buckets.plan import BucketPlan
from seqpar.errors import OptionError, ShapeError

Array = Any


@dataclass(frozen=True, kw_only=True, repr=False)
class PairPlan(BucketPlan):
    """A `BucketPlan` whose boundaries are pairs (input, output); a sample is padded to the first that holds both of its lengths.

    Boundaries rise by input, and by output among those of one input.

    Examples
    --------
    >>> from seqpar import plan_buckets
    >>> plan = plan_buckets([(3, 9), (5, 2), (5, 4), (90, 80), (100, 20)], (2, 2))
    >>> plan.boundaries
    ((5, 4), (5, 9), (100, 20), (100, 80))
    >>> plan.bucket_of([(4, 4), (4, 5), (80, 20)]).tolist()
    [0, 1, 2]
    """

    boundaries: tuple[Any, ...]
    """What inputs and outputs of the samples of each bucket are padded to."""
    limit: Any
    """The longest input and the longest output that are served whole: those of the boundaries, or `max_length`."""

    @property
    def padding(self) -> float:
        """Share of the padded steps, of inputs and outputs, that no sequence has: 1 - real/padded."""
        padded: int = sum(n * sum(boundary) for n, boundary in zip(self.counts, self.boundaries, strict=True))
        return 1.0 - sum(self.tokens) / padded

    def bucket_of(self, lengths: Any) -> Array:
        """The bucket of each pair of lengths, an (N, 2) array, as integers; -1 for those that are dropped."""
        given = pairs("PairPlan.bucket_of", "lengths", lengths)
        if self.on_overflow == "truncate":
            given = np.minimum(given, self.limit)
        found = first_that_holds(self.boundaries, given)
        found[(given > self.limit).any(axis=1)] = -1
        if self.on_overflow != "drop" and (found < 0).any():
            i = int(np.argmin(found))
            raise OptionError(
                f"PairPlan.bucket_of: lengths[{i}]={tuple(given[i].tolist())} fits into no bucket; the longest are "
                f'{self.boundaries[-1]}. Plan with that pair, or with max_length= and on_overflow="drop".'
            )
        return found

    def next_bucket(self, bucket: int) -> int:
        """The next bucket that holds all samples of this one, -1 if there is none."""
        ours = self.boundaries[bucket]
        for other in range(bucket + 1, self.n_buckets):
            if all(low <= high for low, high in zip(ours, self.boundaries[other], strict=True)):
                return other
        return -1


def first_that_holds(boundaries: tuple[tuple[int, int], ...], lengths: Array) -> Array:
    """The first pair of boundaries that holds each pair of lengths, -1 where none does."""
    found = np.full(len(lengths), -1)
    first, second = np.ascontiguousarray(lengths.T)
    for k in range(len(boundaries) - 1, -1, -1):
        found[(first <= boundaries[k][0]) & (second <= boundaries[k][1])] = k
    return found


def pairs(name: str, what: str, given: Any) -> Array:
    """Pairs of whole numbers of zero or more as an (N, 2) array of int64."""
    values = on_host(name, what, given)
    if values.ndim != 2 or values.shape[1] != 2:
        raise ShapeError(f"{name}: {what}.shape={values.shape} is not (N, 2). Give two numbers per sample.")
    return whole(name, what, values)
