"""Shuffled orders that need no memory: the member at any place of a permutation, for a key, without the places before it.

Used by `seqpar.buckets.order`. A generator of random numbers shuffles n samples in O(n) time and memory, and cannot start in
the middle. Here the permutation is a function of (key, place) made of whole-number arithmetic on 64 bits, so that it is the
same on every platform and with every version of NumPy:

* up to `SMALL` members: the order in which hashes of the members sort, which is uniform over all orders;
* beyond: a Feistel network (each round adds a hash of one half to the other one, which can be undone, so that it is a
  bijection whatever the hash) on the smallest rectangle rows x columns >= n. A place that lands beyond n goes through the
  network again until it does not ("cycle walking", Black and Rogaway 2002); at most one in sqrt(n) does.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any

SMALL = 1024
# How far two members of one column are apart, over 600,000 keys of a set of 1025, should be uniform. Chi-square is beyond that by
# 931 standard deviations with 4 rounds, by 3.3 with 6, and not with 8.
ROUNDS = 8

# Odd constants of splitmix64 (Steele, Lea, Flood 2014): increment and multipliers.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def key_of(*facts: object) -> int:
    """A key of 64 bits for numbers and words; it does not depend on platform or process."""
    text = repr(facts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Permutations:
    """One permutation for each of several sets: set s has the members 0 ... sizes[s] - 1.

    Memory is O(number of sets), and a table of a small set when it is first asked for.

    >>> order = Permutations([5, 1_000_000_007], key=1)
    >>> order(np.zeros(5, int), np.arange(5))
    array([2, 4, 0, 3, 1])
    >>> order(np.array([1, 1]), np.array([0, 1_000_000_006]))
    array([783266560, 873942432])
    """

    def __init__(self, sizes: Sequence[int], key: int) -> None:
        rows = [max(1, math.isqrt(n)) for n in sizes]
        self._sizes = np.array(sizes, np.uint64)
        self._rows = np.array(rows, np.uint64)
        self._columns = np.array([-(-n // r) for n, r in zip(sizes, rows, strict=True)], np.uint64)
        sets = np.arange(1, len(sizes) + 1, dtype=np.uint64)
        self._seeds = _hash(np.full(len(sizes), key, np.uint64) + sets * _STEP)
        rounds = np.arange(1, ROUNDS + 1, dtype=np.uint64)
        self._keys = _hash(self._seeds + rounds[:, None] * _STEP)
        self._small = self._sizes <= SMALL
        ends = np.cumsum(np.where(self._small, sizes, 0))
        self._starts = ends - np.where(self._small, sizes, 0)
        self._tables = np.empty(int(ends[-1]), np.int64)
        self._made = np.zeros(len(sizes), bool)

    def __call__(self, sets: Array, places: Array) -> Array:
        """The members at these places of these sets; two arrays of integers of one length."""
        small = self._small[sets]
        if not small.any():
            return self._walk(sets, places)
        if small.all():
            return self._look_up(sets, places)
        found = np.empty(len(places), np.int64)
        found[small] = self._look_up(sets[small], places[small])
        found[~small] = self._walk(sets[~small], places[~small])
        return found

    def _look_up(self, sets: Array, places: Array) -> Array:
        for one in np.unique(sets[~self._made[sets]]):
            n, start = int(self._sizes[one]), int(self._starts[one])
            members = np.arange(1, n + 1, dtype=np.uint64)
            self._tables[start : start + n] = np.argsort(
                _hash(self._seeds[one] + members * _STEP), kind="stable"
            )
            self._made[one] = True
        return self._tables[self._starts[sets] + places]

    def _walk(self, sets: Array, places: Array) -> Array:
        found = self._network(sets, places.astype(np.uint64))
        again = np.flatnonzero(found >= self._sizes[sets])
        while again.size:
            found[again] = self._network(sets[again], found[again])
            again = again[found[again] >= self._sizes[sets[again]]]
        return found.astype(np.int64)

    def _network(self, sets: Array, places: Array) -> Array:
        rows, columns, keys = self._rows[sets], self._columns[sets], self._keys[:, sets]
        row, column = np.divmod(places, columns)
        scratch = np.empty_like(row)
        for i in range(0, ROUNDS, 2):
            row += _bits(column, keys[i], scratch)
            row %= rows
            column += _bits(row, keys[i + 1], scratch)
            column %= columns
        row *= columns
        row += column
        return row


def _bits(half: Array, key: Array, out: Array) -> Array:
    """40 well-mixed bits: with the half they stay below 2**64, for a sum that wrapped could not be undone under a modulus."""
    key += half
    key *= _FIRST
    np.right_shift(key, np.uint64(32), out=out)
    key ^= out
    key *= _SECOND
    key >>= np.uint64(24)
    return key


def _hash(x: Array) -> Array:
    """The output function of splitmix64, a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
