"""`whole_batches=True`: last batches that are not full are paid in full."""

import itertools
from typing import Any

import numpy as np
import pytest

import seqpar.buckets.whole_batches
from seqpar import plan_buckets
from seqpar.errors import OptionError

Array = Any


def every_choice(lengths: Array, counts: Array, price: Array, size: Array, ranks: int) -> list[float]:
    """The least cost of exactly 1, 2, ... buckets over all sets of boundaries."""
    least = []
    for number in range(1, lengths.size + 1):
        costs = []
        for chosen in itertools.combinations(range(lengths.size - 1), number - 1):
            ends = np.asarray([*chosen, lengths.size - 1])
            n = np.diff(np.cumsum(counts)[ends], prepend=0)
            group = size[ends] * ranks
            costs.append(float((np.ceil(n / group) * group * price[ends]).sum()))
        least.append(min(costs))
    return least


def instance(seed: int) -> tuple[Array, Array, Array, dict[str, Any]]:
    """Few lengths with whole prices of any order, and batches of up to 60 // length on one to four ranks."""
    random = np.random.default_rng(seed)
    lengths = np.sort(random.choice(np.arange(1, 40), int(random.integers(1, 7)), replace=False))
    counts, table = random.integers(1, 40, lengths.size), random.integers(1, 60, 41)
    options = {
        "cost": lambda length, batch: float(table[length] * batch),
        "max_tokens": 60,
        "ranks_per_step": int(random.integers(1, 5)),
        "whole_batches": True,
    }
    return lengths, counts, table[lengths].astype(float), options


def test_the_least_cost_is_that_of_brute_force() -> None:
    for seed in range(400):
        lengths, counts, price, options = instance(seed)
        exact = every_choice(lengths, counts, price, 60 // lengths, options["ranks_per_step"])
        for number in range(1, lengths.size + 1):
            plan = plan_buckets((lengths, counts), number, **options)
            assert plan.exact_cost == min(exact[:number]), seed
            assert plan.curve == tuple(exact), seed
            assert plan.objective == plan.exact_cost
        for extra in (1.0, 100.0):
            plan = plan_buckets((lengths, counts), shape_price=extra, **options)
            assert plan.exact_cost == min(cost + extra * (i + 1) for i, cost in enumerate(exact)), seed


def test_beyond_the_largest_size_the_result_is_never_worse_than_the_plan_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seqpar.buckets.whole_batches, "MOST_LENGTHS", 0)
    optimal, better = 0, 0
    for seed in range(200):
        lengths, counts, price, options = instance(seed)
        exact = every_choice(lengths, counts, price, 60 // lengths, options["ranks_per_step"])
        number = min(3, lengths.size)
        plan = plan_buckets((lengths, counts), number, **options)
        start = plan_buckets((lengths, counts), number, **{**options, "whole_batches": False})
        assert plan.exact_cost is not None and start.exact_cost is not None
        assert min(exact[:number]) <= plan.exact_cost <= start.exact_cost
        assert any("not all boundaries were tried" in note for note in plan.notes)
        assert plan.method == "host.hull, moved"
        optimal += plan.exact_cost == min(exact[:number])
        better += plan.exact_cost < start.exact_cost
    # The moves do something, and mostly enough.
    assert better > 10
    assert optimal > 150


def test_whole_batches_cost_at_least_what_was_predicted_and_less_than_without_the_option() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    rules: dict[str, Any] = {"max_tokens": 4000, "ranks_per_step": 8}
    plain, whole = plan_buckets(lengths, 12, **rules), plan_buckets(lengths, 12, whole_batches=True, **rules)
    assert plain.exact_cost is not None and whole.exact_cost is not None
    assert whole.exact_cost < plain.exact_cost
    assert whole.exact_cost >= whole.predicted_cost >= plain.predicted_cost
    assert whole.n_buckets < 12
    assert f"{whole.n_buckets} buckets cost less than 12 in whole batches" in whole.notes
    for rival in whole.rivals.values():
        if len(rival.boundaries) == whole.n_buckets:
            assert rival.cost >= whole.exact_cost


def test_whole_batches_want_a_rule_for_their_size() -> None:
    with pytest.raises(OptionError, match="whole_batches=True counts batches.*Give batch_size="):
        plan_buckets([3, 5], 2, whole_batches=True)


def test_boundaries_of_ones_own_have_whole_batches_too() -> None:
    plan = plan_buckets([3, 5, 9], boundaries=[5, 9], batch_size=4, whole_batches=True)
    assert plan.objective == plan.exact_cost == 4 * 5 + 4 * 9
