"""Cells in frameworks that only speak the array API: the way of any other step, with every cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, LSTM, data, loop, marks, near
from libraries import LIBRARIES, numbers
from seqpar import cells
from seqpar.errors import DtypeError, OptionError

Make = Callable[[Any], Any]


@pytest.fixture(params=["array-api-strict", "dask"])
def make(request: pytest.FixtureRequest) -> Make:
    """How arrays of a library are made of NumPy's."""
    return LIBRARIES[request.param]().make


def given(make: Make, case: Case, **sizes: Any) -> tuple[dict[str, Any], Any, Any]:
    params, x, h0 = data(case, **{"steps": 5, **sizes})
    return {name: make(p) for name, p in params.items()}, make(x), make(h0)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_states_are_those_of_the_equations(case: Case, make: Make) -> None:
    params, x, h0 = given(make, case)
    found = seqpar.recurrence(case.cell, x, h0, params)
    assert type(found) is type(x)
    near(numbers(found), loop(np, case, *data(case, steps=5)))


@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
def test_options_and_no_state_given(make: Make, reverse: bool) -> None:
    params, x, _ = given(make, LSTM)
    plain = data(LSTM, steps=5)
    starts = marks(steps=5)
    found = seqpar.recurrence(cells.lstm, x, None, params, reverse=reverse, resets=make(starts))
    near(numbers(found), loop(np, LSTM, plain.params, plain.x, None, starts, reverse))


def test_a_solution_says_that_it_is_the_sequential_one(make: Make) -> None:
    params, x, h0 = given(make, GRU)
    solution = seqpar.solve_recurrence(cells.gru, x, h0, params)
    assert solution.method_name == "sequential"
    near(numbers(solution.final), numbers(solution.states)[:, -1], 0)
    assert seqpar.verify(solution).agrees
    assert seqpar.explain(seqpar.solve_recurrence, cells.gru, x, h0, params).backend == "reference"


def test_newton_takes_a_cell_without_autograd() -> None:
    make = LIBRARIES["array-api-strict"]().make
    params, x, h0 = given(make, GRU)
    found = seqpar.recurrence(cells.gru, x, h0, params, method="newton")
    near(numbers(found), loop(np, GRU, *data(GRU, steps=5)), 1e-9)


def test_gradients_are_those_of_numpy() -> None:
    make = LIBRARIES["array-api-strict"]().make
    plain = data(GRU, steps=5)
    params, x, h0 = given(make, GRU)
    g = np.random.default_rng(9).standard_normal((2, 5, HIDDEN))
    found = seqpar.vjp(seqpar.recurrence, cells.gru, x, h0, params)[1](make(g))
    wanted = seqpar.vjp(seqpar.recurrence, cells.gru, plain.x, plain.h0, plain.params)[1](g)
    near(numbers(found[1]), wanted[1])
    near(numbers(found[2]), wanted[2])
    for name, gradient in wanted[3].items():
        near(numbers(found[3][name]), gradient)


def test_what_is_wrong_is_named(make: Make) -> None:
    params, x, h0 = given(make, GRU)
    plain = data(GRU, steps=5)
    with pytest.raises(DtypeError, match="h0 float32"):
        seqpar.recurrence(cells.gru, x, make(plain.h0.astype(np.float32)), params)
    with pytest.raises(OptionError, match="x is None"):
        seqpar.recurrence(cells.gru, None, h0, params)
