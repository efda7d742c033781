"""The groups of an epoch as a pure function of (key, epoch, step): any of them is found without those before it.

Used by `seqpar.BucketSampler`. Two shuffles lie on each other: of the samples in each pool (`seqpar.buckets.remainders`), and of
the groups of all buckets. Both are permutations that are evaluated only at the places asked for, so that resuming in the
middle of the hundredth epoch costs what its first batch costs.
"""

from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.permutation import Permutations, key_of
from seqpar.buckets.remainders import SAMPLES, Layout

Array = Any


class Groups(NamedTuple):
    """Some consecutive groups of an epoch."""

    buckets: Array
    starts: Array
    """Where the samples of each group start in `samples`, and the end of the last one."""
    samples: Array
    """Indices of the samples of all these groups, one group behind the other."""


class Order:
    """The order of the groups of a layout, and of the samples in them.

    `members` are the indices of all samples, sorted by bucket. `first_of` names a bucket to begin epoch 0 with.
    """

    def __init__(
        self, layout: Layout, members: Array, *, key: int, shuffle: bool, first_of: int | None = None
    ) -> None:
        self.steps = sum(layout.groups)
        self._members = members
        self._key = key
        self._shuffle = shuffle
        self._group_ends = np.cumsum(layout.groups)
        self._group_starts = self._group_ends - layout.groups
        self._first = None if first_of is None else int(self._group_starts[first_of])
        self._riders = np.array(layout.riders)
        self._capacity = np.array(layout.capacity)
        # The groups themselves are one more pool to shuffle.
        self._sizes = [*layout.sizes, self.steps]
        self._pool_starts = np.cumsum([0, *layout.sizes])
        parts = [part for pool in layout.pools for part in pool]
        self._part_ends = np.cumsum([part.size for part in parts])
        self._part_pool = np.array([part.pool for part in parts])
        # From a place in the row of all parts to the place in the pool where it leads.
        self._shift = np.array([part.start + part.size for part in parts]) - self._part_ends
        self._shuffled: tuple[int, Permutations] | None = None

    def groups(self, epoch: int, first: int, count: int) -> Groups:
        """The groups of steps first ... first + count - 1."""
        numbers = self._numbers(epoch, np.arange(first, first + count))
        buckets = np.searchsorted(self._group_ends, numbers, side="right")
        capacity = self._capacity[buckets]
        begin = (numbers - self._group_starts[buckets]) * capacity
        filled = np.minimum(capacity, self._riders[buckets] - begin)
        starts = np.concatenate([[0], np.cumsum(filled)])
        places = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], filled)
        pools = np.repeat(buckets, filled)
        return Groups(buckets, starts, self._members[self._addresses(epoch, pools, places)])

    def _numbers(self, epoch: int, steps: Array) -> Array:
        """The groups at these steps, counted from the first one of the first bucket."""
        numbers = self._permuted(epoch, np.full(len(steps), len(self._sizes) - 1), steps)
        if epoch == 0 and self._first is not None:
            # It changes places with the one that stood at step 0.
            displaced = self._permuted(0, np.array([len(self._sizes) - 1]), np.array([0]))[0]
            numbers[numbers == self._first] = displaced
            numbers[steps == 0] = self._first
        return numbers

    def _addresses(self, epoch: int, pools: Array, places: Array) -> Array:
        """Where the samples at these places of these pools stand in `members`."""
        row = self._pool_starts[pools] + self._permuted(epoch, pools, places)
        part = np.searchsorted(self._part_ends, row, side="right")
        places, pools = row + self._shift[part], self._part_pool[part]
        deeper = np.flatnonzero(pools != SAMPLES)
        if deeper.size:
            places[deeper] = self._addresses(epoch, pools[deeper], places[deeper])
        return places

    def _permuted(self, epoch: int, pools: Array, places: Array) -> Array:
        if not self._shuffle:
            return places.copy()
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = epoch, Permutations(self._sizes, key_of(self._key, epoch))
        return self._shuffled[1](pools, places)
