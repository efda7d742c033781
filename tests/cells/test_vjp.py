"""`seqpar.vjp` of a call with a cell, in NumPy too, which has no derivatives of its own: those of autograd through the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, LSTM, STEPS, data, loop, marks, near
from seqpar import cells
from seqpar.errors import ArrayTypeError, OptionError, ShapeError

torch = pytest.importorskip("torch")
every_cell = pytest.mark.parametrize("case", CASES, ids=repr)


def wanted(case: Case, params: Any, x: Any, h0: Any, g: Any, **options: Any) -> tuple[Any, Any, Any]:
    """The gradients of the loop, by PyTorch."""
    leaves = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    tx, th = torch.tensor(x, requires_grad=True), torch.tensor(h0, requires_grad=True)
    loop(torch, case, leaves, tx, th, **options).backward(torch.tensor(g))
    return tx.grad, th.grad, {name: leaf.grad for name, leaf in leaves.items()}


def agree(found: Any, gradients: tuple[Any, Any, Any]) -> None:
    of_step, dx, dh0, dparams = found
    assert of_step is None
    near(dx, gradients[0])
    near(dh0, gradients[1])
    assert dparams.keys() == gradients[2].keys()
    for name, gradient in gradients[2].items():
        near(dparams[name], gradient)


def cotangent(states: Any) -> Any:
    return np.random.default_rng(9).standard_normal(states.shape)


@every_cell
def test_gradients_are_those_of_autograd_through_the_loop(case: Case) -> None:
    params, x, h0 = data(case)
    states, pullback = seqpar.vjp(seqpar.recurrence, case.cell, x, h0, params)
    near(states, loop(np, case, params, x, h0))
    g = cotangent(states)
    agree(pullback(g), wanted(case, params, x, h0, g))


@pytest.mark.parametrize(
    ("of_x", "of_h0"), [((), ()), ((), (3,)), ((3,), ()), ((2, 3), (3,)), ((2, 1), (3,))]
)
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_of_whatever_axes_and_options(
    of_x: tuple[int, ...], of_h0: tuple[int, ...], reverse: bool, resets: bool
) -> None:
    params, x, _ = data(GRU, of_x)
    _, _, h0 = data(GRU, of_h0)
    batch = np.broadcast_shapes(of_x, of_h0)
    starts = marks(batch) if resets else None
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params, reverse=reverse, resets=starts)
    g = cotangent(states)
    agree(pullback(g), wanted(GRU, params, x, h0, g, reverse=reverse, resets=starts))


def test_of_time_in_front() -> None:
    params, x, h0 = data(LSTM)
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.lstm, np.moveaxis(x, 1, 0), h0, params, axis=0)
    g = cotangent(states)
    dx, dh0, dparams = wanted(LSTM, params, x, h0, np.moveaxis(g, 0, 1))
    agree(pullback(g), (np.moveaxis(dx.numpy(), 1, 0), dh0, dparams))


@pytest.mark.usefixtures("eager_probes")
def test_of_chunks_they_are_the_same_bits() -> None:
    params, x, h0 = data(GRU, (1,), 3000)
    params = {name: p / 2 for name, p in params.items()}
    found = []
    for method in ("sequential", "shooting"):
        solution, pullback = seqpar.vjp(seqpar.solve_recurrence, cells.gru, x, h0, params, method=method)
        assert (solution.sweeps > 1).all() == (method == "shooting")
        found.append(pullback(replace(solution, states=cotangent(solution.states), final=None)))
    near(found[1][1], found[0][1], 0)
    near(found[1][2], found[0][2], 0)
    for name in params:
        near(found[1][3][name], found[0][3][name], 0)


def test_a_state_that_was_not_given_has_none_and_options_have_none() -> None:
    params, x, h0 = data(GRU)
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, None, params)
    g = cotangent(states)
    _, dx, dh0, dparams = pullback(g)
    assert dh0 is None
    near(dx, wanted(GRU, params, x, np.zeros_like(h0), g)[0])
    assert dparams.keys() == params.keys()
    _, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params=params)
    assert len(pullback(g)) == 3


def test_of_a_solution_states_and_the_final_one_add_up() -> None:
    params, x, h0 = data(GRU)
    for reverse in (False, True):
        solution, pullback = seqpar.vjp(seqpar.solve_recurrence, cells.gru, x, h0, params, reverse=reverse)
        g, last = cotangent(solution.states), cotangent(solution.final)
        both = g.copy()
        both[:, 0 if reverse else -1] += last
        agree(
            pullback(replace(solution, states=g, final=last)),
            wanted(GRU, params, x, h0, both, reverse=reverse),
        )
        only = np.zeros_like(g)
        only[:, 0 if reverse else -1] = last
        agree(
            pullback(replace(solution, states=None, final=last)),
            wanted(GRU, params, x, h0, only, reverse=reverse),
        )


@pytest.mark.parametrize("options", [{"method": "newton"}, {"backend": "reference"}], ids=str)
def test_the_method_of_the_forward_pass_makes_no_difference(options: Any) -> None:
    params, x, h0 = data(GRU)
    params = {name: p / 2 for name, p in params.items()}
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params, **options)
    g = cotangent(states)
    found = pullback(g)
    gradients = wanted(GRU, params, x, h0, g)
    near(found[1], gradients[0], 1e-8)
    near(found[3]["u"], gradients[2]["u"], 1e-8)


def test_of_nothing_it_is_nothing() -> None:
    params, x, h0 = data(GRU, steps=0)
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params)
    _, dx, dh0, dparams = pullback(states)
    assert dx.shape == x.shape
    assert not dh0.any()
    assert not dparams["u"].any()


@pytest.mark.parametrize("function", [seqpar.recurrence, seqpar.solve_recurrence], ids=["states", "solution"])
def test_in_pytorch_and_jax_it_is_the_frameworks_own(function: Any) -> None:
    jnp = pytest.importorskip("jax.numpy")
    params, x, h0 = data(GRU)
    g = cotangent(np.empty((2, STEPS, HIDDEN)))
    for make in (torch.tensor, jnp.asarray):
        given = make(x), make(h0), {name: make(p) for name, p in params.items()}
        result, pullback = seqpar.vjp(function, cells.gru, *given)
        wish = make(g)
        if function is seqpar.solve_recurrence:
            wish = replace(result, states=wish, final=None, residual=None, error_estimate=None)
        agree(pullback(wish), wanted(GRU, params, x, h0, g))


def test_a_cotangent_that_does_not_fit_is_named() -> None:
    params, x, h0 = data(GRU)
    states, pullback = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params)
    with pytest.raises(ShapeError, match=r"cotangent.shape=\(2, 18, 4\) is not the shape of its result"):
        pullback(states[:, 1:])
    solution, pullback = seqpar.vjp(seqpar.solve_recurrence, cells.gru, x, h0, params)
    with pytest.raises(ArrayTypeError, match="cotangent is a ndarray and the result a RecurrenceSolution"):
        pullback(solution.states)


def test_a_step_that_is_no_cell_still_has_none_in_numpy() -> None:
    with pytest.raises(OptionError, match="numpy has no derivatives of its own"):
        seqpar.vjp(seqpar.recurrence, lambda p, h, x: 0.5 * h + x, np.ones((3, 1)), np.zeros(1))
