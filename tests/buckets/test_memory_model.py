"""The formula for peak memory: what it finds, that it errs on the safe side, and how it is kept."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from seqpar.errors import MeasurementError, OptionError, SeqparError

GRID = [(length, batch) for length in (64, 256, 1024) for batch in (2, 16)]
LIMIT = 80 * 10**9


def recurrent(length: int, batch: int) -> int:
    return 2 * 10**9 + batch * (10**6 + 300_000 * length)


def attention(length: int, batch: int) -> int:
    return 2 * 10**9 + batch * (10**6 + 100_000 * length + 1000 * length**2)


def fitted(memory: Any = recurrent, sizes: Any = GRID, **options: Any) -> seqpar.MemoryModel:
    return seqpar.MemoryModel.fit({size: memory(*size) for size in sizes}, **{"limit": LIMIT, **options})


@pytest.mark.parametrize("memory", [recurrent, attention])
def test_the_memory_of_a_layer_is_found_again(memory: Any) -> None:
    model = fitted(memory)
    for size in [(1, 1), (777, 5), (4096, 64)]:
        assert model(*size) == pytest.approx(memory(*size), rel=1e-9)
    assert model.notes == ()


@pytest.mark.parametrize("memory", [recurrent, attention])
@pytest.mark.parametrize("fraction", [0.5, 0.9, 1.0])
def test_the_batch_is_the_largest_that_fits(memory: Any, fraction: float) -> None:
    model = fitted(memory, fraction=fraction)
    for length in (1, 100, 1000, 7777):
        batch = model.batch_size(length)
        assert memory(length, batch) <= fraction * LIMIT * (1 + 1e-9)
        assert memory(length, batch + 1) > fraction * LIMIT * (1 - 1e-9)


def test_where_not_even_one_sequence_fits_the_batch_is_zero() -> None:
    assert fitted().batch_size(10**6) == 0
    assert fitted(limit=10**9).batch_size(1) == 0


def test_arrays_of_lengths_give_what_single_lengths_give() -> None:
    model, lengths = fitted(attention), [1, 64, 1000, 10**6]
    assert model.batch_sizes(lengths).tolist() == [model.batch_size(n) for n in lengths]
    with pytest.raises(OptionError, match="the length 0 is not one step or more"):
        model.batch_size(0)


noise = st.lists(st.floats(0.7, 1.4), min_size=len(GRID), max_size=len(GRID))


@given(noise)
def test_no_peak_lies_above_the_formula(factors: list[float]) -> None:
    peaks = {size: int(recurrent(*size) * x) for size, x in zip(GRID, factors, strict=True)}
    model = seqpar.MemoryModel.fit(peaks, limit=LIMIT)
    assert all(model(*size) >= peak * (1 - 1e-9) for size, peak in peaks.items())
    assert min(model.errors) == pytest.approx(0, abs=1e-9)


@given(noise)
def test_longer_sequences_never_get_larger_batches(factors: list[float]) -> None:
    peaks = {size: int(recurrent(*size) * x) for size, x in zip(GRID, factors, strict=True)}
    found = seqpar.MemoryModel.fit(peaks, limit=LIMIT).batch_sizes(np.arange(1, 3000))
    assert np.all(np.diff(found) <= 0)


@given(noise, st.sampled_from([(512, 8), (2048, 4), (64, 500), (1, 1)]))
def test_a_size_that_failed_is_never_chosen(factors: list[float], failed: tuple[int, int]) -> None:
    peaks = {size: int(recurrent(*size) * x) for size, x in zip(GRID, factors, strict=True)}
    for fraction in (0.9, 1.0):
        model = seqpar.MemoryModel.fit(peaks, limit=LIMIT, failed=[failed], fraction=fraction)
        assert model.batch_size(failed[0]) < failed[1]
        assert np.all(model.batch_sizes(np.arange(failed[0], failed[0] + 1000, 97)) < failed[1])


def test_a_failure_below_the_limit_lowers_it_and_says_so() -> None:
    model = fitted(failed=[(1024, 64)])
    assert model.limit == pytest.approx(recurrent(1024, 64))
    assert "ran out of memory; that is taken as the limit, and not 74.5 GiB" in model.notes[0]
    assert "too much" in str(model)
    above = fitted(failed=[(1024, 10**6)])
    assert above.limit == LIMIT
    assert above.notes == ()


def test_a_formula_that_does_not_fit_says_so() -> None:
    model = fitted(lambda n, b: 10**9 if n == 256 else 10**8 * b)
    assert "batches come out too small" in model.notes[-1]
    assert model.notes[-1] in str(model)


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [([(64, 2), (1024, 2)], "'B'"), ([(64, 2), (64, 16)], "'B'"), ([(64, 16), (1024, 2)], "'B'")],
)
def test_terms_that_the_sizes_do_not_show_are_named(sizes: Any, missing: str) -> None:
    assert f"memory depends on {missing} apart" in fitted(sizes=sizes).notes[0]


@pytest.mark.parametrize("sizes", [[(64, 2)], [(64, 16), (1024, 1)]])
def test_one_number_of_steps_is_too_little(sizes: Any) -> None:
    with pytest.raises(MeasurementError, match=r"one number of steps, length \* batch.* at least two"):
        fitted(sizes=sizes)


def test_memory_that_does_not_grow_is_refused() -> None:
    with pytest.raises(
        MeasurementError, match="memory does not grow .* 954 MiB to 954 MiB. Give larger sizes"
    ):
        fitted(lambda n, b: 10**9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0 is not a whole number of at least 1"),
        ({"limit": 1e9}, "limit=1000000000.0 is not"),
        ({"fraction": 0}, "fraction=0 is not above 0 and at most 1"),
        ({"fraction": 1.1}, "fraction=1.1 is not"),
        ({"failed": [(0, 3)]}, "length=0 is not"),
    ],
)
def test_bad_options_are_named(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fitted(**options)


def test_bad_peaks_are_named() -> None:
    with pytest.raises(OptionError, match=r"\(64, 2\) is -1. Give a finite number above zero"):
        seqpar.MemoryModel.fit({(64, 2): -1, (64, 4): 5}, limit=LIMIT)


@pytest.mark.parametrize(
    ("peaks", "message"),
    [
        ({(64, 2): 0}, r"the peak for \(length, batch\)=\(64, 2\) is 0"),
        ({}, r"there are no peaks. Give at least one, \{\(length, batch\): peak\}"),
        ({64: 5}, r"the key 64 is not a pair. Give \{\(length, batch\): peak\}"),
        ([5], r"peaks is a list. Give a mapping \{\(length, batch\): peak\}"),
    ],
)
def test_bad_peaks_are_not_called_times(peaks: Any, message: str) -> None:
    with pytest.raises(SeqparError, match="^MemoryModel.fit: " + message):
        seqpar.MemoryModel.fit(peaks, limit=LIMIT)


def test_a_limit_of_numpy_is_kept_as_a_number_that_json_knows() -> None:
    model = fitted(limit=np.int64(LIMIT), failed=[(np.int64(1024), np.int32(10**6))])
    assert seqpar.MemoryModel.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_a_model_comes_back_from_json() -> None:
    model = fitted(failed=[(1024, 64)], notes=["a note"])
    again = seqpar.MemoryModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    assert hash(again) == hash(model)
    assert pickle.loads(pickle.dumps(model)) == model


def test_a_plan_has_the_batches_that_fit() -> None:
    lengths = np.random.default_rng(0).integers(16, 1024, 3000)
    model = fitted(attention)
    plan = seqpar.plan_buckets(lengths, 5, memory=model, batch_multiple_of=4)
    assert plan.batch_sizes == tuple(model.batch_size(n) // 4 * 4 for n in plan.boundaries)
    with pytest.raises(OptionError, match="MemoryModel"):
        seqpar.plan_buckets([10, 10**6], memory=model)


def test_a_model_prints_what_was_tried() -> None:
    assert str(fitted(sizes=[(64, 2), (64, 16), (1024, 16)])).splitlines() == [
        "MemoryModel: 1.86 GiB + 977 KiB B + 293 KiB l B, of 90 % of 74.5 GiB",
        "  length  batch      peak   formula",
        "      64      2   1.9 GiB   1.9 GiB",
        "      64     16  2.16 GiB  2.16 GiB",
        "    1024     16  6.46 GiB  6.46 GiB",
    ]
