"""When a `BucketStream` plans anew, and when it does not; samples that are too long."""

import numpy as np
import pytest

import seqpar
from seqpar.errors import OptionError


def drawn(samples: int, mean: float, seed: int = 0) -> list[int]:
    lengths = np.random.default_rng(seed).lognormal(mean, 0.6, samples)
    return np.clip(np.round(lengths), 1, 600).astype(int).tolist()


def stream_of(lengths, **options) -> seqpar.BucketStream:
    return seqpar.BucketStream(lengths, **{"length": int, "seed": 0, "batch_size": 8, **options})


def boundaries(stream: seqpar.BucketStream) -> list[int]:
    """Of all batches, in order; every sample is in one, and fits."""
    found, seen = [], []
    for samples in stream:
        assert all(sample is None or sample <= samples.batch.boundary for sample in samples)
        found.append(samples.batch.boundary)
        seen += samples.batch.real
    assert len(seen) == len(set(seen))
    return found


def test_lengths_that_stay_as_they_are_keep_the_plan() -> None:
    lengths = drawn(20_000, 4)
    # The longest comes first: no other one makes a plan necessary.
    lengths.insert(0, max(lengths))
    stream = stream_of(lengths, n_buckets=4, buffer=2_000)
    used = boundaries(stream)
    assert [adoption.why for adoption in stream.plans] == ["first"]
    assert stream.metrics().reviews >= 8
    assert set(used) == set(stream.plan.boundaries)


def test_lengths_that_change_change_the_plan_and_padding_is_less_for_it() -> None:
    lengths = drawn(8_000, 5) + drawn(24_000, 3)
    stays, follows = (
        stream_of(lengths, n_buckets=4, buffer=1_000, hysteresis=hysteresis) for hysteresis in (1.0, 0.02)
    )
    boundaries(stays), boundaries(follows)
    cheaper = [adoption for adoption in follows.plans if adoption.why == "cheaper"]
    assert 1 <= len(cheaper) <= 8
    assert all(adoption.gain > 0.02 for adoption in cheaper)
    assert all(adoption.read > 8_000 for adoption in cheaper)
    assert not any(adoption.why == "cheaper" for adoption in stays.plans)
    assert follows.metrics().padding < stays.metrics().padding - 0.1


def test_a_longer_sample_brings_one_new_shape() -> None:
    lengths = drawn(3_000, 3) + [5_000] + drawn(3_000, 3, seed=1)
    stream = stream_of(lengths, n_buckets=4, buffer=500, hysteresis=1.0)
    used = boundaries(stream)
    first, longer = (adoption.plan.boundaries for adoption in stream.plans)
    assert [adoption.why for adoption in stream.plans] == ["first", "longer"]
    assert set(longer) - set(first) == {5_000}
    assert used.count(5_000) == 1
    assert len(longer) == 4


def test_a_sorted_stream_brings_a_shape_for_every_eighth_that_lengths_grow() -> None:
    lengths = sorted(drawn(10_000, 4))
    stream = stream_of(lengths, n_buckets=4, buffer=200)
    boundaries(stream)
    assert lengths[0] < 10 and lengths[-1] > 400
    assert sum(adoption.why == "longer" for adoption in stream.plans) <= np.log(600) / np.log(1.125)


def test_shapes_are_never_more_than_max_shapes() -> None:
    parts = [drawn(3_000, mean, seed) for seed, mean in enumerate((5, 3, 4, 2, 5))]
    lengths = [600, *(length for part in parts for length in part)]
    free, capped = (stream_of(lengths, n_buckets=4, buffer=500, max_shapes=most) for most in (None, 6))
    assert len(set(boundaries(free))) > 6
    assert len(set(boundaries(capped))) <= 6
    # Among the shapes there are it goes on planning.
    assert any(adoption.why == "cheaper" for adoption in capped.plans)
    assert capped.metrics().shapes <= 6


@pytest.mark.parametrize("policy", ["truncate", "drop"])
def test_a_sample_that_would_be_one_shape_too_many_is_an_overflow(policy: str) -> None:
    options = {"n_buckets": 2, "buffer": 16, "max_shapes": 2}
    lengths = [10, 20] * 30 + [50]
    with pytest.raises(
        OptionError, match="sample 60 has 50 steps, and one more shape would exceed max_shapes=2"
    ):
        list(stream_of(lengths, **options))
    stream = stream_of(lengths, on_overflow=policy, cut=lambda sample, length: length, **options)
    assert set(boundaries(stream)) == {10, 20}
    metrics = stream.metrics()
    assert (metrics.truncated, metrics.dropped) == ((1, 0) if policy == "truncate" else (0, 1))
    assert metrics.samples == (61 if policy == "truncate" else 60)


@pytest.mark.parametrize("at", [3, 90])
def test_a_sample_beyond_the_budget_is_an_error_that_names_it(at: int) -> None:
    lengths = [10] * 100
    lengths[at] = 300
    stream = stream_of(lengths, batch_size=None, max_tokens=256, buffer=50)
    with pytest.raises(
        OptionError, match=f"sample {at} has 300 steps, and with max_tokens=256 at most 256 fit"
    ):
        list(stream)


