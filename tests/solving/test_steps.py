"""What a step function may be: any function of rows. What it may not be is said before anything is solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.errors import SeqparError
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import elman, tokens

Array = Any


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_a_step_for_one_sample_is_refused(batch: int) -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((8, 8)) / 8
    x, h0 = rng.standard_normal((batch, 100, 8)), np.zeros((batch, 8))
    with pytest.raises(SeqparError, match=r"(?s)solve_recurrence: step .*h @ W\.T"):
        seqpar.solve_recurrence(lambda params, h, x: np.tanh(W @ h + x), x, h0)


def test_a_step_that_mixes_rows_is_refused() -> None:
    x, h0 = np.random.default_rng(0).standard_normal((3, 100, 4)), np.zeros((3, 4))
    with pytest.raises(SeqparError, match="rows depend on each other"):
        seqpar.solve_recurrence(lambda params, h, x: np.tanh(h - h.mean(0, keepdims=True) + x), x, h0)


def test_a_random_step_is_refused() -> None:
    rng = np.random.default_rng(0)
    x, h0 = rng.standard_normal((2, 100, 4)), np.zeros((2, 4))
    with pytest.raises(SeqparError, match="two results for the same h and x.*dropout"):
        seqpar.solve_recurrence(lambda params, h, x: np.tanh(h + x) * (rng.random(h.shape) < 0.5), x, h0)


def test_dropout_in_torch_is_refused_and_evaluation_is_not() -> None:
    torch = pytest.importorskip("torch")
    dropout = torch.nn.Dropout(0.5)
    x, h0 = torch.randn(2, 50, 4), torch.zeros(2, 4)

    def step(params: Any, h: Array, x: Array) -> Array:
        return dropout(torch.tanh(0.5 * h + x))

    with pytest.raises(SeqparError, match="dropout"):
        seqpar.solve_recurrence(step, x, h0)
    dropout.eval()
    assert seqpar.solve_recurrence(step, x, h0).converged.all()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda params, h, x: (h, h), "step returns a tuple, not an array"),
        (lambda params, h, x: h[..., :2], r"step gives shape"),
        (lambda params, h, x: (h + x).astype(np.float32), "step makes float32 of a state of float64"),
    ],
)
def test_what_a_step_returns_is_the_next_state(step: Any, message: str) -> None:
    with pytest.raises(SeqparError, match=message):
        seqpar.solve_recurrence(step, np.ones((2, 30, 4)), np.zeros((2, 4)))


def test_an_error_inside_the_step_names_the_shapes_it_was_called_with() -> None:
    def step(params: Any, h: Array, x: Array) -> Array:
        return h @ np.ones((5, 5)) + x

    with pytest.raises(ValueError, match="matmul") as caught:
        seqpar.solve_recurrence(step, np.ones((2, 30, 4)), np.zeros((2, 4)))
    assert any("h of shape" in note for note in caught.value.__notes__)


def test_a_step_may_close_over_what_it_needs() -> None:
    problem = posed(elman(batch=2, steps=200), dtype="float64")
    step, params = problem.step, problem.params
    closed = problem.given(step=lambda _, h, x: step(params, h, x), params=None).solve()
    assert np.array_equal(closed.states, problem.solve().states)


def test_params_of_none_are_handed_on_as_none() -> None:
    seen = []

    def step(params: Any, h: Array, x: Array) -> Array:
        seen.append(params)
        return np.tanh(0.5 * h + x)

    seqpar.solve_recurrence(step, np.ones((30, 1)), np.zeros(1))
    assert seen
    assert all(params is None for params in seen)


def test_a_torch_module_is_a_step_through_functional_call() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(3, 5).double()

    def step(params: Any, h: Array, x: Array) -> Array:
        rows = torch.func.functional_call(cell, params, (x.reshape(-1, 3), h.reshape(-1, 5)))
        return rows.reshape(h.shape)

    x = torch.randn(2, 120, 3, dtype=torch.float64)
    states = seqpar.recurrence(step, x, torch.zeros(2, 5, dtype=torch.float64), dict(cell.named_parameters()))
    h, expected = torch.zeros(2, 5, dtype=torch.float64), []
    for t in range(120):
        h = cell(x[:, t], h)
        expected.append(h)
    assert largest(states.detach(), torch.stack(expected, 1).detach()).max() <= 1e-13


def test_torch_parameters_that_the_step_closes_over_are_never_left_out_of_gradients() -> None:
    torch = pytest.importorskip("torch")
    W = (0.3 * torch.randn(4, 4, dtype=torch.float64)).requires_grad_()
    x = torch.randn(2, 60, 4, dtype=torch.float64)
    h0 = torch.zeros(2, 4, dtype=torch.float64)

    def step(params: Any, h: Array, x: Array) -> Array:
        return torch.tanh(h @ W + x)

    try:
        states = seqpar.recurrence(step, x, h0)
    except SeqparError as error:
        assert "params" in str(error)
        return
    (found,) = torch.autograd.grad(states.sum(), W)
    h, total = h0, 0
    for t in range(60):
        h = step(None, h, x[:, t])
        total = total + h.sum()
    (expected,) = torch.autograd.grad(total, W)
    assert float((found - expected).abs().max()) <= 1e-8 * float(expected.abs().max())


@pytest.mark.parametrize("method", ["auto", "shooting", "newton", "quasi_newton", "jacobi"])
def test_nothing_of_the_users_is_written_to(method: str) -> None:
    system = tokens(batch=2, steps=80)
    locked, free = posed(system, Rung.NUMPY_READONLY), posed(system)
    guess = np.zeros((2, 80, 6), np.float32)
    guess.flags.writeable = False
    solution = locked.solve(method=method, guess=guess)
    assert largest(solution.states, free.loop()).max() <= 1e-5
    assert not guess.any()
    for mine, theirs in ((locked.x["token"], free.x["token"]), (locked.h0, free.h0)):
        assert np.array_equal(mine, theirs)


def test_results_share_no_memory_with_each_other_or_what_was_given() -> None:
    problem = posed(elman(steps=50))
    for method in ("auto", "sequential", "shooting", "newton"):
        solution = problem.solve(method=method)
        assert not np.shares_memory(solution.states, solution.final)
        assert not np.shares_memory(solution.states, problem.x)


def test_a_jacobian_of_the_users_is_used() -> None:
    rng = np.random.default_rng(0)
    U = 0.5 * np.linalg.qr(rng.standard_normal((4, 4)))[0]
    calls = []

    def step(params: Any, h: Array, x: Array) -> Array:
        return np.tanh(h @ U + x)

    def jacobian(params: Any, h: Array, x: Array) -> Array:
        calls.append(h.shape)
        return (1 - step(params, h, x) ** 2)[..., :, None] * U.T

    x, h0 = rng.standard_normal((2, 90, 4)), np.zeros((2, 4))
    solution = seqpar.solve_recurrence(step, x, h0, method="newton", jacobian=jacobian)
    expected = seqpar.solve_recurrence(step, x, h0, method="sequential").states
    assert calls
    assert largest(solution.states, expected).max() <= 1e-13
