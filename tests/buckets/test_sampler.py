"""Batches of a plan: each sample once, one shape and one number of steps on all ranks, remainders filled or promoted."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqpar
from seqpar import Batch, BucketSampler
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

LENGTHS = np.random.default_rng(0).lognormal(3, 0.8, 1000).astype(int) + 1


def plan_of(lengths: Any, buckets: int = 4, batch_size: int = 4, **options: Any) -> seqpar.BucketPlan:
    return seqpar.plan_buckets(lengths, buckets, batch_size=batch_size, **options)


def ranks(
    plan: seqpar.BucketPlan, lengths: Any, world_size: int, epoch: int = 0, **options: Any
) -> list[list[Batch]]:
    """The batches of an epoch on each rank."""
    options.setdefault("seed", 0)
    found = []
    for rank in range(world_size):
        sampler = BucketSampler(plan, lengths, rank=rank, world_size=world_size, **options)
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


def samples(batches: list[list[Batch]]) -> list[int]:
    return [index for rank in batches for batch in rank for index in batch.real]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=120))
    world_size = draw(st.sampled_from([1, 2, 3, 4]))
    shuffle = draw(st.booleans())
    return {
        "lengths": lengths,
        "buckets": draw(st.integers(1, min(5, len(set(lengths))))),
        "batch_size": draw(st.integers(1, 5)),
        "world_size": world_size,
        "ranks_per_step": world_size * draw(st.sampled_from([1, 2])),
        "shuffle": shuffle,
        "remainder": draw(st.sampled_from(["fill", "promote", "auto"])),
        "randomness": draw(st.sampled_from([0.0, 0.3, 1.0])) if shuffle else 0.0,
        "longest_first": draw(st.booleans()),
        "seed": draw(st.sampled_from([0, 1, 2**80])),
        "epoch": draw(st.sampled_from([0, 1, 1000])),
    }


@settings(max_examples=150, deadline=None)
@given(cases())
def test_each_sample_comes_once_and_all_ranks_have_the_same_shapes(case: dict[str, Any]) -> None:
    lengths = case.pop("lengths")
    plan = plan_of(lengths, case.pop("buckets"), case.pop("batch_size"))
    per_rank = ranks(plan, lengths, **case)
    assert sorted(samples(per_rank)) == list(range(len(lengths)))
    assert len({len(batches) for batches in per_rank}) == 1
    parts = case["ranks_per_step"] // case["world_size"]
    for number, step in enumerate(zip(*per_rank, strict=True)):
        assert len({(batch.bucket, batch.step, batch.last, batch.given) for batch in step}) == 1
        assert {len(batch) for batch in step} == {plan.batch_sizes[step[0].bucket]}
        assert step[0].step == number // parts
        assert step[0].last == (number % parts == parts - 1)
        for batch in step:
            assert batch.boundary == plan.boundaries[batch.bucket]
            assert all(lengths[index] <= batch.boundary for index in batch.real)
            assert batch.epoch == case["epoch"]


@settings(max_examples=60, deadline=None)
@given(cases())
def test_facts_of_a_group_are_those_of_its_batches_on_all_ranks(case: dict[str, Any]) -> None:
    lengths = case.pop("lengths")
    plan = plan_of(lengths, case.pop("buckets"), case.pop("batch_size"))
    groups: dict[int, list[Batch]] = {}
    for batches in ranks(plan, lengths, **case):
        for batch in batches:
            groups.setdefault(batch.step, []).append(batch)
    for group in groups.values():
        assert len(group) == case["ranks_per_step"] == group[0].ranks_per_step
        assert {b.samples for b in group} == {sum(len(b.real) for b in group)}
        assert {b.tokens for b in group} == {sum(lengths[i] for b in group for i in b.real)}
        shares = [len(b.real) for b in group]
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("remainder", ["fill", "promote"])
def test_epochs_have_the_same_steps_and_other_orders(remainder: str) -> None:
    plan = plan_of(LENGTHS)
    sampler = BucketSampler(plan, LENGTHS, seed=0, world_size=2, remainder=remainder, randomness=0.2)
    epochs = [list(sampler) for _ in range(3)]
    assert [batches[0].epoch for batches in epochs] == [0, 1, 2]
    counts = [Counter(batch.bucket for batch in batches) for batches in epochs]
    assert counts[0] == counts[1] == counts[2]
    assert epochs[0] != epochs[1] != epochs[2]
    assert [b.bucket for b in epochs[0]] != [b.bucket for b in epochs[1]]


def test_seeds_and_plans_give_other_orders_and_the_same_seed_the_same_one() -> None:
    plan = plan_of(LENGTHS)
    first = list(BucketSampler(plan, LENGTHS, seed=5))
    assert first == list(BucketSampler(plan, LENGTHS, seed=5))
    assert first != list(BucketSampler(plan, LENGTHS, seed=6))


def test_fill_puts_fillers_into_the_last_group_of_each_bucket_only() -> None:
    plan = plan_of(LENGTHS)
    fillers: Counter[int] = Counter()
    for batches in ranks(plan, LENGTHS, 4):
        for batch in batches:
            if batch.samples < 4 * len(batch):
                fillers[batch.bucket] += batch.count(-1)
    assert [fillers[b] for b in range(4)] == [-n % 16 for n in plan.counts]


def test_promote_fills_only_the_longest_bucket_and_sends_other_samples_up_in_each_epoch() -> None:
    plan = plan_of(LENGTHS)
    own = plan.bucket_of(LENGTHS)
    ups = []
    for epoch in range(6):
        per_rank = ranks(plan, LENGTHS, 4, epoch, remainder="promote")
        padded = Counter(batch.bucket for batches in per_rank for batch in batches if -1 in batch)
        assert set(padded) <= {3}
        assert sum(batch.count(-1) for batches in per_rank for batch in batches) == -len(LENGTHS) % 16
        ups.append({i for r in per_rank for batch in r for i in batch.real if own[i] < batch.bucket})
        # Fewer than a group of each bucket; most of them to the next one.
        assert len(ups[-1]) < 16 * 3
        assert sum(own[i] < batch.bucket - 1 for r in per_rank for batch in r for i in batch.real) <= 2
    assert len(set.union(*ups)) > 2 * len(ups[0])


def test_promote_carries_buckets_that_are_smaller_than_a_group_all_the_way_up() -> None:
    lengths = [1, 2, 3, 4, 5]
    plan = plan_of(lengths, 5, 2)
    (batches,) = ranks(plan, lengths, 1, ranks_per_step=4, remainder="promote")
    assert {batch.boundary for batch in batches} == {5}
    assert sorted(samples([batches])) == [0, 1, 2, 3, 4]


def test_auto_takes_the_remainder_that_costs_less() -> None:
    # 9 short samples: a second group of fillers costs 8 x 10, riding with the long ones nothing, for they leave a place free.
    lengths = [10] * 9 + [20] * 7
    plan = plan_of(lengths, 2, 8)
    assert BucketSampler(plan, lengths, seed=0, remainder="auto").remainder == "promote"
    # Here the long ones fill their group, and one more long group costs more than one more short one.
    lengths = [10] * 9 + [20] * 8
    plan = plan_of(lengths, 2, 8)
    assert BucketSampler(plan, lengths, seed=0, remainder="auto").remainder == "fill"


def test_without_shuffle_buckets_come_in_order_and_samples_as_in_the_data() -> None:
    lengths = [5, 1, 6, 2, 5, 1, 2]
    plan = plan_of(lengths, 2, 2)
    (batches,) = ranks(plan, lengths, 1, shuffle=False)
    assert batches == [[1, 3], [5, 6], [0, 2], [4, -1]]
    (batches,) = ranks(plan, lengths, 1, shuffle=False, longest_first=True)
    assert batches == [[0, 2], [5, 6], [1, 3], [4, -1]]
    by_rank = ranks(plan, lengths, 2, shuffle=False)
    assert by_rank == [[[1, 5], [0, 4]], [[3, 6], [2, -1]]]


def test_longest_first_moves_two_groups_of_the_first_epoch_and_nothing_else() -> None:
    plan = plan_of(LENGTHS)
    moved = 0
    for seed in range(8):
        plain = BucketSampler(plan, LENGTHS, seed=seed)
        longest = BucketSampler(plan, LENGTHS, seed=seed, longest_first=True)
        before, after = list(plain), list(longest)
        assert after[0].boundary == plan.boundaries[-1]
        different = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(different) in (0, 2)
        moved += len(different)
        assert sorted(map(sorted, before)) == sorted(map(sorted, after))
        assert list(plain) == list(longest)
    assert moved > 0


def test_randomness_sends_its_share_into_longer_buckets_in_proportion_to_their_samples() -> None:
    plan = plan_of(LENGTHS)
    own = plan.bucket_of(LENGTHS)
    for randomness in (0.3, 1.0):
        (batches,) = ranks(plan, LENGTHS, 1, randomness=randomness)
        rides = np.zeros((4, 4), int)
        for batch in batches:
            for index in batch.real:
                rides[own[index], batch.bucket] += 1
        counts = np.array(plan.counts)
        for b in range(4):
            movers = randomness * counts[b]
            expected = movers * counts[b:] / counts[b:].sum()
            expected[0] += counts[b] - movers
            assert np.abs(rides[b, b:] - expected).max() <= 1
            assert rides[b, :b].sum() == 0
        again = ranks(plan, LENGTHS, 1, 1, randomness=randomness)[0]
        assert {i for b in batches for i in b.real if own[i] < b.bucket} != {
            i for b in again for i in b.real if own[i] < b.bucket
        }


def test_dropped_samples_are_counted_and_no_other_is_missing() -> None:
    plan = plan_of(LENGTHS, max_length=40, on_overflow="drop")
    sampler = BucketSampler(plan, LENGTHS, seed=0)
    assert sampler.dropped == int((LENGTHS > 40).sum()) > 0
    assert sorted(samples([list(sampler)])) == np.flatnonzero(LENGTHS <= 40).tolist()


def test_truncated_samples_count_with_the_steps_that_are_left() -> None:
    plan = plan_of(LENGTHS, max_length=40, on_overflow="truncate")
    total = sum(batch.tokens for batch in BucketSampler(plan, LENGTHS, seed=0))
    assert total == np.minimum(LENGTHS, 40).sum()


def test_lengths_may_be_a_list_or_an_array_and_a_bucket_may_be_empty() -> None:
    plan = plan_of(LENGTHS)
    some = [int(n) for n in LENGTHS if n <= plan.boundaries[0] or n > plan.boundaries[2]]
    found = list(BucketSampler(plan, some, seed=0))
    assert found == list(BucketSampler(plan, np.array(some, np.uint16), seed=0))
    assert {batch.bucket for batch in found} == {0, 3}
    assert sorted(samples([found])) == list(range(len(some)))


class PlanOfPairs:
    """What the sampler asks of a plan for pairs: two buckets beside each other, and one that holds both."""

    boundaries = ((4, 9), (9, 4), (9, 9))
    batch_sizes = (2, 2, 2)
    limit = (9, 9)
    prices = (13.0, 13.0, 18.0)
    n_buckets = 3
    key = 1

    def bucket_of(self, lengths: Any) -> Any:
        holds = (lengths[:, None] <= np.array(self.boundaries)).all(2)
        return np.argmax(holds, axis=1)

    def next_bucket(self, bucket: int) -> int:
        return (2, 2, -1)[bucket]


@pytest.mark.parametrize("remainder", ["fill", "promote"])
@pytest.mark.parametrize("randomness", [0.0, 1.0])
def test_pairs_ride_only_where_both_lengths_fit(remainder: str, randomness: float) -> None:
    pairs = np.random.default_rng(1).integers(1, 10, (101, 2))
    plan: Any = PlanOfPairs()
    per_rank = ranks(plan, pairs, 2, remainder=remainder, randomness=randomness)
    assert sorted(samples(per_rank)) == list(range(101))
    visited = set()
    for step in zip(*per_rank, strict=True):
        inside = [index for batch in step for index in batch.real]
        assert (pairs[inside] <= step[0].boundary).all()
        assert step[0].tokens == pairs[inside].sum()
        visited.add(step[0].bucket)
    assert visited == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": -1}, "seed=-1 is not a whole number of at least 0"),
        ({"seed": 1.5}, "seed=1.5 is not a whole number"),
        ({"rank": 2, "world_size": 2}, "Ranks count from 0 to 1"),
        ({"rank": -1}, "rank=-1 is not a whole number of at least 0"),
        ({"world_size": 0}, "world_size=0 is not a whole number of at least 1"),
        ({"world_size": 4, "ranks_per_step": 6}, "world_size=4 does not divide ranks_per_step=6"),
        ({"remainder": "fil"}, "Did you mean 'fill'"),
        ({"randomness": 1.5}, "randomness=1.5 is not a number from 0 to 1"),
        ({"randomness": float("nan")}, "randomness=nan"),
        ({"randomness": 0.5, "shuffle": False}, "shuffle=False"),
        ({"shuffle": 1}, "shuffle=1 is not a boolean"),
    ],
)
def test_wrong_options_say_what_is_wrong(options: dict[str, Any], says: str) -> None:
    plan = plan_of(LENGTHS)
    with pytest.raises(OptionError, match=says) as caught:
        BucketSampler(plan, LENGTHS, **{"seed": 0, **options})
    assert str(caught.value).startswith("BucketSampler: ")


@pytest.mark.parametrize(
    ("lengths", "error", "says"),
    [
        ([], OptionError, "lengths is empty"),
        ([3, -1], OptionError, "lengths contains -1"),
        ([3.5], DtypeError, "3.5"),
        ([float("nan")], DtypeError, "nan"),
        (np.ones((2, 3), int), ShapeError, "lengths.shape=\\(2, 3\\)"),
        (([3, 4], [1, 2]), OptionError, "histogram"),
        ([3, 10_000], OptionError, "lengths\\[1\\]=10000 is longer than the plan allows"),
    ],
)
def test_wrong_lengths_say_what_is_wrong(lengths: Any, error: type[Exception], says: str) -> None:
    plan = plan_of(LENGTHS)
    with pytest.raises(error, match=says) as caught:
        BucketSampler(plan, lengths, seed=0)
    assert str(caught.value).startswith("BucketSampler: ")


def test_something_else_in_the_place_of_a_plan_is_refused_by_name() -> None:
    with pytest.raises(
        ArrayTypeError, match=r"^BucketSampler: plan is a ndarray, not a BucketPlan\. Give Buck"
    ):
        BucketSampler(LENGTHS, plan_of(LENGTHS), seed=0)  # type: ignore[arg-type]


def test_a_plan_without_batch_sizes_or_with_no_sample_left_is_refused() -> None:
    with pytest.raises(OptionError, match="no batch sizes.*batch_size=32"):
        BucketSampler(seqpar.plan_buckets(LENGTHS, 4), LENGTHS, seed=0)
    plan = plan_of(LENGTHS, max_length=40, on_overflow="drop")
    with pytest.raises(OptionError, match="all 2 samples are longer"):
        BucketSampler(plan, [50, 60], seed=0)
