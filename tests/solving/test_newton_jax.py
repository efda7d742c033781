"""What Newton's methods say of their errors in a JAX program is what they say elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from solving.builders import loop

jax = pytest.importorskip("jax")
jnp = jax.numpy

METHODS = ("newton", "quasi_newton", "picard", "jacobi")


def largest(states: Any, expected: Any) -> float:
    return float(np.max(np.abs(np.asarray(states) - expected) / np.maximum(1, np.abs(expected))))


@pytest.mark.parametrize("method", METHODS)
def test_residuals_that_grow_are_in_the_estimate(method: str) -> None:
    step = lambda p, h, x: h * h + x
    x, h0 = np.full((34, 1), 0.26, "f4"), np.zeros(1, "f4")
    solution = jax.jit(lambda x: seqpar.solve_recurrence(step, x, jnp.asarray(h0), method=method))(x)
    error = largest(solution.states, loop(step, x[None], h0[None])[0])
    assert bool(solution.converged) and error <= float(solution.error_estimate) < 0.05
    assert float(solution.residual) <= float(solution.error_estimate)


@pytest.mark.parametrize("method", METHODS)
def test_a_guess_of_the_wrong_branch_is_not_believed(method: str) -> None:
    step = lambda p, h, x: jnp.tanh(2 * h)
    h0 = np.full(1, 3e-8, "f4")
    right = loop(lambda p, h, x: np.tanh(2 * h), None, h0[None], steps=100)[0]

    def of(guess: Any) -> Any:
        return seqpar.solve_recurrence(step, None, jnp.asarray(h0), length=100, method=method, guess=guess)

    solution = jax.jit(of)(jnp.asarray(-right))
    error = largest(solution.states, right)
    assert error <= float(solution.error_estimate)
    assert error < 1e-3 or not bool(solution.converged)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_infinity_is_where_the_definition_has_it(method: str) -> None:
    double = lambda p, h, x: 2 * h + 1
    h0 = np.ones((2, 1), "f4")
    of = jax.jit(lambda h: seqpar.solve_recurrence(double, None, h, length=140, method=method))
    with np.errstate(all="ignore"):
        expected = loop(double, None, h0, steps=140)
    np.testing.assert_array_equal(np.isinf(of(jnp.asarray(h0)).states), np.isinf(expected))
