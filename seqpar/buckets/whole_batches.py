"""The search for boundaries under `whole_batches=True`, where batches that are not full are paid in full."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqpar.algorithms.bucketing import bucket_ends
from seqpar.algorithms.whole_batches import cheapest_whole_cuts, moved_cuts, whole_cost
from seqpar.buckets.cuts import Cuts

Array = Any
MOST_LENGTHS = 4096
"""With more lengths to choose from not all cuts are tried: these take 0.5 s for 32 buckets, and twice as many four times that."""


def whole_cuts(price: Array, group: Array, before: Array, buckets: int, hull: Callable[[], Cuts]) -> Cuts:
    """The best cuts for 1, ..., `buckets` buckets; `group` sequences are batched at once, on all ranks.

    `hull` finds the cuts that are best with batches never ragged, among the same groups.
    """
    if len(price) <= MOST_LENGTHS:
        curve, first = cheapest_whole_cuts(price, group, before, min(buckets, len(price)))
        return Cuts(curve, lambda number: bucket_ends(first, number), "whole batches")
    start = hull()
    moved = [moved_cuts(price, group, before, start.ends(q)) for q in range(1, len(start.curve) + 1)]
    curve = np.asarray([_cost(price, group, before, ends) for ends in moved])
    note = (
        f"of {len(price)} lengths, more than {MOST_LENGTHS}, not all boundaries were tried: those that are best without whole "
        "batches were moved for as long as that helped"
    )
    return Cuts(curve, lambda number: moved[number - 1], f"{start.method}, moved", (note,))


def _cost(price: Array, group: Array, before: Array, ends: list[int]) -> float:
    counts = np.diff(before[np.asarray(ends) + 1], prepend=0)
    return float(whole_cost(price[ends], group[ends], counts).sum())
