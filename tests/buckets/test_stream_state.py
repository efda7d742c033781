"""A `BucketStream` goes on where another one stood: the same batches, whatever happens in between."""

import json
import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import OptionError

RANKS = 4


@cache
def lengths() -> list[int]:
    """They change, so that plans do; some are long."""
    rng = np.random.default_rng(0)
    parts = [rng.lognormal(mean, 0.5, 700) for mean in (4, 2.5, 4.5)]
    return np.clip(np.round(np.concatenate(parts)), 1, 900).astype(int).tolist()


OPTIONS = {"length": int, "n_buckets": 4, "batch_size": 5, "buffer": 200, "replan_every": 150, "seed": 7}


def stream(samples=None, **changed) -> seqpar.BucketStream:
    return seqpar.BucketStream(lengths() if samples is None else samples, **{**OPTIONS, **changed})


def facts(samples) -> tuple:
    return list(samples), list(samples.batch), vars(samples.batch), samples.state


@cache
def uninterrupted(rank: int = 0, world_size: int = 1, ranks_per_step: int = 1) -> list[tuple]:
    whole = stream(rank=rank, world_size=world_size, ranks_per_step=ranks_per_step)
    found = [facts(samples) for _ in range(2) for samples in whole]
    assert {adoption.why for adoption in whole.plans} >= {"first", "cheaper", "longer"}
    return found


def test_it_goes_on_identically_behind_any_batch_of_two_passes() -> None:
    batches = uninterrupted()
    for at in [0, 1, 2, *range(3, len(batches), 67), len(batches) - 1]:
        again = stream()
        again.load_state_dict(json.loads(json.dumps(batches[at][-1])))
        rest = [facts(samples) for samples in again]
        while again.epoch < 2:
            rest += [facts(samples) for samples in again]
        assert rest == batches[at + 1 :]


def test_the_state_of_the_stream_is_that_of_its_last_batch() -> None:
    whole = stream()
    start = whole.state_dict()
    for samples in whole:
        assert whole.state_dict() == samples.state
    assert start == stream().state_dict()
    assert (start["epoch"], start["step"]) == (0, 0)
    assert (whole.state_dict()["epoch"], whole.state_dict()["step"]) == (1, 0)
    again = stream()
    again.load_state_dict(whole.state_dict())
    assert [facts(samples) for samples in again] == [b for b in uninterrupted() if b[2]["epoch"] == 1]


def test_a_second_pass_goes_on_with_boundaries_beyond_the_greatest_length() -> None:
    options = {"max_length": 100, "multiple_of": 64, "on_overflow": "drop"}
    whole = stream(**options)
    list(whole)
    second = [facts(samples) for samples in whole]
    again = stream(**options)
    again.load_state_dict(second[20][-1])
    assert [facts(samples) for samples in again] == second[21:]


def test_a_loaded_state_is_the_state_until_iteration_begins() -> None:
    state = uninterrupted()[50][-1]
    again = stream()
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert (again.epoch, again.step) == (state["epoch"], state["step"])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_it_goes_on_with_another_number_of_ranks(world_size: int) -> None:
    four = [uninterrupted(rank, RANKS, RANKS) for rank in range(RANKS)]
    at = 40
    for rank in range(world_size):
        again = stream(rank=rank, world_size=world_size, ranks_per_step=RANKS)
        again.load_state_dict(four[0][at][-1])
        turns = RANKS // world_size
        for i, samples in zip(range(3 * turns), again, strict=False):
            step, turn = divmod(i, turns)
            assert list(samples.batch) == four[world_size * turn + rank][at + 1 + step][1]


def test_it_goes_on_inside_a_group() -> None:
    one = uninterrupted(0, 1, RANKS)
    # Behind 402 batches: two of the four of a group are left, one for each of two ranks.
    state = one[401][-1]
    assert state["step"] % RANKS == 2
    for rank in range(2):
        again = stream(rank=rank, world_size=2, ranks_per_step=RANKS)
        again.load_state_dict(state)
        assert list(next(iter(again)).batch) == one[402 + rank][1]
    with pytest.raises(OptionError, match="inside a group, behind 2 of its 4 batches, which 4 ranks"):
        stream(world_size=4, ranks_per_step=RANKS).load_state_dict(state)


