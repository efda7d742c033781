"""Any number of steps, sequences and states, whatever chunks they are cut into and wherever the solver starts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder import Rung, rungs
from seqpar.solving.configs import ShootingConfig
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import elman, turning

CLOSE = 200 * 2.3e-16


@settings(max_examples=40)
@given(
    steps=st.integers(0, 130),
    batch=st.integers(1, 4),
    n=st.integers(1, 9),
    chunk=st.integers(1, 150),
    burn_in=st.none() | st.integers(0, 40),
    bounded=st.booleans(),
    guessed=st.booleans(),
    reset=st.booleans(),
)
def test_shooting_gives_the_loop(
    steps: int, batch: int, n: int, chunk: int, burn_in: int | None, bounded: bool, guessed: bool, reset: bool
) -> None:
    problem = posed(elman(batch, steps, n, seed=steps), dtype="float64")
    rng = np.random.default_rng(n)
    resets = rng.random((batch, steps)) < 0.05 if reset else None
    solution = problem.solve(
        method="shooting",
        config=ShootingConfig(chunk=chunk, burn_in=burn_in),
        bounds=(-1.5, 1.5) if bounded else None,
        guess=rng.uniform(-1, 1, (batch, steps, n)) if guessed else None,
        resets=resets,
    )
    expected = problem.solve(method="sequential", resets=resets).states
    assert solution.states.shape == (batch, steps, n)
    assert solution.converged.all()
    assert largest(solution.states, expected).max() <= CLOSE


@settings(max_examples=25)
@given(
    steps=st.integers(0, 60),
    batch=st.integers(1, 3),
    n=st.integers(1, 6),
    method=st.sampled_from(["auto", "newton", "quasi_newton", "jacobi", "shooting_newton"]),
    bounded=st.booleans(),
    guessed=st.booleans(),
)
def test_other_methods_give_the_loop(
    steps: int, batch: int, n: int, method: str, bounded: bool, guessed: bool
) -> None:
    problem = posed(elman(batch, steps, n, seed=steps), dtype="float64")
    guess = np.random.default_rng(n).uniform(-1, 1, (batch, steps, n)) if guessed else None
    solution = problem.solve(method=method, bounds=(-1.5, 1.5) if bounded else None, guess=guess)
    assert largest(solution.states, problem.loop()).max() <= CLOSE


METHODS = ("auto", "sequential", "shooting", "shooting_newton", "newton", "quasi_newton", "picard", "jacobi")


@pytest.mark.parametrize("method", METHODS)
def test_no_steps_give_no_states_and_end_where_they_start(method: str) -> None:
    problem = posed(elman(batch=2, steps=0))
    solution = problem.solve(method=method)
    assert solution.states.shape == (2, 0, 8)
    assert np.array_equal(solution.final, problem.h0)
    assert not np.shares_memory(solution.final, problem.h0)
    assert solution.converged.all()


@pytest.mark.parametrize("method", METHODS)
def test_one_step_is_one_call_of_the_step(method: str) -> None:
    problem = posed(elman(batch=2, steps=1))
    solution = problem.solve(method=method)
    assert largest(solution.states[:, 0:1], problem.loop()).max() <= 2.4e-7
    assert np.array_equal(solution.final, solution.states[:, 0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [2, 97])
def test_primes_are_numbers_of_steps_too(method: str, steps: int) -> None:
    problem = posed(elman(batch=2, steps=steps), dtype="float64")
    assert largest(problem.solve(method=method).states, problem.loop()).max() <= CLOSE


@pytest.mark.parametrize("rung", [r for r in rungs() if r is not Rung.JAX_JIT], ids=lambda r: r.value)
def test_without_inputs_length_says_how_many_steps(rung: Rung) -> None:
    system = turning(batch=2, steps=83)
    found = rung.call(posed(system, rung, "float64").solve)
    assert largest(rung.numpy(found.states), system.walked()).max() <= CLOSE


def test_no_sequences_are_a_batch_too() -> None:
    solution = posed(elman(batch=0, steps=20)).solve()
    assert solution.states.shape == (0, 20, 8)
    assert solution.final.shape == (0, 8)
