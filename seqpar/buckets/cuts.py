"""The best cuts of sorted lengths for every number of buckets, and the search for them by whatever kernel is chosen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqpar.algorithms.bucketing import bucket_ends, free_bucket_ends
from seqpar.buckets.kernels import Search, problem
from seqpar.buckets.prices import Groups
from seqpar.dispatch.choice import choose
from seqpar.dispatch.options import Request

Array = Any


class Cuts(NamedTuple):
    """The best cuts that were found for every number of buckets."""

    curve: Array
    """`curve[q - 1]` is what q buckets cost, their shapes not counted."""
    ends: Callable[[int], list[int]]
    """The last length of each of q buckets, by its place among all."""
    method: str
    notes: tuple[str, ...] = ()


def hull_cuts(found: Groups, buckets: int, request: Request) -> Cuts:
    """For up to so many buckets, with batches never ragged."""
    search = Search(min(buckets, found.ends.size))
    choice = choose(problem(found.ends.size, search), request)
    curve, first = choice.kernel.run(np, search, choice.config, _operands(found))
    return Cuts(curve, lambda number: found.ends[bucket_ends(first, number)].tolist(), choice.kernel.label)


def free_cuts(found: Groups, extra: float, request: Request) -> list[int]:
    """The last length of each of as many buckets as are worth `extra` each."""
    search = Search(0, extra)
    choice = choose(problem(found.ends.size, search), request)
    _, first = choice.kernel.run(np, search, choice.config, _operands(found))
    ends: list[int] = found.ends[free_bucket_ends(first)].tolist()
    return ends


def _operands(found: Groups) -> tuple[Array, Array]:
    return found.prices, found.before.astype(np.float64)
