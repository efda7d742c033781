"""Damped Newton methods, and what their results say of their own error where the step forgets slowly or not at all."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
import pytest

from ladder import Rung, rungs
from seqpar.errors import OptionError
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.damping import LADDER, Damping, filtered, stronger, weaker
from solving.builders import gru, gru_weights, loop, normal, sigmoid, solved

EAGER = [rung for rung in rungs() if rung.value in ("numpy", "strict", "torch", "jax")]


def filter_by_steps(a: Any, r: Any, cut: Any, variance: float) -> Any:
    """The Kalman filter of quasi-ELK as its definition has it, one step after the other."""
    d, p = np.zeros_like(r[:, 0]), np.zeros_like(r[:, 0])
    out = []
    for t in range(r.shape[1]):
        begins = cut[:, t, None] | (t == 0)
        predicted = np.where(begins, 0, a[:, t] * d) - r[:, t]
        spread = np.where(begins, 0, a[:, t] ** 2 * p + 1)
        gain = spread / (spread + variance)
        d, p = (1 - gain) * predicted, (1 - gain) * spread
        out.append(d)
    return np.stack(out, axis=1)


@pytest.mark.parametrize("rung", EAGER, ids=lambda rung: rung.value)
@pytest.mark.parametrize("variance", [0.1, 1.0, 100.0])
def test_the_filter_as_a_scan_is_the_filter_step_by_step(rung: Rung, variance: float) -> None:
    a, r = 1.5 * normal(3, 70, 4), normal(3, 70, 4, seed=1)
    cut = np.random.default_rng(0).random((3, 70)) < 0.1
    given = [rung.array(v) for v in (a, r, cut)]
    found = filtered(array_api_compat.array_namespace(given[0]), *given, variance)
    np.testing.assert_allclose(rung.numpy(found), filter_by_steps(a, r, cut, variance), atol=1e-12)


def test_a_filter_without_trust_in_the_iterate_is_the_recurrence() -> None:
    a, r, cut = normal(1, 40, 2), normal(1, 40, 2, seed=1), np.zeros((1, 40), bool)
    d, expected = np.zeros((1, 2)), []
    for t in range(40):
        d = a[:, t] * d - r[:, t]
        expected.append(d)
    np.testing.assert_allclose(filtered(np, a, r, cut, 1e14), np.stack(expected, 1), rtol=1e-8, atol=1e-8)


def test_rungs_of_damping_go_up_and_down() -> None:
    k = np.array([0.0, 0.05, 0.1, 0.6, 0.95])
    np.testing.assert_array_equal(stronger(np, k), [0.1, 0.1, 0.3, 0.6, 0.95])
    np.testing.assert_array_equal(weaker(np, k), [0.0, 0.0, 0.0, 0.3, 0.6])


def watched(residuals: list[float], places: list[int] | None = None) -> list[float]:
    """k after each of these residuals of 1000 steps."""
    zero = np.zeros(1)
    damping = Damping(zero, zero + np.inf, zero, zero, True)
    out = []
    for i, residual in enumerate(residuals):
        place = np.array([0.0 if places is None else places[i]])
        damping = damping.watched(np, np.array([residual]), place, 1000)
        out.append(float(damping.k[0]))
    return out


def test_damping_comes_when_the_residual_stays_and_goes_when_it_falls_slowly() -> None:
    assert watched([1.0, 0.4, 0.1, 0.01, 1e-4, 1e-8]) == [0] * 6
    stays = watched([1.0] * 6)
    assert stays[:4] == [0] * 4 and stays[4] == LADDER[1]
    slowly = watched([1.0] * 5 + [0.99, 0.98, 0.97, 0.96, 0.95])
    assert slowly[4] == LADDER[1] and slowly[-1] == 0


def test_exact_steps_are_progress_too() -> None:
    assert watched([1.0] * 12, [80 * i for i in range(12)]) == [0] * 12


def test_damping_vanishes_with_the_residual() -> None:
    one = np.ones(3)
    damping = Damping(0.3 * one, one, one, one, True)
    np.testing.assert_allclose(damping.now(np, np.array([5.0, 1e-2, 1e-6])), [0.3, 0.3, 3e-5])


@pytest.mark.parametrize(
    ("method", "config"),
    [
        *(("newton", {"damping": k}) for k in (0.1, 0.3)),
        *(("block_newton", {"damping": k}) for k in (0.1, 0.3)),
        *(("quasi_newton", config) for config in ({"damping": 0.1}, {"scale": 1.0}, {"scale": 100.0})),
    ],
)
def test_damped_methods_end_in_the_same_states(method: str, config: dict[str, float]) -> None:
    params, x, h0 = gru_weights(4, 2.0), normal(2, 200, 4), np.zeros((2, 4))
    solution = solved(gru, x, h0, params, method=method, config=NewtonConfig(**config))
    assert np.all(solution.converged)
    np.testing.assert_allclose(solution.states, loop(gru, x, h0, params), atol=1e-12)


def test_damping_by_itself_spares_most_sweeps_where_the_step_hardly_forgets() -> None:
    params, x, h0 = gru_weights(8, 3.0), normal(1, 400, 8), np.zeros((1, 8))
    free = solved(gru, x, h0, params, method="newton")
    never = solved(gru, x, h0, params, method="newton", config=NewtonConfig(damping=0.0))
    assert free.converged[0] and never.converged[0]
    assert 2 * free.sweeps[0] < never.sweeps[0]
    assert free.history[-1]["damping"] > 0 == never.history[-1]["damping"]


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        ("newton", {"scale": 1.0}, "scale=1.0 with method='newton'.*quasi_newton"),
        ("quasi_newton", {"scale": 0.0}, "positive"),
        ("newton", {"damping": 1.5}, "damping=1.5.*from 0 to 1"),
        ("quasi_newton", {"scale": float("nan")}, "positive"),
        ("newton", {"damping": "much"}, "damping='much'.*from 0 to 1"),
        ("newton", {"window": 0}, "window=0.*whole number of 1 or more"),
        ("jacobi", {"window": 2.5}, "window=2.5.*whole number of 1 or more"),
        ("newton", {"window": True}, "window=True.*whole number of 1 or more"),
        ("quasi_newton", {"probes": 0}, "probes=0.*whole number of 1 or more"),
        ("newton", {"probes": 0}, "probes=0.*whole number of 1 or more"),
        ("newton", {"probes": 3}, "probes=3 with method='newton'.*quasi_newton"),
    ],
)
def test_knobs_that_cannot_be_are_refused(method: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"solve_recurrence.*{message}"):
        solved(
            gru,
            normal(1, 5, 4),
            np.zeros((1, 4)),
            gru_weights(4),
            method=method,
            config=NewtonConfig(**config),
        )


def test_each_sequence_has_its_own_damping() -> None:
    params, x = gru_weights(8, 3.0), normal(2, 300, 8)
    h0 = np.zeros((2, 8))
    guess = loop(gru, x, h0, params)
    guess[0] += 1e-3 * normal(300, 8)
    guess[1] = 0
    both = solved(gru, x, h0, params, method="newton", guess=guess)
    alone = solved(gru, x[:1], h0[:1], params, method="newton", guess=guess[:1])
    assert both.sweeps[0] == alone.sweeps[0] < both.sweeps[1]
    assert max(line["damping"] for line in both.history) > 0


def test_overflowing_updates_are_tried_again_with_more_damping() -> None:
    # Far from its states the step expands so much that products of Jacobians overflow.
    step = lambda p, h, x: np.tanh(h) + 0.2 * h**3 * np.exp(-(h**2)) + x
    x, h0 = 0.1 * normal(1, 2500, 2, dtype="float32"), np.zeros((1, 2), "f4")
    guess = np.full(x.shape, 0.4, "f4")
    jacobian = lambda p, h, x: np.where(np.abs(h - 0.4) < 1e-6, np.float32(2.0), 1 - np.tanh(h) ** 2)
    with np.errstate(all="ignore"):
        solution = solved(step, x, h0, method="newton", jacobian=jacobian, guess=guess)
    assert solution.converged[0]
    assert solution.history[1]["damping"] > 0
    np.testing.assert_allclose(solution.states, loop(step, x, h0), atol=1e-3)


CELLS = [(1, 8), (2, 8), (3, 8), (5, 2)]


def true_error(states: Any, expected: Any) -> Any:
    """Relative to max(1, |h|), as residuals and estimates are."""
    return np.max(np.abs(states - expected) / np.maximum(1, np.abs(expected)), axis=(1, 2))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"x{c[0]}-n{c[1]}")
@pytest.mark.parametrize(
    ("method", "wish"),
    [
        ("newton", {}),
        ("newton", {"config": NewtonConfig(damping=0.1)}),
        ("newton", {"bounds": (-1, 1)}),
        ("quasi_newton", {}),
        ("quasi_newton", {"config": NewtonConfig(scale=100.0)}),
        ("jacobi", {}),
    ],
    ids=["newton", "damped", "bounded", "quasi", "filtered", "jacobi"],
)
def test_no_error_is_above_its_estimate_on_the_evidence_table(
    method: str, wish: dict[str, Any], cell: tuple[int, int], dtype: str
) -> None:
    scale, n = cell
    params, x, h0 = gru_weights(n, scale, dtype), normal(1, 300, n, dtype=dtype), np.zeros((1, n), dtype)
    solution = solved(gru, x, h0, params, method=method, **wish)
    exact = loop(gru, x.astype("f8"), h0.astype("f8"), [p.astype("f8") for p in params])
    error = true_error(solution.states, exact)
    assert error[0] <= solution.error_estimate[0]
    if solution.converged[0]:
        assert solution.residual[0] <= 20 * np.finfo(dtype).eps
        assert solution.error_estimate[0] < 1e5 * np.finfo(dtype).eps  # and it says something


def drip(params: Any, h: Any, x: Any) -> Any:
    """One number adds up 5e-8 a step, the others forget."""
    return np.concat([h[..., :1] + 5e-8 * (1 + x[..., :1]), np.tanh(0.3 * h + 0.5 * x)[..., 1:]], axis=-1)


def leak(params: Any, h: Any, x: Any) -> Any:
    """One number keeps 0.99999 of itself."""
    kept = 0.99999 * h[..., :1] + 1e-5 * np.tanh(x[..., :1] + 1)
    return np.concat([kept, np.tanh(0.3 * h + 0.5 * x)[..., 1:]], axis=-1)


def forgetful_gates(bias: float) -> Any:
    """An LSTM with state [h | c] whose forget gates have this bias."""
    w, u = normal(8, 32, seed=1) / np.sqrt(8), normal(8, 32, seed=2) / np.sqrt(8)

    def step(params: Any, s: Any, x: Any) -> Any:
        h, c = s[..., :8], s[..., 8:]
        a = x @ w.astype(x.dtype) + h @ u.astype(x.dtype)
        c = sigmoid(a[..., 8:16] + bias) * c + sigmoid(a[..., :8]) * np.tanh(a[..., 16:24])
        return np.concat([sigmoid(a[..., 24:]) * np.tanh(c), c], axis=-1)

    return step


events = np.zeros((1, 400, 4))
events[0, 20], events[0, 200] = 3, -3

LIARS = {
    "drip": (drip, normal(1, 400, 4), np.zeros((1, 4))),
    "leak": (leak, normal(1, 400, 4), np.zeros((1, 4))),
    "sum": (lambda p, h, x: h + x, normal(1, 400, 4), np.zeros((1, 4))),
    "unstable zero": (
        lambda p, h, x: np.tanh(1.02 * h + 0 * x),
        np.zeros((1, 400, 4)),
        np.full((1, 4), 1e-7),
    ),
    "latch": (lambda p, h, x: np.tanh(2 * h + x), events, np.full((1, 4), 0.9)),
    "forget bias 1": (forgetful_gates(1), normal(1, 400, 8), np.zeros((1, 16))),
    "forget bias 4": (forgetful_gates(4), normal(1, 400, 8), np.zeros((1, 16))),
    "forget bias 12, tiny inputs": (forgetful_gates(12), 1e-6 * normal(1, 400, 8), np.zeros((1, 16))),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["newton", "quasi_newton", "jacobi"])
@pytest.mark.parametrize("name", LIARS)
def test_systems_that_hide_what_they_remember_get_no_false_estimate(
    name: str, method: str, dtype: str
) -> None:
    step, x, h0 = LIARS[name]
    x, h0 = x.astype(dtype), h0.astype(dtype)
    solution = solved(step, x, h0, method=method, max_sweeps=60)
    error = true_error(solution.states, loop(step, x, h0))
    assert error[0] <= solution.error_estimate[0]
    assert bool(solution.converged[0]) == bool(solution.residual[0] <= 20 * np.finfo(dtype).eps)


def test_the_size_of_an_update_is_never_believed() -> None:
    # Damped this much, updates are tiny long before the states are right.
    params, x, h0 = gru_weights(8, 2.0), normal(1, 400, 8), np.zeros((1, 8))
    for config in (NewtonConfig(scale=1e-3), NewtonConfig(damping=0.99)):
        solution = solved(gru, x, h0, params, method="quasi_newton", config=config, max_sweeps=12)
        error = true_error(solution.states, loop(gru, x, h0, params))
        assert error[0] > 1e-6 and not solution.converged[0]
        assert solution.error_estimate[0] >= error[0]
