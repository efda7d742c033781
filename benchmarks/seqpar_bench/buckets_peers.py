"""What plans are held against: all choices there are, one by one; and the optimum from a table of all pairs of lengths, in NumPy.

Both are written from the definition and share nothing with seqpar: a sample goes to the smallest boundary that holds it, and
costs what a sample costs there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

Array = Any


def cost_of(lengths: Array, counts: Array, price: Array, ends: tuple[int, ...], extra: float = 0.0) -> float:
    """Cost of the buckets that end at these positions, and `extra` for each."""
    where = np.asarray(ends)[np.searchsorted(np.asarray(ends), np.arange(len(lengths)))]
    return float((counts * price[where]).sum()) + extra * len(ends)


def brute_force(
    lengths: Array, counts: Array, price: Array, buckets: int, extra: float = 0.0
) -> tuple[float, tuple[int, ...]]:
    """The least cost of at most so many buckets, and the positions where they end: every choice is tried."""
    return min(
        (cost_of(lengths, counts, price, ends, extra), ends) for ends in _choices(len(lengths), buckets)
    )


def _choices(distinct: int, buckets: int) -> Iterator[tuple[int, ...]]:
    for inner in range(min(buckets, distinct)):
        for ends in combinations(range(distinct - 1), inner):
            yield (*ends, distinct - 1)


def numpy_dp(lengths: Array, counts: Array, buckets: int, block: int = 512) -> tuple[float, Array]:
    """Padded steps of the best choice, and its boundaries: O(buckets * distinct ** 2), a block of rows at a time.

    With C the samples up to each length, F_q(j) = min over i of F_{q-1}(i) + length[j] (C[j] - C[i]).
    """
    before = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    distinct = len(lengths)
    price = lengths.astype(np.float64)
    best = price * before[1:]
    starts = [np.zeros(distinct, np.int64)]
    for _ in range(1, buckets):
        new, start = np.empty(distinct), np.empty(distinct, np.int64)
        for low in range(0, distinct, block):
            rows = slice(low, min(low + block, distinct))
            most = rows.stop
            # Groups before the last bucket: 1 .. j. Where a row has none the bucket starts at the first length.
            table = best[: most - 1] - price[rows, None] * before[1:most]
            table[np.arange(1, most)[None, :] > np.arange(low, most)[:, None]] = np.inf
            if table.shape[1]:
                start[rows] = table.argmin(1) + 1
                new[rows] = np.take_along_axis(table, start[rows, None] - 1, 1)[:, 0]
            else:
                new[rows] = np.inf
            new[rows] += price[rows] * before[low + 1 : most + 1]
        best = np.where(new < best, new, best)
        starts.append(np.where(new <= best, start, starts[-1]))
    ends, j = [], distinct - 1
    for start in reversed(starts):
        ends.append(j)
        j = int(start[j]) - 1
        if j < 0:
            break
    return float(best[-1]), lengths[np.asarray(ends[::-1])]
