"""Systems that remember. What claims to have converged is as near to the sequential answer as it says.

Shooting accepts boundaries that agree to a tolerance, and on each of these systems some such solver has been wrong by much more.
"""

from __future__ import annotations

import numpy as np
import pytest

from seqpar.solving.configs import ShootingConfig
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import CHAOTIC, LIARS, hidden_expansion

EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
STATED = 32
"""Units of rounding: shooting agrees to 8, and accepts what their consequences are measured to stay below 4 times that."""
SYSTEMS = {**LIARS, **CHAOTIC}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_automatic_answer_is_the_sequential_one(name: str) -> None:
    problem = posed(SYSTEMS[name]())
    automatic, sequential = problem.solve(), problem.solve(method="sequential")
    assert automatic.converged.all()
    allowed = np.maximum(automatic.error_estimate, STATED * EPS["float32"])
    assert (largest(automatic.states, sequential.states) <= allowed).all()


@pytest.mark.parametrize("chunk", [None, 64, 100])
@pytest.mark.parametrize("name", SYSTEMS)
def test_shooting_is_as_near_as_it_says(name: str, chunk: int | None) -> None:
    problem = posed(SYSTEMS[name]())
    solution = problem.solve(method="shooting", config=ShootingConfig(chunk=chunk), throw=False)
    error = largest(solution.states, problem.solve(method="sequential").states)
    allowed = np.maximum(solution.error_estimate, STATED * EPS["float32"])
    assert (error[solution.converged] <= allowed[solution.converged]).all()
    # An infinite estimate allows everything, but says nothing either: it goes with exact states, or with none that converged.
    unknown = solution.converged & ~np.isfinite(solution.error_estimate)
    assert (error[unknown] <= STATED * EPS["float32"]).all()


@pytest.mark.parametrize("method", ["shooting", "shooting_newton"])
@pytest.mark.parametrize("tol", [1e-4])
@pytest.mark.parametrize("name", LIARS)
def test_a_loose_tolerance_does_not_make_a_liar(name: str, tol: float, method: str) -> None:
    problem = posed(LIARS[name](steps=500))
    solution = problem.solve(method=method, tol=tol, throw=False)
    error = largest(solution.states, problem.solve(method="sequential").states)
    estimate = np.where(np.isfinite(solution.error_estimate), solution.error_estimate, 0)
    assert (error[solution.converged] <= np.maximum(estimate, 4 * tol)[solution.converged]).all()


@pytest.mark.parametrize("method", ["newton", "quasi_newton", "jacobi"])
@pytest.mark.parametrize("name", LIARS)
def test_newton_is_as_near_as_it_says(name: str, method: str) -> None:
    problem = posed(LIARS[name](steps=200))
    solution = problem.solve(method=method, max_sweeps=20, throw=False)
    error = largest(solution.states, problem.solve(method="sequential").states)
    allowed = np.maximum(solution.error_estimate, STATED * EPS["float32"])
    assert (error[solution.converged] <= allowed[solution.converged]).all()


@pytest.mark.parametrize("every", [64, 128, 256])
def test_an_expansion_between_all_boundaries_is_found(every: int) -> None:
    problem = posed(hidden_expansion(every))
    config = ShootingConfig(chunk=every)
    solution = problem.solve(method="shooting", config=config, tol=1e-5, throw=False)
    error = largest(solution.states, problem.solve(method="sequential").states)
    assert not solution.converged.all() or error.max() <= 1e-5


def test_a_guess_of_the_wrong_branch_does_not_stay_there() -> None:
    problem = posed(LIARS["latch with two events"]())
    right = problem.solve(method="sequential").states
    solution = problem.solve(method="shooting", guess=-right, throw=False)
    assert not solution.converged.all() or largest(solution.states, right).max() <= STATED * EPS["float32"]
