"""Boundaries of pairs as others choose them, and what any boundaries of pairs cost."""

from typing import Any

import numpy as np

from seqpar.buckets.lengths import summed
from seqpar.buckets.pair_lengths import Pairs
from seqpar.buckets.pair_plan import first_that_holds
from seqpar.buckets.pair_prices import Pricing
from seqpar.buckets.rivals import Rival

Array = Any


def priced(given: Pairs, boundaries: Array, pricing: Pricing, extra: float) -> Rival | None:
    """What those boundaries cost under the same rules, or None if a batch of them does not fit."""
    listed: Any = tuple((int(a), int(b)) for a, b in boundaries.tolist())
    where = first_that_holds(listed, given.padded)
    price = pricing.prices(boundaries)
    if not np.isfinite(price).all():
        return None
    cost = float((price * summed(where, given.counts, len(listed))).sum()) + extra * len(listed)
    padded = (boundaries.sum(axis=1)[where].astype(np.float64) * given.counts).sum()
    return Rival(listed, cost, 1.0 - int(given.tokens.sum()) / float(padded))


def equal_mass(pairs: Array, counts: Array, split: tuple[int, int]) -> Array:
    """As many input steps in each bucket of inputs, and as many output steps in each bucket of outputs in it (as NeMo has it)."""
    outer = _shares(pairs[:, 0], counts, split[0])
    where = np.zeros(len(pairs), np.int64)
    for bucket in np.unique(outer):
        inside = np.flatnonzero(outer == bucket)
        where[inside] = bucket * split[1] + _shares(pairs[inside, 1], counts[inside], split[1])
    _, where = np.unique(where, return_inverse=True)
    ends = np.zeros((int(where.max()) + 1, 2), np.int64)
    np.maximum.at(ends, where, pairs)
    return np.unique(ends, axis=0)


def _shares(lengths: Array, counts: Array, buckets: int) -> Array:
    """For each length which of so many equal shares of all steps it falls into."""
    distinct, where = np.unique(lengths, return_inverse=True)
    mass = np.zeros(len(distinct))
    np.add.at(mass, where, lengths.astype(np.float64) * counts)
    total = np.cumsum(mass)
    ends = np.searchsorted(total, total[-1] * np.arange(1, buckets + 1) / buckets * (1 - 1e-12))
    return np.searchsorted(ends, np.arange(len(distinct)))[where]
