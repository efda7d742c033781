"""The Newton methods against the time loop: sizes, resets, guesses, bounds, windows, NaN, and every wish for a Jacobian."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqpar.solving.configs import NewtonConfig
from seqpar.solving.stepping import PlainStepper
from solving.builders import (
    elman,
    gates,
    gru,
    gru_weights,
    loop,
    lstm_of_channels,
    normal,
    solved,
)

METHODS = ("newton", "quasi_newton", "block_newton", "picard", "jacobi")
WITH_JACOBIANS = METHODS[:3]
OF_ONE_NUMBER = ("newton", "quasi_newton", "picard", "jacobi")
EXACT = 20 * 2.0**-52


def assert_solved(solution: Any, expected: Any, most: float = 1e-13) -> None:
    """The states are those of the loop, and the result says so."""
    assert np.all(solution.converged)
    np.testing.assert_allclose(solution.states, expected, rtol=0, atol=most)
    assert np.all(solution.residual <= EXACT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch", "steps", "n"), [(1, 1, 2), (1, 2, 4), (3, 37, 4), (2, 150, 6)])
def test_the_states_are_those_of_the_loop(method: str, batch: int, steps: int, n: int) -> None:
    params, x, h0 = gru_weights(n), normal(batch, steps, n), 0.3 * normal(batch, n)
    assert_solved(solved(gru, x, h0, params, method=method), loop(gru, x, h0, params))


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_solved_to_its_own_tolerance(method: str) -> None:
    params, x, h0 = gru_weights(4, dtype="float32"), normal(2, 90, 4, dtype="float32"), np.zeros((2, 4), "f4")
    solution = solved(gru, x, h0, params, method=method)
    assert solution.states.dtype == solution.residual.dtype == np.float32
    assert np.all(solution.residual <= 20 * 2.0**-23)
    np.testing.assert_allclose(solution.states, loop(gru, x, h0, params), atol=2e-5)


@given(
    steps=st.integers(1, 40),
    batch=st.integers(1, 4),
    n=st.sampled_from([1, 2, 3, 4]),
    window=st.none() | st.integers(1, 50),
    method=st.sampled_from(["newton", "quasi_newton", "jacobi"]),
    seed=st.integers(0, 100),
)
def test_any_size_window_and_resets(
    steps: int, batch: int, n: int, window: int | None, method: str, seed: int
) -> None:
    params, x, h0 = gru_weights(n, seed=seed), normal(batch, steps, n, seed=seed), normal(batch, n, seed=seed)
    resets = np.random.default_rng(seed).random((batch, steps)) < 0.1
    config = NewtonConfig(window=window)
    solution = solved(gru, x, h0, params, resets=resets, method=method, config=config)
    assert_solved(solution, loop(gru, x, h0, params, resets=resets))
    assert np.all(solution.sweeps >= 1)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_solve(method: str) -> None:
    for batch, steps in ((0, 5), (2, 0)):
        solution = solved(gru, normal(batch, steps, 4), np.zeros((batch, 4)), gru_weights(4), method=method)
        assert solution.states.shape == (batch, steps, 4)
        assert solution.converged.shape == (batch,) and np.all(solution.converged)


def test_no_inputs_and_trees_of_inputs() -> None:
    h0 = normal(2, 3)
    free = lambda p, h, x: np.tanh(0.9 * h + 0.3)
    assert_solved(solved(free, None, h0, steps=40, method="newton"), loop(free, None, h0, steps=40))
    x = {"in": normal(2, 40, 3), "rate": (np.abs(normal(2, 40, 1)), normal(2, 40))}
    step = lambda p, h, x: np.tanh(x["in"] + p["a"] * h - x["rate"][0] * h + x["rate"][1][..., None])
    params = {"a": np.array(0.5), "unused": "text"}
    assert_solved(solved(step, x, h0, params, method="newton"), loop(step, x, h0, params))


def dense(params: Any, h: Any, x: Any) -> Any:
    """The Jacobian of `elman`."""
    w, u = params
    return (1 - np.tanh(h @ u + x @ w) ** 2)[..., None] * u.T


@pytest.mark.parametrize("method", WITH_JACOBIANS)
@pytest.mark.parametrize(
    "jacobian",
    [
        "auto",
        "dense",
        "diagonal",
        ("block", 2),
        ("block", 4),
        dense,
        lambda *a: np.einsum("...ii->...i", dense(*a)),
    ],
)
def test_every_wish_for_a_jacobian_ends_in_the_same_states(method: str, jacobian: Any) -> None:
    params = (normal(3, 4, seed=1), 0.3 * normal(4, 4, seed=2))
    x, h0 = normal(2, 60, 3), normal(2, 4)
    expected = loop(elman, x, h0, params)
    assert_solved(solved(elman, x, h0, params, method=method, jacobian=jacobian), expected)


@pytest.mark.parametrize(("step", "expected"), [(gates, "diagonal"), (lstm_of_channels, "blocks of 2")])
def test_newton_with_the_pattern_that_it_finds_converges_like_the_dense_one(step: Any, expected: str) -> None:
    x, h0 = normal(2, 200, 6), np.zeros((2, 6))
    solution = solved(step, x, h0, 0.7, method="newton")
    assert {line["jacobian"] for line in solution.history} == {expected}
    assert_solved(solution, loop(step, x, h0, 0.7))
    whole = solved(step, x, h0, 0.7, method="newton", jacobian="dense")
    np.testing.assert_array_equal(solution.sweeps, whole.sweeps)


def test_a_pattern_that_data_contradicts_is_widened_and_history_says_so() -> None:
    # Numbers meet only where the input is large, which the few rows of the first look do not show.
    def step(params: Any, h: Any, x: Any) -> Any:
        return np.where(x > 2.5, np.tanh(h @ params + x), np.tanh(0.5 * h + x))

    x, h0, params = normal(1, 400, 4), np.zeros((1, 4)), 0.5 * normal(4, 4, seed=1)
    solution = solved(step, x, h0, params, method="newton")
    assert solution.history[0]["jacobian"] == "diagonal"
    assert solution.history[-1]["jacobian"] == "dense"
    assert any(line.get("dropped", 0) > 1e-3 for line in solution.history)
    assert_solved(solution, loop(step, x, h0, params))


def test_a_declared_diagonal_that_is_wrong_is_noticed() -> None:
    params, x, h0 = gru_weights(4), normal(1, 100, 4), np.zeros((1, 4))
    solution = solved(gru, x, h0, params, method="newton", jacobian="diagonal")
    assert solution.history[0]["dropped"] > 0.01
    assert_solved(solution, loop(gru, x, h0, params))


def test_hutchinson_needs_more_sweeps_than_the_exact_diagonal() -> None:
    params, x, h0 = gru_weights(8), normal(1, 200, 8), np.zeros((1, 8))
    guessed = solved(gru, x, h0, params, method="quasi_newton", config=NewtonConfig(probes=2))
    exact = solved(gru, x, h0, params, method="quasi_newton")
    assert_solved(guessed, loop(gru, x, h0, params))
    assert guessed.sweeps[0] > exact.sweeps[0]


def test_more_of_the_jacobian_takes_fewer_sweeps() -> None:
    params, x, h0 = gru_weights(6), normal(1, 300, 6), np.zeros((1, 6))
    counts = [
        int(solved(gru, x, h0, params, method=m).sweeps[0]) for m in ("newton", "quasi_newton", "jacobi")
    ]
    assert counts == sorted(counts) and len(set(counts)) == 3


def test_sweeps_do_not_grow_with_time_where_the_step_forgets() -> None:
    params, h0 = gru_weights(4), np.zeros((1, 4))
    counts = [int(solved(gru, normal(1, t, 4), h0, params, method="newton").sweeps[0]) for t in (200, 2000)]
    assert counts[1] <= counts[0] + 1


def test_a_guess_that_is_right_takes_one_evaluation_and_no_update() -> None:
    params, x, h0 = gru_weights(4), normal(2, 50, 4), normal(2, 4)
    first = solved(gru, x, h0, params, method="newton")
    again = solved(gru, x, h0, params, method="newton", guess=first.states)
    np.testing.assert_array_equal(again.states, first.states)
    np.testing.assert_array_equal(again.sweeps, [1, 1])
    assert np.all(again.residual <= again.error_estimate) and np.all(again.error_estimate < 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", OF_ONE_NUMBER)
def test_a_guess_of_the_wrong_branch_is_not_believed(method: str, dtype: str) -> None:
    # From nearly 0 both branches are within rounding of every step.
    step = lambda p, h, x: np.tanh(2 * h)
    h0 = np.full((1, 1), np.finfo(dtype).eps / 4, dtype)
    right = loop(step, None, h0, steps=100)
    solution = solved(step, None, h0, steps=100, method=method, guess=-right)
    assert np.max(np.abs(solution.states - right)) < 1e-3 or not solution.converged[0]
    assert np.max(np.abs(solution.states - right)) <= solution.error_estimate[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", OF_ONE_NUMBER)
@pytest.mark.parametrize("steps", [20, 34])
def test_residuals_that_grow_are_in_the_estimate(method: str, steps: int, dtype: str) -> None:
    # Slowly through the place where h = h * h + 0.26 nearly holds, and away from it ever faster.
    step = lambda p, h, x: h * h + x
    x, h0 = np.full((1, steps, 1), 0.26, dtype), np.zeros((1, 1), dtype)
    solution = solved(step, x, h0, method=method)
    expected = loop(step, x.astype("f8"), h0.astype("f8"))
    error = np.max(np.abs(solution.states - expected) / np.maximum(1, np.abs(expected)))
    slip = np.max(np.abs(loop(step, x, h0) - expected) / np.maximum(1, np.abs(expected)))
    assert solution.converged[0] and error <= solution.error_estimate[0] + slip
    assert solution.residual[0] <= solution.error_estimate[0] < 5e5 * np.finfo(dtype).eps


def turning(params: Any, h: Any, x: Any) -> Any:
    """Away from 0 to a circle, around and around."""
    c, s = h.dtype.type(np.cos(0.3)), h.dtype.type(np.sin(0.3))
    a, b = h[..., :1], h[..., 1:]
    return h.dtype.type(1.5) / (1 + a * a + b * b) * np.concat([c * a - s * b, s * a + c * b], axis=-1)


@pytest.mark.parametrize("start", [1e-8, 1e-6])
@pytest.mark.parametrize("method", OF_ONE_NUMBER)
def test_what_is_lost_below_the_tolerance_and_grows_later_is_told(method: str, start: float) -> None:
    h0 = np.full((1, 2), start, "f4")
    solution = solved(turning, None, h0, steps=120, method=method, config=NewtonConfig(damping=0.0))
    error = np.max(np.abs(solution.states - loop(turning, None, h0, steps=120)))
    assert error <= solution.error_estimate[0]
    assert error < 1e-3 or not solution.converged[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_chunk_that_begins_with_a_reset_is_no_disagreement(method: str) -> None:
    params, x, h0 = gru_weights(4), normal(1, 100, 4), normal(1, 4)
    resets = np.zeros((1, 100), bool)
    resets[:, ::10] = True
    solution = solved(gru, x, h0, params, resets=resets, method=method)
    assert solution.converged[0] and solution.error_estimate[0] < 1e-12


def test_a_guess_of_ours_that_happens_to_agree_is_not_believed() -> None:
    step = lambda p, h, x: 1.05 * h
    h0 = np.full((1, 2), 1e-17)
    solution = solved(step, None, h0, steps=200, method="newton")
    assert solution.sweeps[0] == 2
    assert solution.error_estimate[0] > np.abs(solution.states - loop(step, None, h0, steps=200)).max()


@pytest.mark.parametrize("guess", ["zeros", "wild", "nan"])
def test_the_states_do_not_depend_on_the_guess(guess: str) -> None:
    params, x, h0 = gru_weights(4), normal(2, 60, 4), normal(2, 4)
    start = {
        "zeros": np.zeros(x.shape),
        "wild": 50 * normal(*x.shape, seed=9),
        "nan": np.full(x.shape, np.nan),
    }
    solution = solved(gru, x, h0, params, method="newton", guess=start[guess])
    assert_solved(solution, loop(gru, x, h0, params))


def test_a_sequence_that_is_hard_does_not_make_the_others_iterate() -> None:
    params = gru_weights(8)
    x, h0 = normal(3, 200, 8), np.zeros((3, 8))
    guess = loop(gru, x, h0, params)
    guess[1] = 0
    solution = solved(gru, x, h0, params, method="newton", guess=guess)
    assert solution.sweeps[0] == solution.sweeps[2] == 1 < solution.sweeps[1]
    assert [line["active"] for line in solution.history][:2] == [3, 1]
    assert_solved(solution, guess * 0 + loop(gru, x, h0, params))


def test_what_is_exact_is_not_computed_again() -> None:
    rows: list[int] = []

    def step(params: Any, h: Any, x: Any) -> Any:
        rows.append(h.shape[0])
        return gru(params, h, x)

    params, x, h0 = gru_weights(4, 3.0), normal(1, 300, 4), np.zeros((1, 4))
    solution = solved(step, x, h0, params, method="jacobi")
    assert_solved(solution, loop(gru, x, h0, params), 1e-12)
    assert rows[0] == 300 and rows[-1] < 200
    left = [line["left"] for line in solution.history]
    assert left == sorted(left, reverse=True) and left[-1] == 0


def test_a_window_iterates_no_more_steps_than_it_is_long() -> None:
    rows: list[int] = []

    def step(params: Any, h: Any, x: Any) -> Any:
        rows.append(h.shape[0])
        return gru(params, h, x)

    params, x, h0 = gru_weights(4), normal(1, 300, 4), np.zeros((1, 4))
    solution = solved(step, x, h0, params, method="jacobi", config=NewtonConfig(window=32))
    assert_solved(solution, loop(gru, x, h0, params))
    assert max(rows) == 32


@pytest.mark.parametrize("method", METHODS)
def test_never_more_sweeps_than_steps(method: str) -> None:
    # Chaos: only what is exact from the start on counts.
    params, x, h0 = gru_weights(8, 10.0), normal(2, 25, 8), np.zeros((2, 8))
    solution = solved(gru, x, h0, params, method=method)
    assert np.all(solution.converged) and np.all(solution.sweeps <= 26)
    np.testing.assert_allclose(solution.states, loop(gru, x, h0, params), atol=1e-9)


def test_time_out_is_told() -> None:
    params, x, h0 = gru_weights(8, 5.0), normal(2, 300, 8), np.zeros((2, 8))
    solution = solved(gru, x, h0, params, method="newton", max_sweeps=7)
    assert not np.any(solution.converged)
    assert np.all(solution.sweeps == 7) and np.all(solution.residual > 1e-3)
    assert solution.states.shape == x.shape
    windowed = solved(gru, x, h0, params, method="newton", max_sweeps=7, config=NewtonConfig(window=50))
    assert windowed.states.shape == x.shape and np.all(np.isinf(windowed.residual))


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_one_sequence_leaves_the_others_exact(method: str) -> None:
    params, x, h0 = gru_weights(4), normal(3, 80, 4), np.zeros((3, 4))
    clean = loop(gru, x, h0, params)
    x[1, 30] = np.nan
    solution = solved(gru, x, h0, params, method=method)
    assert_solved(solution, loop(gru, x, h0, params))
    np.testing.assert_allclose(solution.states[[0, 2]], clean[[0, 2]], atol=1e-13)
    assert np.all(np.isnan(solution.states[1, 30:])) and np.all(np.isfinite(solution.states[1, :30]))


def test_nan_goes_no_further_than_the_next_reset() -> None:
    params, x, h0 = gru_weights(4), normal(2, 80, 4), normal(2, 4)
    x[1, 30] = np.nan
    resets = np.zeros((2, 80), bool)
    resets[:, [20, 50]] = True
    solution = solved(gru, x, h0, params, resets=resets, method="newton")
    assert_solved(solution, loop(gru, x, h0, params, resets=resets))
    assert np.all(np.isfinite(solution.states[1, 50:]))


def test_a_step_that_overflows_overflows() -> None:
    step = lambda p, h, x: h * h + 1
    h0 = np.array([[0.5, 0.1]])
    solution = solved(step, None, h0, steps=40, method="newton")
    with np.errstate(all="ignore"):
        expected = loop(step, None, h0, steps=40)
    assert np.isinf(expected[0, -1]).all() and solution.converged[0]
    np.testing.assert_allclose(solution.states, expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [126, 127, 128, 129, 140])
@pytest.mark.parametrize("method", OF_ONE_NUMBER)
def test_the_first_infinity_is_where_the_definition_has_it(method: str, steps: int) -> None:
    h0 = np.array([[0.0], [1.0], [-1.0]], "f4")
    double = lambda p, h, x: 2 * h + 1
    solution = solved(double, None, h0, steps=steps, method=method)
    with np.errstate(all="ignore"):
        expected = loop(double, None, h0, steps=steps)
    np.testing.assert_array_equal(np.isinf(solution.states), np.isinf(expected))


@pytest.mark.parametrize("steps", [203, 204, 220])
@pytest.mark.parametrize("method", OF_ONE_NUMBER)
def test_an_infinity_after_an_overflow_is_where_the_definition_has_it(method: str, steps: int) -> None:
    step = lambda p, h, x: np.exp(h) - 1
    h0 = np.full((1, 1), 0.01, "f4")
    with np.errstate(all="ignore"):
        solution = solved(step, None, h0, steps=steps, method=method)
        expected = loop(step, None, h0, steps=steps)
    assert np.isinf(expected[0, -1]) == (steps > 203)
    assert solution.converged[0] or steps < 220
    if solution.converged[0]:
        np.testing.assert_array_equal(np.isinf(solution.states), np.isinf(expected))


def test_a_step_that_is_undefined_at_wild_states_is_solved_at_the_right_ones() -> None:
    # The root of a negative number is NaN: iterates must not get caught there, the trajectory never does.
    step = lambda p, h, x: np.sqrt(h + x) - 0.4
    x, h0 = 0.3 + np.abs(normal(1, 60, 2)), np.ones((1, 2))
    for guess in (None, np.full((1, 60, 2), -5.0)):
        assert_solved(solved(step, x, h0, method="newton", guess=guess), loop(step, x, h0))


def test_bounds_hold_iterates_and_leave_the_answer() -> None:
    params, x, h0 = gru_weights(8, 3.0), normal(1, 300, 8), np.zeros((1, 8))
    seen: list[float] = []

    def step(params: Any, h: Any, x: Any) -> Any:
        seen.append(float(np.max(np.abs(np.real(h)))))
        return gru(params, h, x)

    expected = loop(gru, x, h0, params)
    solution = solved(step, x, h0, params, method="newton", bounds=(-1, np.ones(8)))
    assert max(seen) < 1.02  # differences step over by a little
    assert_solved(solution, expected, 1e-11)
    seen.clear()
    solved(step, x, h0, params, method="newton")
    assert max(seen) > 1.5


@pytest.mark.parametrize("method", METHODS)
def test_the_strict_namespace(method: str) -> None:
    xp = array_api_strict
    step = lambda p, h, x: xp.tanh(p * h + x)
    x, h0 = normal(2, 30, 2), normal(2, 2)
    x[0, 10] = np.nan
    resets = np.zeros((2, 30), bool)
    resets[:, 20] = True
    made = [xp.asarray(v) for v in (x, h0)]
    solution = solved(step, *made, 0.7, resets=xp.asarray(resets), method=method, bounds=(-1, 1))
    expected = loop(lambda p, h, x: np.tanh(p * h + x), x, h0, 0.7, resets=resets)
    np.testing.assert_allclose(np.asarray(solution.states), expected, atol=1e-13)
    assert bool(xp.all(solution.converged))


def test_a_step_that_is_compiled_for_its_rows_is_always_given_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []

    def step(params: Any, h: Any, x: Any) -> Any:
        rows.append(h.shape[0])
        return gru(params, h, x)

    params, x, h0 = gru_weights(4), normal(3, 80, 4), np.zeros((3, 4))
    x[1, 40] = np.nan
    guess = np.where(np.arange(3)[:, None, None] == 0, loop(gru, x, h0, params), 0.0)
    free = solved(gru, x, h0, params, method="jacobi", guess=guess)
    monkeypatch.setattr(PlainStepper, "compiled", True)
    solution = solved(step, x, h0, params, method="jacobi", guess=guess)
    assert_solved(solution, loop(gru, x, h0, params))
    np.testing.assert_array_equal(solution.sweeps, free.sweeps)
    assert solution.sweeps[0] == 1 < solution.sweeps[2]
    assert set(rows) == {3 * 80, 3 * 9, 1}  # and the walks of chunks, and of the sequence with NaN
    short = solved(gru, x, h0, params, method="jacobi", guess=guess, max_sweeps=4)
    np.testing.assert_array_equal(short.converged, [True, False, False])
