"""The best boundaries by divide and conquer in NumPy, and plans that differ from one by one boundary.

Written from the definition and sharing nothing with seqpar: a peer of `plan_buckets`, and what its plans are held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any


def halving(lengths: Array, counts: Array, buckets: int) -> tuple[float, Array]:
    """Padded steps of the best choice, and its boundaries: O(buckets * distinct * log distinct).

    With C the samples up to each length, F_q(j) = min over i < j of F_{q-1}(i) + length[j] (C[j] - C[i]). Where the last bucket
    of j starts never falls as j rises, so that the middle j of a stretch halves what is looked at for the others: all middles of
    a level are one call of NumPy.
    """
    before = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    distinct = len(lengths)
    price = np.asarray(lengths, np.float64)
    best = np.concatenate([[0.0], price * before[1:]])
    starts = [np.zeros(distinct + 1, np.int64)]
    for _ in range(1, buckets):
        start = _starts(best, price, before)
        j = np.arange(1, distinct + 1)
        new = best[start[1:]] + price * (before[j] - before[start[1:]])
        best = np.concatenate([[0.0], new])
        starts.append(start)
    ends: list[int] = []
    last = distinct
    for start in reversed(starts):
        if last == 0:
            break
        ends.append(last - 1)
        last = int(start[last])
    return float(best[-1]), np.asarray(lengths)[np.asarray(ends[::-1])]


def _starts(best: Array, price: Array, before: Array) -> Array:
    """For every j = 1 .. distinct where its last bucket starts, 0 .. j - 1; level by level."""
    distinct = len(price)
    found = np.zeros(distinct + 2, np.int64)
    # Known are the starts of j = 0 and, as a wall that nothing is beyond, of distinct + 1.
    found[-1] = distinct - 1
    low: Array = np.array([1])
    high: Array = np.array([distinct])
    while low.size:
        middle = (low + high) // 2
        first = found[low - 1]
        last = np.minimum(found[high + 1], middle - 1)
        sizes = last - first + 1
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        node = np.repeat(np.arange(low.size), sizes)
        i = np.arange(sizes.sum()) - offsets[node] + first[node]
        value = best[i] - price[middle[node] - 1] * before[i]
        least = np.minimum.reduceat(value, offsets)
        at = np.flatnonzero(value == least[node])
        # Of several as good the first: written last.
        found[middle[node[at[::-1]]]] = i[at[::-1]]
        low, high = np.concatenate([low, middle + 1]), np.concatenate([middle - 1, high])
        left = low <= high
        low, high = low[left], high[left]
    return found[:-1]


def moved(boundaries: Array, lengths: Array) -> Iterator[Array]:
    """The same with one boundary at the next shorter or longer length; the last one stays."""
    places: Array = np.searchsorted(lengths, boundaries)
    for k in range(len(places) - 1):
        for by in (-1, 1):
            there = places[k] + by
            if there > (places[k - 1] if k else -1) and there < places[k + 1]:
                other = places.copy()
                other[k] = there
                yield lengths[other]
