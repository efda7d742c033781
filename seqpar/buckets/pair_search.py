"""Boundaries for pairs of lengths: buckets of the first length, each with buckets of its own for the second.

Pairs are counted on a grid of at most 64 first lengths and 128 second ones, those that are the best boundaries of each by
itself. On the grid the best choice of this form is found: for each range of first lengths the second are cut exactly (the hull of
`seqpar.algorithms.bucketing`), and the ranges by trying all. With w(i, j, r) the cost of the samples whose first length is among
i..j in r buckets of the second,

    F_q(j) = min over i <= j and r <= q of  F_{q-r}(i-1) + w(i, j, r).

Other tilings of the plane can be better, and so can boundaries off the grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.cuts import hull_cuts
from seqpar.buckets.prices import Groups, groups
from seqpar.dispatch.options import Request

Array = Any
FIRST, SECOND = 64, 128
"""Lengths on the grid. 128 and 256 of them take four times as long, and on a million lognormal pairs save 0.01 %."""


class Grid(NamedTuple):
    """Pairs counted on a grid, and what a sample costs at each of its points; inf where not even one fits into a batch."""

    first: Array
    second: Array
    counts: Array
    price: Array


class PairCuts(NamedTuple):
    """The best choice for each number of buckets."""

    curve: Array
    ends: Callable[[int], list[tuple[int, int]]]
    """Points of the grid that are the boundaries of q buckets."""


def free_split(grid: Grid, buckets: int, request: Request) -> PairCuts:
    """For 1, ..., `buckets` buckets in all, as many for each range of first lengths as are best."""
    costs, ends_of = _ranges(grid, buckets, request)
    size = len(grid.first)
    best = np.full((buckets + 1, size + 1), np.inf)
    best[0, 0] = 0.0
    taken = np.zeros((buckets + 1, size + 1, 2), np.int64)
    # left[q, r]: buckets that are left of q when r + 1 are taken; row `buckets + 1` stands for less than none.
    left = np.arange(buckets + 1)[:, None] - np.arange(1, buckets + 1)
    left[left < 0] = buckets + 1
    rows = np.arange(buckets + 1)
    for j in range(size):
        for i in range(j + 1):
            before = np.append(best[:, i], np.inf)
            totals = before[left] + costs[i, j]
            r = totals.argmin(axis=1)
            better = totals[rows, r] < best[:, j + 1]
            best[better, j + 1] = totals[rows, r][better]
            taken[better, j + 1, 0], taken[better, j + 1, 1] = i, r[better] + 1

    def ends(number: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        q, j = number, size
        while j:
            i, r = taken[q, j].tolist()
            found = [(j - 1, k) for k in ends_of(i, j - 1, r)] + found
            q, j = q - r, i
        return found

    curve = best[1:, size]
    return PairCuts(curve[: int(np.flatnonzero(np.isfinite(curve)).max(initial=-1)) + 1], ends)


def fixed_split(grid: Grid, outer: int, inner: int, request: Request) -> list[tuple[int, int]]:
    """At most `outer` ranges of first lengths with at most `inner` buckets each; empty if no batch holds some of the samples."""
    costs, ends_of = _ranges(grid, inner, request)
    size = len(grid.first)
    number = costs.argmin(axis=2)
    cost = costs.min(axis=2)
    best = np.full((outer + 1, size + 1), np.inf)
    best[0, 0] = 0.0
    start = np.zeros((outer + 1, size + 1), np.int64)
    for j in range(size):
        totals = best[:-1, : j + 1] + cost[: j + 1, j]
        start[1:, j + 1] = totals.argmin(axis=1)
        best[1:, j + 1] = totals.min(axis=1)
    q, j = int(best[:, size].argmin()), size
    if not np.isfinite(best[q, size]):
        return []
    found: list[tuple[int, int]] = []
    while j:
        i = int(start[q, j])
        found = [(j - 1, k) for k in ends_of(i, j - 1, int(number[i, j - 1]) + 1)] + found
        q, j = q - 1, i
    return found


def _ranges(grid: Grid, buckets: int, request: Request) -> tuple[Array, Callable[[int, int, int], list[int]]]:
    """w(i, j, 1), ..., w(i, j, buckets) for all i <= j, inf for more than differ; and the cuts behind them."""
    size = len(grid.first)
    until = np.concatenate([np.zeros((1, len(grid.second)), np.int64), np.cumsum(grid.counts, axis=0)])
    costs = np.full((size, size, buckets), np.inf)
    # Groups of the second lengths by price depend on the first boundary alone.
    grouped = [
        groups(np.where(np.isfinite(row), row, np.inf), np.ones(len(row), np.int64)) for row in grid.price
    ]

    def searched(i: int, j: int) -> Any:
        found, price = grouped[j], grouped[j].prices
        counts = np.diff(np.cumsum(until[j + 1] - until[i])[found.ends], prepend=0)
        used = np.flatnonzero(counts)
        if not np.isfinite(price[used[-1]]):
            return None
        before = np.concatenate([[0], np.cumsum(counts[used])])
        return hull_cuts(Groups(found.ends[used], price[used], before), buckets, request)

    for j in range(size):
        for i in range(j + 1):
            cuts = searched(i, j)
            if cuts is not None:
                costs[i, j, : len(cuts.curve)] = cuts.curve
    return costs, lambda i, j, number: searched(i, j).ends(number)
