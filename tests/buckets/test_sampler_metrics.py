"""The metrics of an epoch against their definitions, and what the defaults promise."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar import BucketSampler
from seqpar.buckets.metrics import SamplerMetrics

LENGTHS = np.random.default_rng(0).lognormal(3, 0.8, 1000).astype(int) + 1
PLAN = seqpar.plan_buckets(LENGTHS, 4, batch_size=4)


def metrics_of(epoch: int = 0, **options: Any) -> SamplerMetrics:
    return BucketSampler(PLAN, LENGTHS, seed=0, **options).metrics(epoch)


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("randomness", [0.0, 0.4])
def test_metrics_are_those_of_the_batches(epoch: int, randomness: float) -> None:
    options = {"world_size": 2, "randomness": randomness}
    found = metrics_of(epoch, **options)
    ranks = [BucketSampler(PLAN, LENGTHS, seed=0, rank=r, **options).batches(epoch) for r in range(2)]
    groups = [[i for batch in step for i in batch.real] for step in zip(*ranks, strict=True)]
    buckets = [batch.bucket for batch in ranks[0]]
    boundary = np.array(PLAN.boundaries)[buckets]
    sizes = np.array([len(group) for group in groups])
    means = np.array([LENGTHS[group].mean() for group in groups])
    assert found.epoch == epoch
    assert found.steps == len(groups)
    assert found.samples == 1000
    assert found.samples_per_group == pytest.approx(sizes.mean())
    assert found.padding == pytest.approx(1 - LENGTHS.sum() / (sizes * boundary).sum())
    assert found.fillers == 8 * len(groups) - 1000
    assert found.efficiency == pytest.approx(LENGTHS.sum() / (8 * boundary).sum())
    assert found.adjacent_correlation == pytest.approx(np.corrcoef(means[:-1], means[1:])[0, 1])
    between = (sizes * (means - LENGTHS.mean()) ** 2).sum() / (1000 * LENGTHS.var())
    assert found.between_groups == pytest.approx(between)
    shares = np.unique(buckets, return_counts=True)[1] / len(groups)
    assert found.visit_entropy == pytest.approx(-(shares * np.log2(shares)).sum())


def test_metrics_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqpar.buckets import metrics

    whole = metrics_of()
    monkeypatch.setattr(metrics, "BLOCK", 30)
    pieces = metrics_of()
    for name, value in vars(whole).items():
        assert getattr(pieces, name) == pytest.approx(value)


def test_dropped_samples_are_in_no_metric() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 4, batch_size=4, max_length=40, on_overflow="drop")
    kept = LENGTHS[LENGTHS <= 40]
    found = BucketSampler(plan, LENGTHS, seed=0).metrics()
    same = BucketSampler(plan, kept, seed=0, shuffle=False).metrics()
    assert found.samples == len(kept) < 1000
    assert found.padding == pytest.approx(plan.padding)
    assert 0.9 < found.between_groups < 1
    # Groups of buckets are much alike, whichever samples of the bucket they hold.
    assert found.between_groups == pytest.approx(same.between_groups, abs=0.01)


def test_the_default_order_is_mixed_at_optimal_padding() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 1, 200_000).round().clip(16, 1024).astype(int)
    plan = seqpar.plan_buckets(lengths, 8, batch_size=32)
    sampler = BucketSampler(plan, lengths, seed=0, world_size=8)
    for epoch in range(3):
        found = sampler.metrics(epoch)
        assert found.padding == pytest.approx(plan.padding)
        assert abs(found.adjacent_correlation) <= 0.15
        assert found.efficiency > 0.98 * (1 - plan.padding)
    # In order of the buckets the means drift: the correlation tells.
    ordered = BucketSampler(plan, lengths, seed=0, world_size=8, shuffle=False)
    assert ordered.metrics().adjacent_correlation > 0.9


def test_the_dial_trades_padding_for_mixture_step_by_step() -> None:
    found = [metrics_of(randomness=dial) for dial in (0.0, 0.25, 0.5, 0.75, 1.0)]
    padding = [one.padding for one in found]
    between = [one.between_groups for one in found]
    assert padding == sorted(padding)
    assert between == sorted(between, reverse=True)
    assert found[0].padding == pytest.approx(PLAN.padding)
    assert between[0] > 0.9 > 0.6 > between[-1]


def test_the_dial_keeps_its_padding_in_each_epoch() -> None:
    sampler = BucketSampler(PLAN, LENGTHS, seed=0, randomness=0.5)
    assert sampler.metrics(0).padding == sampler.metrics(9).padding


def test_metrics_of_equal_lengths_and_of_a_single_step_are_numbers() -> None:
    for lengths, batch_size in (([7] * 50, 4), ([7], 4), ([3, 9], 4)):
        plan = seqpar.plan_buckets(lengths, 1, batch_size=batch_size)
        found = BucketSampler(plan, lengths, seed=0).metrics()
        assert all(math.isfinite(value) for value in vars(found).values())
        assert found.adjacent_correlation == 0.0
        assert found.visit_entropy == 0.0
    assert found.between_groups == pytest.approx(0.0)


def test_metrics_are_frozen_and_print_as_a_table() -> None:
    found = metrics_of()
    with pytest.raises(FrozenInstanceError):
        found.steps = 1  # type: ignore[misc]
    text = str(found)
    assert text.startswith(f"epoch 0: {found.steps} steps, 1000 samples")
    assert f"{found.padding:.2%}" in text
    assert f"{found.adjacent_correlation:.3f}" in text
    assert len({line.count("\t") for line in text.splitlines()}) == 1
