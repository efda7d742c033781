"""What a solution says of itself, what an error advises, and what `verify` and `explain` find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar import cells
from seqpar.errors import ConvergenceError, SeqparError
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar.solving.wish import METHODS
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import chaos, elman, gru, integrator


def test_a_method_that_stopped_too_early_raises_with_advice_and_what_there_is() -> None:
    problem = posed(integrator(batch=2, steps=2000))
    with pytest.raises(ConvergenceError, match=r'2 of 2 sequences.*in 3 sweeps.*Try method="auto"') as caught:
        problem.solve(method="shooting", max_sweeps=3)
    assert caught.value.solution.states.shape == (2, 2000, 4)
    assert not caught.value.solution.converged.any()


def test_throw_false_returns_what_there_is() -> None:
    problem = posed(gru(3, 8, steps=2000))
    solution = problem.solve(method="shooting", max_sweeps=2, throw=False, config=ShootingConfig(chunk=64))
    assert not solution.converged.any()
    # What was walked from the exact start is exact: two chunks of 63 steps.
    exact = problem.solve(method="sequential").states
    assert largest(solution.states[:, :120], exact[:, :120]).max() <= 1e-5
    assert (solution.residual > 0).all()


def test_a_solution_says_per_sequence_how_it_came_to_be() -> None:
    solution = posed(elman(batch=3, steps=500)).solve(method="shooting")
    assert solution.method_name == "shooting"
    for value in (solution.converged, solution.sweeps, solution.residual, solution.error_estimate):
        assert value.shape == (3,)
    assert (solution.sweeps >= 2).all()
    assert len(solution.history) == solution.sweeps.max()
    assert "method='shooting'" in repr(solution)


def test_the_sequential_method_claims_to_be_exact_and_is() -> None:
    problem = posed(chaos(steps=400))
    solution = problem.solve(method="sequential")
    h, states = problem.h0, []
    for _ in range(400):
        h = problem.step(problem.params, h, None)
        states.append(h)
    assert np.array_equal(solution.states, np.stack(states, 1))
    assert solution.error_estimate == 0
    assert solution.residual == 0


def test_equal_calls_make_equal_choices() -> None:
    for system in (elman(steps=4000), gru(3, 8, steps=4000), chaos(steps=4000)):
        first, second = (posed(system).solve() for _ in range(2))
        assert first.method_name == second.method_name
        assert np.array_equal(first.sweeps, second.sweeps)
        assert np.array_equal(first.states, second.states)


def test_a_long_recurrence_that_forgets_is_not_walked_step_by_step() -> None:
    assert posed(elman(steps=16_384)).solve().method_name != "sequential"


def test_a_short_recurrence_is_walked_step_by_step() -> None:
    assert posed(elman(steps=20)).solve().method_name == "sequential"


def test_a_good_guess_saves_sweeps() -> None:
    problem = posed(gru(2, 8, steps=2000), dtype="float64")
    cold = problem.solve(method="newton")
    warm = problem.solve(method="newton", guess=cold.states)
    assert warm.sweeps.max() < cold.sweeps.max()
    assert largest(warm.states, cold.states).max() <= 1e-13


def test_bounds_hold_newton_where_it_would_leave() -> None:
    problem = posed(gru(3, 8, steps=1000))
    free, held = (
        problem.solve(method="newton", bounds=bounds, throw=False, max_sweeps=300)
        for bounds in (None, (-1.0, 1.0))
    )
    assert held.converged.all()
    assert held.sweeps.max() <= free.sweeps.max()


def test_damping_is_a_knob_that_does_not_change_the_answer() -> None:
    problem = posed(gru(2, 8, steps=500), dtype="float64")
    states = [
        problem.solve(method="newton", config=config).states
        for config in (None, NewtonConfig(damping=0.1), NewtonConfig(window=100))
    ]
    assert max(largest(other, states[0]).max() for other in states[1:]) <= 1e-12


def test_a_fixed_number_of_sweeps_is_taken() -> None:
    solution = posed(elman(steps=1000)).solve(method="shooting", config=ShootingConfig(chunk=50, sweeps=3))
    assert solution.sweeps == 3


def test_verify_compares_a_prefix_with_the_sequential_walk() -> None:
    solution = posed(elman(batch=2, steps=3000)).solve(method="shooting")
    found = seqpar.verify(solution, steps=500)
    assert found.steps == 500
    assert found.agrees
    assert found.error <= 1e-5


def test_verify_finds_states_that_are_wrong() -> None:
    from dataclasses import replace

    solution = posed(elman(batch=2, steps=600)).solve(method="shooting")
    states = solution.states.copy()
    states[1, 300] += 0.01
    found = seqpar.verify(replace(solution, states=states))
    assert not found.agrees
    assert found.error == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("options", [{"reverse": True}, {"resets": np.arange(600) % 100 == 0}])
def test_verify_knows_direction_and_resets(options: dict[str, object]) -> None:
    solution = posed(elman(batch=2, steps=600)).solve(method="shooting", **options)
    assert seqpar.verify(solution).agrees


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "shoting"}, "Did you mean 'shooting'"),
        ({"tol": -1.0}, "tol=-1.0"),
        ({"max_sweeps": 0}, "max_sweeps=0"),
        ({"jacobian": "diag"}, "jacobian='diag'"),
        ({"jacobian": ("block", 0)}, "blocks are of a whole number"),
        ({"bounds": 1.0}, "bounds=1.0 is not a pair"),
        ({"guess": np.zeros((3, 3))}, "guess"),
        ({"method": "newton", "config": ShootingConfig()}, "NewtonConfig"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SeqparError, match=message):
        posed(elman(steps=50)).solve(**options)


def test_explain_predicts_what_each_method_would_cost_and_solves_nothing() -> None:
    problem = posed(elman(steps=4000))
    text = str(seqpar.explain(seqpar.solve_recurrence, problem.step, problem.x, problem.h0, problem.params))
    chosen = problem.solve().method_name
    assert "shooting" in text
    assert "sequential" in text
    assert chosen in text
    again = seqpar.explain(seqpar.solve_recurrence, problem.step, problem.x, problem.h0, problem.params)
    assert str(again) == text


@pytest.mark.parametrize(
    "step", [cells.elman, lambda p, h, x: np.tanh(x @ p["w"] + h @ p["u"])], ids=["cell", "function"]
)
@pytest.mark.parametrize("method", ["auto", "sequential", "newton"])
def test_sweeps_are_counted_in_one_dtype(step: Any, method: Any) -> None:
    params = cells.elman.init(0, 3, 4, bias=False)
    for batch, steps in ((2, 50), (2, 0), (0, 50)):
        x = np.ones((batch, steps, 3), np.float32)
        solution = seqpar.solve_recurrence(step, x, np.zeros(4, np.float32), params, method=method)
        assert solution.sweeps.dtype == np.int32
        assert solution.sweeps.shape == (batch,)


def test_the_name_of_the_method_is_read_from_tensors_on_a_device() -> None:
    torch = pytest.importorskip("torch")

    class Elsewhere(torch.Tensor):  # type: ignore[misc, name-defined]
        """Like a tensor of CUDA: its numbers can be read one by one, but NumPy sees no memory."""

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    solution = seqpar.solve_recurrence(
        cells.elman, np.ones((5, 3), np.float32), None, cells.elman.init(0, 3, 4)
    )
    for numbers, name in ((0, METHODS[0]), ([1, 0, 1], f"{METHODS[0]}, {METHODS[1]}")):
        there = torch.tensor(numbers).as_subclass(Elsewhere)
        assert replace(solution, method=there).method_name == name
        assert repr(name) in repr(replace(solution, method=there))
