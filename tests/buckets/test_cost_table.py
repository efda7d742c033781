"""Times read from a table: exact where the layer is bilinear, sane beyond what was measured."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from seqpar.errors import OptionError, ShapeError

LENGTHS, BATCHES = (64, 256, 1024), (4, 16, 64)


def recurrent(length: Any, batch: Any) -> Any:
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


def table(time: Any = recurrent, lengths: Any = LENGTHS, batches: Any = BATCHES) -> seqpar.CostTable:
    return seqpar.CostTable.from_mapping({(n, b): time(n, b) for n in lengths for b in batches})


def test_a_recurrent_layer_is_met_between_and_beyond() -> None:
    lengths, batches = np.arange(1, 5000, 13)[:, None], np.arange(1, 300, 7)
    assert np.allclose(table().times(lengths, batches), recurrent(lengths, batches), rtol=1e-9)


def test_logarithms_would_not_meet_it() -> None:
    """Why interpolation is linear: the figure that `seqpar.buckets.cost_table` has in its first paragraph."""
    corners = [np.log(recurrent(n, b)) for n in (64, 1024) for b in (4, 64)]
    assert np.exp(np.mean(corners)) / recurrent(256, 16) - 1 == pytest.approx(0.33, abs=0.005)
    assert table(lengths=(64, 1024), batches=(4, 64))(256, 16) == pytest.approx(recurrent(256, 16))


times = st.lists(st.floats(1e-6, 1e3), min_size=9, max_size=9).map(lambda x: np.reshape(x, (3, 3)).tolist())


@given(times)
def test_what_was_measured_comes_back(seconds: Any) -> None:
    found = seqpar.CostTable(LENGTHS, BATCHES, seconds)
    assert np.allclose(found.times(np.array(LENGTHS)[:, None], np.array(BATCHES)), seconds, rtol=1e-12)


@given(times)
def test_between_times_lies_what_is_between_them(seconds: Any) -> None:
    found = seqpar.CostTable(LENGTHS, BATCHES, seconds).times(np.arange(64, 257)[:, None], np.arange(4, 17))
    corner = np.array(seconds)[:2, :2]
    assert np.all(found >= corner.min() * (1 - 1e-12))
    assert np.all(found <= corner.max() * (1 + 1e-12))


@given(times)
def test_beyond_the_table_no_step_is_free_and_none_gets_cheaper_with_size(seconds: Any) -> None:
    found = seqpar.CostTable(LENGTHS, BATCHES, seconds)
    for batch in (1, 3, 4, 20, 64, 10**6):
        beyond = found.times([1024, 1025, 3000, 10**6, 10**9], batch)
        assert np.all(np.diff(beyond) >= -1e-9 * beyond[:-1])
        assert np.all(found.times([1, 2, 63, 64, 200], batch) > 0)
    for length in (1, 64, 300, 1024, 10**6):
        beyond = found.times(length, [64, 65, 200, 10**6])
        assert np.all(np.diff(beyond) >= -1e-9 * beyond[:-1])
        before = found.times(length, [1, 2, 3, 4])
        assert np.all(before > 0)
        assert np.all(np.diff(before) >= -1e-9 * before[:-1])


def test_below_a_table_that_rises_steeply_time_goes_to_zero_with_the_length() -> None:
    """A line through the squares of 64 and 128 would be below zero from 42 on."""
    found = table(lambda n, b: n * n * 1e-6, (64, 128), (4,))
    assert found(32, 4) == pytest.approx(found(64, 4) / 2)
    assert found(256, 4) == pytest.approx(found(128, 4) + 128 * (found(128, 4) - found(64, 4)) / 64)


@pytest.mark.parametrize(("lengths", "batches"), [((64,), BATCHES), (LENGTHS, (4,)), ((64,), (4,))])
def test_a_single_length_or_batch_size_stands_for_proportion(lengths: Any, batches: Any) -> None:
    found = table(lengths=lengths, batches=batches)
    if len(lengths) == 1:
        assert found.times([32, 640], 4).tolist() == pytest.approx([found(64, 4) / 2, found(64, 4) * 10])
    if len(batches) == 1:
        assert found.times(64, [2, 40]).tolist() == pytest.approx([found(64, 4) / 2, found(64, 4) * 10])


def test_a_table_says_what_it_covers() -> None:
    found = table().covers([63, 64, 1024, 1025, 100, 100], [4, 4, 64, 64, 3, 65])
    assert found.tolist() == [False, True, True, False, False, False]


def test_times_that_are_no_full_grid_are_named_with_a_way_out() -> None:
    scattered = {(64, 4): 1.0, (128, 8): 2.0, (256, 16): 3.0}
    with pytest.raises(OptionError, match=r"\(64, 8\), \(64, 16\), \(128, 4\) and 3 more.*CostModel.fit"):
        seqpar.CostTable.from_mapping(scattered)
    with pytest.raises(OptionError, match="no full table"):
        seqpar.plan_buckets([100, 200], 1, cost=scattered, batch_size=4)
    seqpar.CostModel.fit(scattered)


def test_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="do not rise"):
        seqpar.CostTable((256, 64), (4,), ((1.0,), (2.0,)))
    with pytest.raises(OptionError, match="do not rise"):
        seqpar.CostTable((), (4,), ())
    with pytest.raises(ShapeError, match=r"2 rows of \[1\] times"):
        seqpar.CostTable((64, 256), (4, 8), ((1.0,), (2.0,)))
    with pytest.raises(OptionError, match=r"\(64, 4\) is -1.0"):
        seqpar.CostTable((64,), (4,), ((-1.0,),))


def test_a_mapping_is_a_table_for_a_plan() -> None:
    lengths = np.random.default_rng(0).integers(64, 1024, 3000)
    times = {(n, b): recurrent(n, b) for n in LENGTHS for b in BATCHES}
    by_mapping = seqpar.plan_buckets(lengths, 5, cost=times, batch_size=16)
    by_function = seqpar.plan_buckets(lengths, 5, cost=recurrent, batch_size=16)
    assert by_mapping.boundaries == by_function.boundaries
    assert by_mapping.predicted_cost == pytest.approx(by_function.predicted_cost, rel=1e-9)