@pytest.mark.parametrize(
    ("limit", "fits"), [({"max_tokens": 250, "batch_size": None}, 248), ({"max_length": 100}, 100)]
)
def test_samples_beyond_the_limit_are_cut_and_counted(limit: dict, fits: int) -> None:
    sequences = [np.arange(n) for n in [20, 300, *range(1, 99), 400]]
    stream = seqpar.BucketStream(
        sequences, seed=0, buffer=40, multiple_of=8, on_overflow="truncate", **{"batch_size": 2, **limit}
    )
    out = {}
    for samples in stream:
        padded, mask, weights = stream.collate(samples)
        assert padded.shape == (len(samples), samples.batch.boundary)
        out.update(zip(samples.batch.real, padded[weights > 0][:, :].sum(1), strict=True))
    assert {n: sum(range(min(len(s), fits))) for n, s in enumerate(sequences)} == out
    assert stream.metrics().truncated == 2


def test_samples_beyond_the_limit_are_dropped_and_counted() -> None:
    lengths = [20, 300, *range(1, 99), 400]
    stream = stream_of(lengths, buffer=40, max_length=100, on_overflow="drop")
    seen = sorted(n for samples in stream for n in samples.batch.real)
    assert seen == [0, *range(2, 100)]
    assert stream.metrics().dropped == 2
    with pytest.raises(OptionError, match="all 2 samples were dropped"):
        list(stream_of([300, 400], max_length=100, on_overflow="drop"))


def test_a_plan_alone_stays_and_refuses_what_it_has_no_bucket_for() -> None:
    plan = seqpar.plan_buckets([10, 50, 100], 2, batch_size=4)
    stream = seqpar.BucketStream(drawn(2_000, 2), length=int, plan=plan, seed=0, buffer=100)
    assert set(boundaries(stream)) <= set(plan.boundaries)
    assert [adoption.why for adoption in stream.plans] == ["given"]
    with pytest.raises(OptionError, match="sample 1 has 101 steps, and the plan serves at most 100"):
        list(seqpar.BucketStream([5, 101], length=int, plan=plan, seed=0, buffer=100))


def test_a_plan_with_a_rule_is_where_planning_begins() -> None:
    plan = seqpar.plan_buckets([10, 600], 2, batch_size=8)
    lengths = drawn(6_000, 3)
    stream = stream_of(lengths, n_buckets=4, plan=plan, buffer=500, replan_every=2_000)
    used = boundaries(stream)
    assert used[0] in plan.boundaries
    assert [adoption.why for adoption in stream.plans][:2] == ["given", "cheaper"]
    with pytest.raises(OptionError, match="batch sizes"):
        stream_of(lengths, plan=plan, batch_size=9)


def test_a_stream_is_planned_for_measured_times_too() -> None:
    lengths = drawn(3_000, 4)
    cost = {(length, batch): 1.0 + length * batch for length in (1, 600) for batch in (1, 64)}
    options = {"n_buckets": 4, "cost": cost, "batch_size": None, "max_tokens": 2_000}
    stream = stream_of(lengths, buffer=5_000, **options)
    list(stream)
    best = seqpar.plan_buckets(lengths, 4, cost=cost, max_tokens=2_000)
    assert stream.plan.boundaries == best.boundaries
    assert stream.plan.predicted_cost == best.predicted_cost


def test_many_distinct_lengths_are_planned_at_once_and_nearly_as_well() -> None:
    lengths = np.random.default_rng(0).integers(1, 5_000_000, 9_000).tolist()
    stream = stream_of(lengths, n_buckets=4, buffer=9_000)
    list(stream)
    best = seqpar.plan_buckets(lengths, 4)
    assert stream.plan.counts is not None and sum(stream.plan.counts) == 9_000
    assert stream.metrics().padding < best.padding + 0.004


def test_what_the_plans_were_and_why_is_kept() -> None:
    stream = stream_of(drawn(2_000, 3) + [5_000] * 20, n_buckets=3, buffer=500)
    list(stream)
    read = [adoption.read for adoption in stream.plans]
    assert read == sorted(read)
    assert stream.plans[0].why == "first" and stream.plans[0].read == 500
    assert stream.plans[1].why == "longer" and stream.plans[1].read == 2_000
    assert stream.plans[-1].plan is stream.plan


def test_boundaries_of_which_the_buffer_holds_no_group_are_not_chosen() -> None:
    lengths = [*range(1, 101)] * 20
    options = {"batch_size": None, "max_tokens": 1_000, "n_buckets": 4, "world_size": 2}
    used = boundaries(stream_of(lengths, buffer=100, **options))
    # Two ranks with 50 samples of 20 steps each, or fewer longer ones.
    assert min(used) >= 20
    # A stream that ends before the buffer is full may have any.
    whole = stream_of(lengths, buffer=2_001, **options)
    assert min(boundaries(whole)) == seqpar.plan_buckets(lengths, 4).boundaries[0]
