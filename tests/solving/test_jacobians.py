"""Which part of a Jacobian a method takes, where it gets it from, and what it says to wishes that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqpar.errors import OptionError, ShapeError
from seqpar.solving import jacobians
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.jacobians import Pattern
from seqpar.solving.wish import Wish
from solving.builders import gates, gru, gru_weights, lstm_of_channels, normal, recurrence_of


def rows(step: Any, params: Any, n: int, count: int = 9) -> Any:
    """A recurrence of one step, its stepper, states and inputs side by side, and their dense Jacobians."""
    x, h = normal(count, 1, n), normal(count, n, seed=1)
    recurrence = recurrence_of(step, x, h, params)
    stepper = recurrence.stepper()
    return recurrence, stepper, h, [x[:, 0]], stepper.jacobian(h, [x[:, 0]])


def test_the_diagonal_and_the_blocks_of_a_dense_jacobian() -> None:
    recurrence, stepper, h, x, whole = rows(gru, gru_weights(6), 6)
    diagonal = jacobians.linearise(np, stepper, Pattern("diagonal"), h, x)
    np.testing.assert_array_equal(diagonal, np.einsum("rii->ri", whole))
    blocks = jacobians.linearise(np, stepper, Pattern("block", 3), h, x)
    assert blocks.shape == (9, 2, 3, 3)
    for j in range(2):
        np.testing.assert_array_equal(blocks[:, j], whole[:, j::2, j::2])


@pytest.mark.parametrize(("step", "k"), [(gates, 1), (lstm_of_channels, 2)])
def test_a_product_for_each_number_of_a_unit_gives_all_blocks(step: Any, k: int) -> None:
    recurrence, stepper, h, x, whole = rows(step, 0.7, 6)
    pattern = Pattern("diagonal" if k == 1 else "block", k, source="jvps")
    found = jacobians.linearise(np, stepper, pattern, h, x)
    np.testing.assert_allclose(found, jacobians.taken(np, pattern, whole), atol=1e-14)
    v = normal(9, 6, seed=5)
    np.testing.assert_allclose(
        jacobians.product(np, pattern, found, v), np.einsum("rij,rj->ri", whole, v), atol=1e-13
    )


def test_random_signs_estimate_the_diagonal() -> None:
    recurrence, stepper, h, x, whole = rows(gru, gru_weights(4), 4)
    signs = [jacobians.random_signs(recurrence, h.shape, h, seed) for seed in range(4000)]
    found = jacobians.linearise(np, stepper, Pattern("diagonal", source="probes"), h, x, signs)
    np.testing.assert_allclose(found, np.einsum("rii->ri", whole), atol=0.06)
    few = jacobians.linearise(np, stepper, Pattern("diagonal", source="probes"), h, x, signs[:1])
    assert np.max(np.abs(few - np.einsum("rii->ri", whole))) > 0.06


@pytest.mark.parametrize(
    ("step", "params", "n", "expected"),
    [
        (gates, 0.7, 6, "diagonal"),
        (lstm_of_channels, 0.7, 6, "blocks of 2"),
        (gru, gru_weights(6), 6, "dense"),
        (lambda p, h, x: np.tanh(x + h @ np.triu(np.full((4, 4), 0.1))), None, 4, "dense"),
    ],
)
def test_auto_finds_the_narrowest_pattern_in_data(step: Any, params: Any, n: int, expected: str) -> None:
    recurrence, stepper, h, x, _ = rows(step, params, n)
    pattern = jacobians.wished(recurrence, Wish(method="newton"))
    found = jacobians.detected(recurrence, stepper, pattern, "newton", h, x)
    assert str(found) == expected
    assert found.assumed


def test_real_functions_are_recognised_through_the_noise_of_differences() -> None:
    recurrence, stepper, h, x, _ = rows(lambda p, h, x: gates(0.7, np.real(h), x), None, 6)
    pattern = jacobians.wished(recurrence, Wish(method="newton"))
    assert str(jacobians.detected(recurrence, stepper, pattern, "newton", h, x)) == "diagonal"


def test_what_a_pattern_drops_is_measured() -> None:
    recurrence, stepper, h, x, whole = rows(gru, gru_weights(4), 4)
    signs = jacobians.random_signs(recurrence, h.shape, h, 0)
    missed = jacobians.dropped(recurrence, stepper, Pattern("diagonal"), h, x, signs)
    true = np.einsum("rij,rj->ri", whole, signs)
    other = np.abs(true - np.einsum("rii->ri", whole) * signs).max()
    assert missed == pytest.approx(other / max(1, np.abs(true).max()))
    assert jacobians.dropped(recurrence, stepper, Pattern("dense"), h, x, signs) < 1e-14


@pytest.mark.parametrize(
    ("method", "jacobian", "n", "message"),
    [
        ("newton", "none", 4, "needs a Jacobian.*'shooting'"),
        ("quasi_newton", "none", 4, "needs a Jacobian"),
        ("newton", ("block", 3), 4, r"\('block', 3\) with states of 4 numbers.*2, 4 would"),
        ("newton", ("block", 2), 5, "states of 5 numbers"),
        ("newton", ("block", 0), 4, "divides the state"),
        ("newton", "full", 4, "'full' is not 'auto'"),
        ("block_newton", "auto", 5, "no block of 2 to 4 divides"),
        ("picard", "dense", 4, "uses none"),
        ("jacobi", "diagonal", 4, "uses none"),
    ],
)
def test_impossible_wishes_say_what_is_possible(method: str, jacobian: Any, n: int, message: str) -> None:
    recurrence = recurrence_of(gates, normal(1, 3, n), np.zeros((1, n)), 0.5)
    with pytest.raises(OptionError, match=f"solve_recurrence.*{message}"):
        jacobians.wished(recurrence, Wish(method=method, jacobian=jacobian))


def test_probes_are_a_number() -> None:
    recurrence = recurrence_of(gates, normal(1, 3, 4), np.zeros((1, 4)), 0.5)
    with pytest.raises(OptionError, match="probes=0"):
        jacobians.wished(recurrence, Wish(method="quasi_newton", config=NewtonConfig(probes=0)))


@pytest.mark.parametrize("shape", [(4, 4), (2, 5), (2, 4, 3)])
def test_a_function_that_returns_no_jacobians_is_told_what_to_return(shape: tuple[int, ...]) -> None:
    recurrence = recurrence_of(gates, normal(1, 3, 4), np.zeros((1, 4)), 0.5)
    with pytest.raises(ShapeError, match=r"h.shape=\(2, 4\).*\(2, 4, 4\)"):
        jacobians.wished(recurrence, Wish(method="newton", jacobian=lambda p, h, x: np.zeros(shape)))


def test_complex_states_are_refused() -> None:
    recurrence = recurrence_of(gates, normal(1, 3, 4), np.zeros((1, 4), complex), 0.5)
    with pytest.raises(OptionError, match="real states"):
        jacobians.wished(recurrence, Wish(method="newton"))
