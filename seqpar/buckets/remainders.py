"""Which samples ride in which bucket, so that its groups come out whole; counts only, nothing is shuffled here.

Used by `seqpar.BucketSampler`. A group is what all ranks do at one step: `capacity` places of one shape. The samples of a
bucket rarely fill its groups, and no sample may be lost or come twice. Two ways:

* fill: the last group of each bucket has places without a sample;
* promote: samples beyond the last full group ride in the next longer bucket, and only the longest one is filled.

With `randomness` some samples of each bucket ride in longer ones from the start. Which ones they are changes with the epoch; how
many never does, so that each epoch has the same number of steps.

All of it is one picture: a *pool* is a row of places, made of parts, and each part is a stretch of another pool or of the
samples themselves. Once the members of each pool are shuffled, a place of a pool leads through a few pools to its sample,
without any list of them (`seqpar.buckets.order`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any

SAMPLES = -1
"""In place of a pool: the samples themselves, sorted by bucket."""


class Part(NamedTuple):
    """A stretch of a pool: `size` places of another pool, from `start` on."""

    pool: int
    start: int
    size: int


class Layout(NamedTuple):
    """Pools, and the groups made of the first pools: those of the buckets, in their order."""

    groups: tuple[int, ...]
    """Groups of each bucket."""
    riders: tuple[int, ...]
    """Samples in the groups of each bucket, its own and others."""
    capacity: tuple[int, ...]
    """Places in a group of each bucket."""
    pools: tuple[tuple[Part, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Places of each pool."""
        return [sum(part.size for part in parts) for parts in self.pools]

    def cost(self, price: Sequence[float]) -> float:
        """Of all groups, for the price of one place in each bucket."""
        return sum(n * places * one for n, places, one in zip(self.groups, self.capacity, price, strict=True))


def lay_out(
    counts: Sequence[int],
    capacity: Sequence[int],
    *,
    next_bucket: Callable[[int], int],
    rising: Sequence[int],
    holders: Callable[[int], Sequence[int]],
    promote: bool,
    randomness: float,
) -> Layout:
    """The layout for so many samples in each bucket.

    `rising` names the buckets so that the next one of a bucket comes behind it, and `holders(b)` all buckets that hold the
    samples of b, itself included.
    """
    pools: list[list[Part]] = [[] for _ in counts]
    starts = np.cumsum([0, *counts]).tolist()
    for b, n in enumerate(counts):
        if not randomness:
            _add(pools[b], Part(SAMPLES, starts[b], n))
            continue
        pools.append([Part(SAMPLES, starts[b], n)])
        at = 0
        for c, share in _shares(b, counts, holders(b), randomness):
            _add(pools[c], Part(len(pools) - 1, at, share))
            at += share

    groups, riders = [0] * len(counts), [0] * len(counts)
    for b in rising:
        total = sum(part.size for part in pools[b])
        beyond = total % capacity[b]
        following = next_bucket(b) if promote else -1
        if following >= 0:
            _add(pools[following], Part(b, total - beyond, beyond))
            total -= beyond
        groups[b], riders[b] = -(-total // capacity[b]), total
    return Layout(tuple(groups), tuple(riders), tuple(capacity), tuple(tuple(parts) for parts in pools))


def _shares(
    b: int, counts: Sequence[int], holders: Sequence[int], randomness: float
) -> list[tuple[int, int]]:
    """How many samples of bucket b ride in each bucket that holds them, in whole numbers that add up to all of them."""
    movers = round(randomness * counts[b])
    weight = sum(counts[c] for c in holders)
    if movers == 0:
        return [(b, counts[b])]
    shares = {c: movers * counts[c] // weight for c in holders}
    # What rounding down left over goes to the largest fractions.
    short = sorted(holders, key=lambda c: (-(movers * counts[c] % weight), c))
    for c in short[: movers - sum(shares.values())]:
        shares[c] += 1
    shares[b] += counts[b] - movers
    return list(shares.items())


def _add(parts: list[Part], part: Part) -> None:
    if part.size:
        parts.append(part)
