"""What two walks of a chunk say about errors, on systems whose errors are known."""

import math

import numpy as np
import pytest

from seqpar.solving import agreement

UNIT = np.full((1, 1), 1e-7)


def walks(factors, first=1.0):
    """Distances d[0], d[1], ... of a difference that each step multiplies, as of one chunk of one sequence."""
    return np.cumprod(np.concatenate([[first], factors]))[:, None, None]


def test_a_contraction_leaves_its_product_and_expands_nothing():
    found = agreement.gains(np, walks([0.5] * 10), UNIT)
    assert found.end == pytest.approx(0.5**10)
    assert found.expansion == found.peak == pytest.approx(1.0)
    assert found.total == pytest.approx(sum(0.5**k for k in range(11)))


def test_an_expansion_hidden_between_contractions_is_seen_at_its_own_scale():
    found = agreement.gains(np, walks([0.1] * 6 + [10.0] * 5 + [0.1] * 5), UNIT)
    assert found.end < 1e-4
    assert found.peak == pytest.approx(1.0)
    assert found.expansion == pytest.approx(1e5)


def test_growth_out_of_rounding_counts_from_rounding():
    found = agreement.gains(np, walks([0.0] + [1.0] * 3), UNIT)
    assert found.expansion == pytest.approx(1.0)
    found = agreement.gains(np, np.array([1.0, 0.0, 1e-3])[:, None, None], UNIT)
    assert found.expansion == pytest.approx(1e-3 / 1e-7)


def test_starts_that_differ_by_rounding_measure_no_forgetting():
    found = agreement.gains(np, walks([0.1, 0.1], first=3e-7), UNIT)
    assert math.isinf(found.end[0, 0]) and math.isinf(found.total[0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_walks_that_are_not_finite_expand_beyond_measure(bad):
    found = agreement.gains(np, np.array([1.0, bad, 1.0])[:, None, None], UNIT)
    assert found.expansion > 1e17


def test_a_mismatch_is_carried_through_the_gains_behind_it():
    end, expansion = np.array([[9.0], [0.5], [0.5], [0.5]]), np.array([[9.0], [2.0], [1.0], [3.0]])
    found = agreement.Gains(end, expansion, expansion, end)
    mismatch = np.array([[0.0], [1e-3], [0.0], [0.0]])
    # Chunk 1 starts wrong by 1e-3; through it 0.5, through the next 0.5; inside each its own expansion.
    np.testing.assert_allclose(agreement.carried(np, mismatch, found)[:, 0], [0.0, 2e-3, 0.5e-3, 3 * 0.25e-3])


def test_no_mismatch_is_no_error_whatever_was_not_measured():
    unknown = np.full((3, 1), np.inf)
    found = agreement.Gains(unknown, unknown, unknown, unknown)
    assert (agreement.carried(np, np.zeros((3, 1)), found) == 0.0).all()
    assert np.isinf(agreement.carried(np, np.array([[0.0], [1e-9], [0.0]]), found)).any()


def test_nan_agrees_with_nan_and_with_nothing_else():
    a = np.array([[1.0, np.nan]])
    assert agreement.same(np, a, a.copy()).all()
    assert not agreement.same(np, a, np.array([[1.0, 2.0]])).any()
    assert agreement.distance(np, a, a.copy()) == 0.0
    assert np.isnan(agreement.distance(np, a, np.array([[1.0, 2.0]]))).all()


def test_infinity_is_at_no_distance_from_itself():
    a = np.array([[np.inf, 1.0]])
    with np.errstate(invalid="ignore"):
        assert agreement.distance(np, a, a.copy()) == 0.0


def test_the_running_minimum_is_that_of_numpy():
    d = np.random.default_rng(0).random((37, 3, 2))
    np.testing.assert_array_equal(agreement.running_minimum(np, d), np.minimum.accumulate(d, axis=0))


def test_half_precision_holds_gains_in_single():
    states = np.ones((2, 2, 3), np.float16)
    assert agreement.size(np, states).dtype == np.float32
    assert agreement.distance(np, states, states).dtype == np.float32


def test_rounding_adds_up_from_chunk_to_chunk_where_nothing_is_forgotten():
    ones = np.ones((4, 1))
    found = agreement.Gains(ones, ones, ones, 100 * ones)
    unit = np.full((4, 1), 1e-7)
    np.testing.assert_allclose(agreement.rounding(np, found, unit)[:, 0], 2e-5 * np.arange(1, 5))
    found = agreement.Gains(0.0 * ones, ones, ones, 100 * ones)
    np.testing.assert_allclose(agreement.rounding(np, found, unit)[:, 0], [2e-5, 4e-5, 4e-5, 4e-5])


def test_rounding_without_measured_gains_is_anything():
    unknown = np.full((3, 1), np.inf)
    found = agreement.Gains(unknown, unknown, unknown, unknown)
    assert np.isinf(agreement.rounding(np, found, np.full((3, 1), 1e-7))).all()


def test_an_infinite_number_is_no_size_to_measure_the_others_by():
    assert agreement.size(np, np.array([[np.inf, 3.0, np.nan]])) == 3.0


def test_a_difference_that_becomes_large_says_nothing_of_small_ones():
    found = agreement.gains(np, walks([4.0] * 8, first=1e-4), UNIT, near=1e5)
    assert found.peak > 1e17 and found.expansion > 1e17


def test_gains_that_nobody_measured_share_no_memory():
    found = agreement.unmeasured(np, np.ones((3, 2)))
    assert not any(np.shares_memory(x, y) for i, x in enumerate(found) for y in found[:i])
