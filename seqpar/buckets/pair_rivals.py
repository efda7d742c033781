"""How others put pairs of lengths into buckets: each gives, for every distinct pair, the number of its bucket."""

from typing import Any

import numpy as np

from seqpar.buckets.cuts import hull_cuts
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import histogram
from seqpar.buckets.prices import groups
from seqpar.dispatch.options import Request

Array = Any


def one_dimension(pairs: Array, counts: Array, buckets: int, request: Request) -> list[Array]:
    """The best buckets of one number: the input, the output, their sum, or the longer of them."""
    found = []
    for key in (pairs[:, 0], pairs[:, 1], pairs.sum(axis=1), pairs.max(axis=1)):
        each = histogram(NAME, (key, counts))
        cuts = hull_cuts(groups(each.lengths.astype(np.float64), each.counts), buckets, request)
        ends = each.lengths[cuts.ends(min(buckets, len(cuts.curve)))]
        found.append(np.searchsorted(ends, key))
    return found


def equal_mass(pairs: Array, counts: Array, split: tuple[int, int]) -> list[Array]:
    """As many input steps in each bucket of inputs, and as many output steps in each bucket of outputs in it (as NeMo has it)."""
    outer = _shares(pairs[:, 0], counts, split[0])
    where = np.zeros(len(pairs), np.int64)
    for bucket in np.unique(outer):
        inside = np.flatnonzero(outer == bucket)
        where[inside] = bucket * split[1] + _shares(pairs[inside, 1], counts[inside], split[1])
    return [where]


def _shares(lengths: Array, counts: Array, buckets: int) -> Array:
    """For each length which of so many equal shares of all steps it falls into."""
    distinct, where = np.unique(lengths, return_inverse=True)
    mass = np.zeros(len(distinct))
    np.add.at(mass, where, lengths.astype(np.float64) * counts)
    total = np.cumsum(mass)
    ends = np.searchsorted(total, total[-1] * np.arange(1, buckets + 1) / buckets * (1 - 1e-12))
    return np.searchsorted(ends, np.arange(len(distinct)))[where]
