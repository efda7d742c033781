"""Every method gives the states of the loop, in every array library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import CHAOTIC, FORGETTING

METHODS = (
    "sequential",
    "shooting_newton",
    "newton",
    "quasi_newton",
    "block_newton",
    "picard",
    "jacobi",
)
UNITS = {"float32": 1.2e-7, "float64": 2.3e-16}
DERIVING = (Rung.TORCH, Rung.JAX_JIT)
OTHERS = [r for r in rungs() if r not in (Rung.NUMPY, Rung.JAX)]
"""JAX has one program for both of its rungs."""
CLOSE = 100
"""Units of rounding that two ways of a system that forgets may be apart."""


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("method", ["auto", "shooting"])
@pytest.mark.parametrize("name", FORGETTING)
def test_the_loop_is_matched_whatever_is_walked(name: str, method: str, dtype: str) -> None:
    problem = posed(FORGETTING[name](batch=2, steps=211), dtype=dtype)
    solution = problem.solve(method=method)
    assert solution.converged.all()
    assert largest(solution.states, problem.loop()).max() <= CLOSE * UNITS[dtype]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FORGETTING)
def test_every_method_gives_the_states_of_the_loop(name: str, method: str) -> None:
    # Picard's iteration is right from the start on, a step or more an iteration, and no faster.
    problem = posed(FORGETTING[name](batch=2, steps=40 if method == "picard" else 83), dtype="float64")
    solution = problem.solve(method=method)
    assert solution.converged.all()
    assert largest(solution.states, problem.loop()).max() <= CLOSE * UNITS["float64"]


@pytest.mark.parametrize("method", ["newton", "quasi_newton", "jacobi"])
def test_iterations_over_all_of_time_end_in_float32_too(method: str) -> None:
    problem = posed(FORGETTING["gru"](batch=2, steps=83))
    solution = problem.solve(method=method)
    assert solution.converged.all()
    assert largest(solution.states, problem.loop()).max() <= CLOSE * UNITS["float32"]


@pytest.mark.parametrize("name", ["elman", "lstm"])
@pytest.mark.parametrize("rung", OTHERS, ids=lambda r: r.value)
def test_every_library_gives_the_states_of_the_float64_loop(rung: Rung, name: str) -> None:
    system = FORGETTING[name](batch=2, steps=41)
    found = under(rung, posed(system, rung, "float64"), "auto")
    assert largest(rung.numpy(found.states), system.walked()).max() <= CLOSE * UNITS["float64"]
    assert rung.numpy(found.converged).all()


def under(rung: Rung, problem: Any, method: str) -> Any:
    """The problem solved the way its rung calls functions."""
    if rung is Rung.JAX_JIT:
        import jax

        return jax.jit(lambda p, x, h: problem.given(params=p, x=x, h0=h).solve(method=method))(
            problem.params, problem.x, problem.h0
        )
    return rung.call(problem.solve, method=method)


@pytest.mark.parametrize("method", ["shooting", "newton", "quasi_newton", "block_newton"])
@pytest.mark.parametrize("rung", [r for r in rungs() if r in DERIVING], ids=lambda r: r.value)
def test_methods_agree_where_derivatives_are_automatic(rung: Rung, method: str) -> None:
    system = FORGETTING["pairs"](batch=2, steps=97)
    found = under(rung, posed(system, rung, "float64"), method)
    assert rung.numpy(found.converged).all()
    assert largest(rung.numpy(found.states), system.walked()).max() <= CLOSE * UNITS["float64"]


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("method", ["shooting", "shooting_newton", "newton", "quasi_newton", "jacobi"])
def test_a_tolerance_is_kept(method: str, tol: float) -> None:
    problem = posed(FORGETTING["gru"](batch=2, steps=200), dtype="float64")
    solution = problem.solve(method=method, tol=tol)
    error = largest(solution.states, problem.loop())
    assert solution.converged.all()
    assert (solution.residual <= tol).all()
    assert (error <= np.maximum(solution.error_estimate, 4 * tol)).all()


@pytest.mark.parametrize("name", CHAOTIC)
def test_the_automatic_answer_to_chaos_is_the_sequential_one_to_the_bit(name: str) -> None:
    problem = posed(CHAOTIC[name]())
    automatic, sequential = problem.solve(), problem.solve(method="sequential")
    assert np.array_equal(automatic.states, sequential.states)
    assert automatic.converged.all()
    assert (automatic.error_estimate == 0).all()


@pytest.mark.parametrize("rung", [r for r in rungs() if r in DERIVING], ids=lambda r: r.value)
def test_chaos_is_sequential_in_every_framework(rung: Rung) -> None:
    problem = posed(CHAOTIC["tanh network"](), rung)
    automatic, sequential = (rung.numpy(under(rung, problem, m).states) for m in ("auto", "sequential"))
    assert np.array_equal(automatic, sequential)


def test_recurrence_is_the_states_alone() -> None:
    problem = posed(FORGETTING["elman"]())
    states = seqpar.recurrence(problem.step, problem.x, problem.h0, problem.params)
    assert np.array_equal(states, problem.solve().states)