def test_a_copy_in_another_process_goes_on_from_where_the_stream_stood() -> None:
    whole, batches = stream(), uninterrupted()
    for _ in zip(range(30), whole, strict=False):
        pass
    copy = pickle.loads(pickle.dumps(whole))
    assert facts(next(iter(copy))) == batches[30]
    assert facts(next(iter(whole))) == batches[30]


def test_batches_keep_their_facts_when_they_are_pickled() -> None:
    samples = next(iter(stream()))
    copy = pickle.loads(pickle.dumps(samples))
    assert type(copy) is type(samples)
    assert facts(copy) == facts(samples)


def test_metrics_and_plans_of_the_pass_are_those_of_the_whole() -> None:
    whole, again = stream(), stream()
    list(whole)
    again.load_state_dict(uninterrupted()[100][-1])
    list(again)
    assert again.metrics() == whole.metrics()
    assert again.plans == whole.plans


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 8}, "saved with seed=7, and this stream has seed=8"),
        ({"buffer": 201}, "other options"),
        ({"batch_size": 6}, "other options"),
        ({"remainder": "promote"}, "other options"),
        ({"world_size": 2}, "other options"),
    ],
)
def test_a_state_of_another_stream_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(OptionError, match="BucketStream.load_state_dict: .*" + message):
        stream(**changed).load_state_dict(uninterrupted()[50][-1])


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(OptionError, match="Give what state_dict"):
        stream().load_state_dict({"epoch": 0})


def test_other_samples_are_refused_when_they_are_read_again() -> None:
    state = uninterrupted()[50][-1]
    other = [lengths()[0] + 1, *lengths()[1:]]
    again = stream(other)
    again.load_state_dict(state)
    with pytest.raises(OptionError, match="other lengths than those of the saved stream"):
        next(iter(again))
    shorter = stream(lengths()[:100])
    shorter.load_state_dict(state)
    with pytest.raises(
        OptionError, match=f"ended after 100 samples, and the state was saved after {state['read']}"
    ):
        next(iter(shorter))


def linear(length: int, batch: int) -> float:
    return 1e-3 * length * batch


def squared(length: int, batch: int) -> float:
    return 1e-3 * length**2 * batch


def memory(per_step: int) -> seqpar.MemoryModel:
    return seqpar.MemoryModel.fit({(100, b): 10**6 + 100 * b * per_step for b in (1, 8)}, limit=2 * 10**6)


@pytest.mark.parametrize(
    ("saved", "changed"),
    [
        ({"cost": linear}, {"cost": squared}),
        ({"memory": memory(1500), "batch_size": None}, {"memory": memory(1600), "batch_size": None}),
    ],
)
def test_another_cost_or_memory_is_refused_where_it_makes_other_groups(saved: Any, changed: Any) -> None:
    """Of the type that the saved one had: options look alike, and the same lengths are read."""
    batches = [facts(samples) for samples in stream(**saved)]
    state = batches[50][-1]
    again = stream(**saved)
    again.load_state_dict(state)
    assert facts(next(iter(again))) == batches[51]
    other = stream(**changed)
    other.load_state_dict(state)
    with pytest.raises(
        OptionError, match=r"BucketStream: .*other groups than those of the saved .*cost= or memory= are"
    ):
        next(iter(other))


def test_where_ranks_have_other_costs_their_states_tell() -> None:
    ranks = [stream(cost=cost, rank=i, world_size=2) for i, cost in enumerate((linear, squared))]
    states = [[samples.state for samples in each][30] for each in ranks]
    assert states[0]["plan"] == states[1]["plan"] and states[0]["groups"] != states[1]["groups"]


def test_reading_again_that_fails_can_be_tried_again() -> None:
    class Failing:
        fails = True

        def __iter__(self):
            for i, length in enumerate(lengths()):
                if i == 100 and Failing.fails:
                    Failing.fails = False
                    raise OSError("the network")
                yield length

    again = stream(Failing())
    again.load_state_dict(uninterrupted()[50][-1])
    with pytest.raises(OSError, match="the network"):
        next(iter(again))
    assert facts(next(iter(again))) == uninterrupted()[51]
