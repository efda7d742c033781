"""`plan.bucket_or_pack`: what an epoch costs in buckets and packed, and which is less."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from seqpar.buckets.best_fit import best_fit
from seqpar.buckets.pack_choice import _spread
from seqpar.errors import OptionError

LENGTHS = np.clip(np.rint(np.random.default_rng(0).lognormal(5, 1, 20_000)), 16, 1024).astype(int)


def by_tokens(length: int, batch: int) -> float:
    return 1e-3 + 1e-7 * length * batch


def by_steps(length: int, batch: int) -> float:
    return 1e-3 + 1e-5 * length * (1 + batch / 1000)


def test_a_layer_whose_cost_is_its_steps_is_packed() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8, cost=by_tokens, max_tokens=2**15)
    choice = plan.bucket_or_pack(lengths=LENGTHS)
    rows = best_fit(LENGTHS.tolist(), 1024)[2]
    assert choice.choice == "pack" and choice.packed_rows == rows and not choice.estimated
    assert choice.pack_cost == pytest.approx(-(-rows // 32) * by_tokens(1024, 32))
    assert choice.bucket_cost == pytest.approx(plan.exact_cost)
    assert choice.pack_padding < 0.01 < choice.bucket_padding
    assert str(choice).startswith("Pack: an epoch takes ") and "32 x 1024" in str(choice)


def test_a_loop_over_time_is_bucketed() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8, cost=by_steps, max_tokens=2**15)
    choice = plan.bucket_or_pack()
    assert choice.choice == "bucket" and choice.bucket_cost == pytest.approx(plan.exact_cost)
    assert str(choice).startswith("Bucket: an epoch takes ") and "more than the padding it saves" in str(
        choice
    )


def test_padding_alone_is_counted_in_steps() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8)
    choice = plan.bucket_or_pack(lengths=LENGTHS)
    assert (choice.choice, choice.unit, choice.rows) == ("pack", "steps", None)
    assert choice.bucket_cost == plan.predicted_cost
    assert choice.pack_cost == 1024 * best_fit(LENGTHS.tolist(), 1024)[2]
    assert choice.bucket_padding == pytest.approx(plan.padding)
    same = seqpar.plan_buckets([7] * 100).bucket_or_pack()
    assert same.choice == "bucket" and same.bucket_cost == same.pack_cost == 700


def test_whole_batches_count_on_both_sides() -> None:
    plan = seqpar.plan_buckets([4, 4, 8], boundaries=[4, 8], cost=by_tokens, batch_size=4, ranks_per_step=2)
    choice = plan.bucket_or_pack(lengths=[4, 4, 8])
    assert choice.bucket_cost == pytest.approx(2 * by_tokens(4, 4) + 2 * by_tokens(8, 4))
    assert choice.packed_rows == 2 and choice.pack_cost == pytest.approx(2 * by_tokens(8, 4))


def test_a_price_of_a_shape_counts_once_for_packing() -> None:
    free, priced = (
        seqpar.plan_buckets(LENGTHS, 4, cost=by_tokens, max_tokens=2**15, shape_price=price).bucket_or_pack()
        for price in (0.0, 3.0)
    )
    assert priced.pack_cost - free.pack_cost == pytest.approx(3)
    assert priced.bucket_cost - free.bucket_cost == pytest.approx(12)


@pytest.mark.parametrize(("planned", "asked"), [("padding", by_tokens), (by_tokens, "padding")])
@pytest.mark.parametrize("own", [False, True])
def test_a_price_of_a_shape_counts_only_in_its_own_unit(planned: Any, asked: Any, own: bool) -> None:
    options: dict[str, Any] = {"cost": planned, "max_tokens": 2**15, "boundaries": [64, 256, 1024]}
    priced = seqpar.plan_buckets(LENGTHS, **options, shape_price=3000.0)
    free = replace(priced, shape_price=0.0)
    with_price, without = (plan.bucket_or_pack(None if own else asked) for plan in (priced, free))
    assert (with_price.bucket_cost - without.bucket_cost, with_price.pack_cost - without.pack_cost) == (
        pytest.approx((9000, 3000)) if own else (0, 0)
    )


def test_capacity_rows_and_a_cost_of_packed_batches_can_be_given() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8, cost=by_steps, max_tokens=2**15)
    asked: list[tuple[int, int]] = []

    def packed(length: int, batch: int) -> float:
        asked.append((length, batch))
        return 1e-9

    choice = plan.bucket_or_pack(capacity=2048, rows=5, packed=packed)
    assert asked == [(2048, 5)] and (choice.capacity, choice.rows, choice.choice) == (2048, 5, "pack")


def test_the_estimate_without_lengths_is_close_to_what_they_need() -> None:
    for draw in (LENGTHS, np.random.default_rng(1).integers(1, 1025, 20_000), 400 + LENGTHS // 2):
        plan = seqpar.plan_buckets(draw, 8)
        exact, estimate = (plan.bucket_or_pack(lengths=x).packed_rows for x in (draw, None))
        assert abs(estimate - exact) < 0.02 * exact


@given(
    low=st.integers(0, 500), width=st.integers(1, 500), many=st.integers(1, 5000), share=st.floats(0.0, 1.0)
)
def test_lengths_of_a_bucket_are_spread_around_their_mean(
    low: int, width: int, many: int, share: float
) -> None:
    high = low + width
    steps = many * (low + 1) + int(share * many * (width - 1))
    found = _spread(low, high, many, steps)
    assert sum(n for _, n in found) == many and all(low < length <= high for length, _ in found)
    mean = sum(length * n for length, n in found) / many
    assert abs(mean - steps / many) <= 0.01 * width + width / many + 1


def test_what_a_plan_cuts_or_leaves_out_is_so_for_packing_too() -> None:
    lengths = [3, 5, 9, 20]
    cut = seqpar.plan_buckets(lengths, boundaries=[5, 10], on_overflow="truncate").bucket_or_pack(
        lengths=lengths
    )
    assert cut.packed_rows == 3
    dropped = seqpar.plan_buckets(lengths, boundaries=[5, 10], on_overflow="drop")
    assert dropped.bucket_or_pack(lengths=lengths).packed_rows == 2
    with pytest.raises(OptionError, match="longer than the plan allows"):
        seqpar.plan_buckets([3, 5]).bucket_or_pack(lengths=lengths)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"capacity": 1000}, "capacity=1000 is less than the longest sequence, 1024"),
        ({"capacity": 0.5}, "capacity=0.5"),
        ({"rows": 0}, "rows=0"),
        ({"packed": "padding"}, "one of cost and packed is 'padding' and the other one a time"),
        ({"packed": lambda length, batch: float("nan")}, "is nan"),
        ({"cost": "tokens"}, "cost='tokens' is not 'padding'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], text: str) -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8, cost=by_steps, max_tokens=2**15)
    with pytest.raises(OptionError, match=text):
        plan.bucket_or_pack(**options)


def test_what_a_plan_does_not_know_has_to_be_given() -> None:
    plan = seqpar.plan_buckets(LENGTHS, 8)
    with pytest.raises(
        OptionError, match=r"neither the plan nor rows= says how large one is|no rule says how large"
    ):
        plan.bucket_or_pack(by_tokens)
    with pytest.raises(OptionError, match="comes from a file"):
        replace(plan, cost=None).bucket_or_pack()
    pairs: Any = replace(plan, boundaries=((4, 4), (10, 6)))
    with pytest.raises(OptionError, match="pairs of lengths"):
        pairs.bucket_or_pack()


@pytest.mark.parametrize("lengths", [[3], [3, 5, 5, 8], ([3, 5, 8], [2, 1, 1])])
def test_lengths_of_other_sequences_are_refused(lengths: object) -> None:
    plan = seqpar.plan_buckets([3, 5, 8], 2)
    with pytest.raises(
        OptionError, match=r"lengths has \d sequences that the plan serves, and it was made for 3"
    ):
        plan.bucket_or_pack(lengths=lengths)
