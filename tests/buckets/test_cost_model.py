"""The formula for the time of a step: what it finds, what it says of itself, and how it is kept."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from seqpar.buckets.cost_model import cost_from_json
from seqpar.errors import ArrayTypeError, NotEligibleError, OptionError

GRID = [(length, batch) for length in (64, 256, 1024) for batch in (4, 32)]


def recurrent(length: float, batch: float) -> float:
    """The time of a recurrent layer: a loop over time whose step costs more with the batch."""
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


def attention(length: float, batch: float) -> float:
    return 1e-3 + batch * (1e-5 + 1e-7 * length + 1e-9 * length**2)


def fitted(time: Any = recurrent, sizes: Any = GRID, **options: Any) -> seqpar.CostModel:
    return seqpar.CostModel.fit({size: time(*size) for size in sizes}, **options)


@pytest.mark.parametrize("time", [recurrent, attention])
def test_the_formula_of_a_layer_is_found_again(time: Any) -> None:
    model = fitted(time)
    for size in [(1, 1), (100, 7), (4096, 512)]:
        assert model(*size) == pytest.approx(time(*size), rel=1e-9)
    assert model.error < 1e-12
    assert model.notes == ()


coefficient = st.floats(1e-3, 1e3)


@given(st.tuples(*[st.one_of(st.just(0.0), coefficient)] * 5).filter(any))
def test_any_sum_of_the_terms_is_found_again(c: tuple[float, ...]) -> None:
    def time(n: float, b: float) -> float:
        return c[0] + c[1] * n / 256 + c[2] * b / 16 + c[3] * n * b / 4096 + c[4] * n * n * b / 2**20

    model = fitted(time)
    for size in [*GRID, (500, 10)]:
        assert model(*size) == pytest.approx(time(*size), rel=1e-6)


@given(st.lists(st.floats(1e-6, 1e3), min_size=len(GRID), max_size=len(GRID)))
def test_whatever_was_measured_no_step_is_free_and_none_gets_cheaper_with_size(times: list[float]) -> None:
    model = seqpar.CostModel.fit(dict(zip(GRID, times, strict=True)))
    lengths, batches = np.arange(1, 2000, 37), np.arange(1, 100, 9)
    found = model.times(lengths[:, None], batches)
    assert np.all(found > 0)
    assert np.all(np.diff(found, axis=0) >= 0)
    assert np.all(np.diff(found, axis=1) >= 0)


def test_short_steps_count_as_much_as_long_ones() -> None:
    """Every second time is 10 % too long: whatever the size, the formula is off by about half of that."""
    noisy = {size: recurrent(*size) * (1.1 if i % 2 else 1.0) for i, size in enumerate(GRID)}
    model = seqpar.CostModel.fit(noisy)
    assert model.error < 0.08
    assert len(model.errors) == len(GRID)
    assert model.errors[0] == pytest.approx(model(64, 4) / noisy[64, 4] - 1)


def test_a_formula_that_does_not_fit_says_so_and_what_to_do() -> None:
    steps = fitted(lambda length, batch: 1.0 if length > 100 else 0.1)
    assert steps.error > 0.15
    (note,) = steps.notes
    assert "off by" in note
    assert "model.table()" in note
    assert note in str(steps)


def test_the_table_of_a_model_has_what_was_measured() -> None:
    model = fitted(lambda length, batch: 1.0 if length > 100 else 0.1)
    table = model.table()
    assert [table(*size) for size in model.sizes] == list(model.seconds)
    with pytest.raises(OptionError, match="no full table"):
        fitted(sizes=GRID[:-1]).table()


def test_the_way_out_is_named_only_where_it_is_one() -> None:
    odd = fitted(lambda length, batch: 1.0 if length == 256 else 0.1, sizes=GRID[:-1])
    assert "off by" in odd.notes[-1]
    assert "table" not in odd.notes[-1]


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [
        ([(64, 8)], "'1', 'l', 'B'"),
        ([(64, 8), (128, 8), (256, 8)], "'l', 'B'"),
        ([(64, 8), (64, 16)], "'l', 'B'"),
        ([(64, 512), (128, 256), (256, 128), (512, 64)], "'1'"),  # always as many steps
    ],
)
def test_terms_that_the_sizes_do_not_show_are_named(sizes: Any, missing: str) -> None:
    model = fitted(sizes=sizes)
    assert f"depends on {missing} apart" in model.notes[0]
    assert [model(*size) for size in sizes] == pytest.approx([recurrent(*size) for size in sizes], rel=1e-6)


def test_one_batch_size_is_not_taken_for_a_time_without_batches() -> None:
    model = fitted(sizes=[(64, 8), (128, 8), (256, 8)])
    assert model(256, 16) > 1.5 * model(256, 8)


def test_arrays_give_what_single_calls_give() -> None:
    model = fitted(attention)
    lengths, batches = np.array([3, 64, 1000]), np.array([7, 9, 100])
    assert model.times(lengths, batches).tolist() == [
        model(n, b) for n, b in zip(lengths.tolist(), batches.tolist(), strict=True)
    ]


def test_a_model_says_what_it_covers() -> None:
    found = fitted().covers([63, 64, 1024, 1025, 100, 100], [4, 4, 32, 32, 3, 33])
    assert found.tolist() == [False, True, True, False, False, False]


def test_the_price_of_a_shape_is_what_its_first_step_takes_longer() -> None:
    first = {size: recurrent(*size) + extra for size, extra in zip(GRID, [9, 1, 2, 3, 4, 5], strict=True)}
    model = fitted(first_calls=first)
    assert model.shape_price == pytest.approx(3.5)
    assert model.first_call == pytest.approx(np.median(list(first.values())))
    assert "a new shape costs 3.5 s" in str(model)
    assert fitted(first_calls=dict.fromkeys(GRID, 1e-09)).shape_price == 0


def test_nothing_is_made_up_of_first_calls_that_nobody_timed() -> None:
    with pytest.raises(NotEligibleError, match="nobody timed"):
        _ = fitted().shape_price


def test_a_model_and_a_table_come_back_from_json() -> None:
    model = fitted(first_calls=dict.fromkeys(GRID, 1.0), notes=["a note"])
    for cost in (model, model.table()):
        again = cost_from_json(json.loads(json.dumps(cost.to_json())))
        assert again == cost
        assert type(again) is type(cost)
        assert again(77, 9) == cost(77, 9)
        assert hash(again) == hash(cost)
        copy = pickle.loads(pickle.dumps(cost))
        assert copy == cost
        assert copy(77, 9) == cost(77, 9)


def test_what_is_no_cost_is_refused() -> None:
    with pytest.raises(OptionError, match="kind='plan' is neither"):
        cost_from_json({"kind": "plan"})
    with pytest.raises(
        OptionError, match="CostModel.from_json: the dictionary is damaged .KeyError: 'sizes'"
    ):
        cost_from_json({"kind": "cost_model", "coefficients": [1, 0, 0, 0, 0]})
    with pytest.raises(OptionError, match="CostTable.from_json: the dictionary is damaged"):
        cost_from_json({"kind": "cost_table", "lengths": 3, "batches": [4], "seconds": [[1.0]]})


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ({}, OptionError, "there are no times"),
        ([(64, 4, 1.0)], ArrayTypeError, "times is a list"),
        ({(64, 4): float("nan")}, OptionError, r"\(64, 4\) is nan. Give a finite number above zero"),
        ({(64, 4): -1.0}, OptionError, "is -1.0"),
        ({(64, 4): 0.0}, OptionError, "is 0.0"),
        ({(64, 4): float("inf")}, OptionError, "is inf"),
        ({(64, 4): "long"}, OptionError, "is 'long'"),
        ({(0, 4): 1.0}, OptionError, "length=0 is not a whole number of at least 1"),
        ({(64, -4): 1.0}, OptionError, "batch=-4 is not"),
        ({(64.5, 4): 1.0}, OptionError, "length=64.5 is not"),
        ({(True, 4): 1.0}, OptionError, "length=True is not"),
        ({64: 1.0}, OptionError, "the key 64 is not a pair"),
    ],
)
def test_bad_times_are_named(times: Any, error: type[Exception], message: str) -> None:
    for make in (seqpar.CostModel.fit, seqpar.CostTable.from_mapping):
        with pytest.raises(error, match=message):
            make(times)


def test_first_calls_belong_to_the_sizes_that_were_timed() -> None:
    with pytest.raises(OptionError, match="other sizes than times"):
        fitted(first_calls={(64, 4): 1.0})


def test_a_plan_by_a_model_is_the_plan_by_the_function_it_was_fitted_to() -> None:
    lengths = np.random.default_rng(0).integers(16, 1024, 3000)
    by_model = seqpar.plan_buckets(lengths, 5, cost=fitted(), max_tokens=20_000)
    by_function = seqpar.plan_buckets(lengths, 5, cost=recurrent, max_tokens=20_000)
    assert by_model.boundaries == by_function.boundaries
    assert by_model.predicted_cost == pytest.approx(by_function.predicted_cost, rel=1e-9)


def test_a_plan_keeps_its_cost_in_its_file() -> None:
    model = fitted(first_calls=dict.fromkeys(GRID, 1.0))
    for cost in (model, model.table()):
        plan = seqpar.plan_buckets([100, 130, 700, 1000], 2, cost=cost, batch_size=16)
        again = seqpar.BucketPlan.from_json(plan.to_json())
        assert again == plan
        assert again.cost == cost
