"""Eight simulated ranks: with one plan none waits for another, with an order of its own for each most of the time is waiting."""

from itertools import zip_longest

import numpy as np

import seqpar

RANKS = 8
LENGTHS = np.random.default_rng(0).lognormal(6, 1.2, 40_000).clip(1, 32_768).astype(int)


def seconds(length: int, batch: int) -> float:
    """A step of a recurrent layer: each step in time 10 us and 0.1 us for each sequence, and 2 ms for the call."""
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


PLAN = seqpar.plan_buckets(LENGTHS, 8, cost=seconds, max_tokens=131_072, ranks_per_step=RANKS)


def efficiency(samplers: list[seqpar.BucketSampler]) -> float:
    """Mean over maximum: the share of their time in which ranks compute that wait for each other behind every step."""
    busy, passed = 0.0, 0.0
    for batches in zip_longest(*samplers):
        times = [0.0 if batch is None else seconds(batch.boundary, len(batch)) for batch in batches]
        busy, passed = busy + sum(times), passed + len(times) * max(times)
    return busy / passed


def test_ranks_of_one_plan_never_wait_and_all_have_the_same_number_of_steps() -> None:
    samplers = [seqpar.BucketSampler(PLAN, LENGTHS, seed=0, rank=r, world_size=RANKS) for r in range(RANKS)]
    assert len({len(list(sampler.batches(0))) for sampler in samplers}) == 1
    assert efficiency(samplers) >= 0.98


def test_ranks_that_choose_their_buckets_independently_mostly_wait() -> None:
    shares = [LENGTHS[rank::RANKS] for rank in range(RANKS)]
    assert efficiency([seqpar.BucketSampler(PLAN, own, seed=i) for i, own in enumerate(shares)]) < 0.5
