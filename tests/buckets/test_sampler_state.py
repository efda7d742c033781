"""Resuming: at any step, with any number of ranks that divides the group, the rest of the run is the same."""

import copy
import json
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar import Batch, BucketSampler
from seqpar.errors import OptionError

LENGTHS = np.random.default_rng(0).lognormal(3, 0.8, 700).astype(int) + 1
PLAN = seqpar.plan_buckets(LENGTHS, 4, batch_size=4)


def sampler_of(**options: Any) -> BucketSampler:
    return BucketSampler(
        options.pop("plan", PLAN), options.pop("lengths", LENGTHS), seed=options.pop("seed", 0), **options
    )


def facts(batches: list[Batch]) -> list[tuple[Any, ...]]:
    return [(list(batch), vars(batch)) for batch in batches]


@pytest.mark.parametrize("remainder", ["fill", "promote"])
@pytest.mark.parametrize("randomness", [0.0, 0.5])
def test_a_run_resumed_behind_any_batch_is_the_uninterrupted_one(remainder: str, randomness: float) -> None:
    options = {"remainder": remainder, "randomness": randomness, "longest_first": True}
    run = sampler_of(**options)
    states, batches = [run.state_dict()], []
    for _ in range(2):
        for batch in run:
            batches.append(batch)
            states.append(run.state_dict())
            assert run.state_after(batch) == states[-1]
    # Behind the last batch of an epoch stands the start of the next one.
    assert states[len(run)] == {**states[0], "epoch": 1, "step": 0}
    resumed = sampler_of(**options)
    for at in (*range(0, 2 * len(run), 7), len(run) - 1, len(run), len(run) + 1):
        resumed.load_state_dict(json.loads(json.dumps(states[at])))
        rest = list(resumed)
        assert len(rest) == len(run) - at % len(run)
        assert facts(rest) == facts(batches[at : at + len(rest)])
        assert (resumed.epoch, resumed.step) == (rest[-1].epoch + 1, 0)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_a_run_of_eight_ranks_goes_on_with_fewer_in_the_same_order(world_size: int) -> None:
    eight = [sampler_of(rank=rank, world_size=8, remainder="promote") for rank in range(8)]
    for _ in range(5):
        heads = [next(iter(sampler)) for sampler in eight]
    state = eight[3].state_after(heads[3])
    assert all(sampler.state_dict() == state for sampler in eight)
    whole = list(zip(*map(list, eight), strict=True))
    few = []
    for rank in range(world_size):
        few.append(sampler_of(rank=rank, world_size=world_size, ranks_per_step=8, remainder="promote"))
        few[-1].load_state_dict(state)
    # Rank after rank, part after part, each group is dealt out as it was to eight.
    steps = list(zip(*map(list, few), strict=True))
    parts = 8 // world_size
    assert len(steps) == parts * len(whole)
    for i, group in enumerate(whole):
        again = [batch for step in steps[i * parts : (i + 1) * parts] for batch in step]
        assert again == list(group)
        assert {batch.step for batch in again} == {group[0].step}
        assert [batch.last for step in steps[i * parts : (i + 1) * parts] for batch in step[:1]] == [
            *[False] * (parts - 1),
            True,
        ]


def test_the_middle_of_a_group_resumes_with_ranks_that_divide_what_was_given() -> None:
    four = sampler_of(world_size=4, ranks_per_step=8)
    batches = iter(four)
    for _ in range(3):
        batch = next(batches)
    state = four.state_after(batch)
    assert state["step"] == 12
    assert not batch.last
    two = sampler_of(world_size=2, ranks_per_step=8)
    two.load_state_dict(state)
    assert next(iter(two)).given == 14
    eight = sampler_of(world_size=8)
    with pytest.raises(
        OptionError, match="behind 4 of its 8 batches.*8 ranks.*divides 4, or.*step=8"
    ) as caught:
        eight.load_state_dict(state)
    assert str(caught.value).startswith("BucketSampler.load_state_dict: ")
    assert (eight.epoch, eight.step) == (0, 0)
    eight.load_state_dict({**state, "step": 8})
    assert next(iter(eight)).step == 1


def test_state_is_four_integers_that_fit_in_64_bits_and_are_the_same_everywhere() -> None:
    lengths = [1, 2, 3, 4, 5, 6, 7, 8] * 4
    plan = seqpar.plan_buckets(lengths, boundaries=[4, 8], batch_size=2)
    sampler = BucketSampler(plan, lengths, seed=3, world_size=2, randomness=0.25)
    sampler.set_epoch(7)
    next(iter(sampler))
    state = sampler.state_dict()
    assert all(type(value) is int and 0 <= value < 2**63 for value in state.values())
    assert state == {"plan": 6460625869126244225, "seed": 3, "epoch": 7, "step": 2}
    assert [list(batch) for batch in sampler.batches(7)[:3]] == [[22, 21], [5, 6], [31, 15]]


def test_set_epoch_starts_another_epoch_and_keeps_the_place_in_its_own() -> None:
    sampler = sampler_of()
    whole = list(sampler.batches(4))
    sampler.set_epoch(4)
    batches = iter(sampler)
    assert [next(batches), next(batches)] == whole[:2]
    sampler.set_epoch(4)
    assert list(sampler) == whole[2:]
    sampler.set_epoch(4)
    assert list(sampler) == whole


def test_two_iterators_share_one_state_and_give_no_batch_twice() -> None:
    sampler = sampler_of()
    first, second = iter(sampler), iter(sampler)
    mixed = [next(first), next(second), next(first), *second]
    assert mixed == list(sampler.batches(0))
    assert list(first) == []


def test_batches_of_an_epoch_are_a_sequence_with_random_access() -> None:
    sampler = sampler_of(rank=1, world_size=2, ranks_per_step=4)
    batches = pickle.loads(pickle.dumps(sampler.batches(2)))
    sampler.set_epoch(2)
    expected = list(sampler)
    assert len(batches) == len(expected)
    for i in (len(batches) - 1, 0, 17, 5, -1, -3):
        assert facts([batches[i]]) == facts([expected[i]])
    assert facts(batches[3:9:2]) == facts(expected[3:9:2])
    with pytest.raises(IndexError, match="batch"):
        batches[len(batches)]
    assert (sampler.epoch, sampler.step) == (3, 0)


def test_state_at_counts_the_batches_of_a_rank() -> None:
    sampler = sampler_of(rank=1, world_size=2)
    batches = list(sampler)
    for done in (1, 5, len(batches)):
        assert sampler.state_at(0, done) == sampler.state_after(batches[done - 1])
    with pytest.raises(OptionError, match="batches=.* of an epoch of"):
        sampler.state_at(0, len(batches) + 1)
    with pytest.raises(OptionError, match="list is not a batch"):
        sampler.state_after([1, 2])


OTHER_PLAN = seqpar.plan_buckets(LENGTHS, 4, batch_size=8)
OTHER_ORDER = LENGTHS[::-1]


@pytest.mark.parametrize(
    ("options", "says", "silent"),
    [
        ({"plan": OTHER_PLAN}, ["the plan", "Load the plan"], ["the data", "the options"]),
        ({"lengths": OTHER_ORDER}, ["the data", "same samples"], ["the plan (", "the options"]),
        ({"lengths": LENGTHS[:-1]}, ["the data"], ["the plan (", "the options"]),
        ({"ranks_per_step": 4}, ["the options (ranks_per_step"], ["the plan (", "the data"]),
        ({"remainder": "promote"}, ["the options"], ["the plan (", "the data"]),
        ({"randomness": 0.1}, ["the options"], ["the plan (", "the data"]),
        ({"shuffle": False}, ["the options"], ["the plan (", "the data"]),
        ({"longest_first": True}, ["the options"], ["the plan (", "the data"]),
        ({"plan": OTHER_PLAN, "longest_first": True}, ["the plan (", "the options"], ["the data"]),
        ({"seed": 1}, ["saved with seed=0", "has seed=1"], ["the plan (", "the options"]),
    ],
)
def test_a_state_of_another_sampler_says_what_differs(
    options: dict[str, Any], says: list[str], silent: list[str]
) -> None:
    state = sampler_of().state_dict()
    other = sampler_of(**copy.deepcopy(options))
    with pytest.raises(OptionError) as caught:
        other.load_state_dict(state)
    message = str(caught.value)
    assert message.startswith("BucketSampler.load_state_dict: ")
    assert all(part in message for part in says)
    assert not any(part in message for part in silent)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": 10**6}, "step=1000000 is beyond the end of an epoch of"),
        ({"step": -1}, "step=-1 is not a whole number of at least 0"),
        ({"epoch": 0.5}, "epoch=0.5 is not a whole number"),
        ({"extra": 1}, "not plan, seed, epoch, step"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, Any], says: str) -> None:
    sampler = sampler_of()
    with pytest.raises(OptionError, match=says):
        sampler.load_state_dict({**sampler.state_dict(), **change})
    with pytest.raises(OptionError, match="NoneType"):
        sampler.load_state_dict(None)  # type: ignore[arg-type]


def test_resuming_among_ten_million_samples_makes_no_array_of_their_number() -> None:
    """At epoch 1000, step 60,000: no replay, and no order of the samples."""
    n = 10_000_000
    lengths = (np.arange(n, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(22)).astype(np.int16) + 1
    plan = seqpar.plan_buckets((np.arange(1, 1025), np.full(1024, n // 1024)), 8, batch_size=16)
    sampler = BucketSampler(plan, lengths, seed=0, world_size=8, remainder="promote", randomness=0.1)
    state = {**sampler.state_dict(), "epoch": 1000, "step": 8 * 60_000}
    tracemalloc.start()
    sampler.load_state_dict(state)
    batch = next(iter(sampler))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch.step == 60_000
    assert batch.epoch == 1000
    # 4096 samples are worked out at once, in a dozen arrays of 8 bytes; an order of all samples would take 80 MB.
    assert peak < 4_000_000


def test_an_epoch_that_is_a_number_of_numpy_has_the_order_of_a_plain_one() -> None:
    sampler = sampler_of()
    sampler.set_epoch(np.int64(4))  # type: ignore[arg-type]
    batches = list(sampler)
    assert facts(batches) == facts(list(sampler_of().batches(4)))
    assert all(type(batch.epoch) is int for batch in batches)
    sampler.set_epoch(np.int64(9))  # type: ignore[arg-type]
    assert json.loads(json.dumps(sampler.state_dict()))["epoch"] == 9


def test_facts_that_a_user_adds_to_a_batch_are_pickled_too() -> None:
    batch = next(iter(sampler_of()))
    batch.mine = "own"  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(batch))
    assert again == batch and type(again) is Batch and vars(again) == vars(batch)
