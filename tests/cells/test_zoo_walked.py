"""Every cell through the public call: whatever kernel walks it, states and gradients are those of a loop over its equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import loop, near

torch = pytest.importorskip("torch")
every_cell = pytest.mark.parametrize("case", CASES, ids=repr)
STEPS, INPUTS = 60, 4


@every_cell
def test_states_and_gradients_are_those_of_the_equations_in_a_loop(case: Case) -> None:
    rng = np.random.default_rng(0)
    drawn = case.params(INPUTS, 5)
    size = case.cell.state_size(drawn)
    x, h0, g = (rng.standard_normal(shape) for shape in ((2, STEPS, INPUTS), (2, size), (2, STEPS, size)))
    resets = torch.tensor(rng.random((2, STEPS)) < 0.05)

    def leaves() -> tuple[dict[str, Any], Any, Any]:
        params = {name: torch.tensor(value, requires_grad=True) for name, value in drawn.items()}
        return params, torch.tensor(h0, requires_grad=True), torch.tensor(x, requires_grad=True)

    ours, theirs = leaves(), leaves()
    states = seqpar.recurrence(case.cell, ours[2], ours[1], ours[0], reverse=True, resets=resets)
    wanted = loop(torch, case, theirs[0], theirs[2], theirs[1], resets, reverse=True)
    near(states, wanted, 1e-11)
    states.backward(torch.tensor(g))
    wanted.backward(torch.tensor(g))
    near(ours[1].grad, theirs[1].grad, 1e-11)
    near(ours[2].grad, theirs[2].grad, 1e-11)
    for name, value in ours[0].items():
        near(value.grad, theirs[0][name].grad, 1e-11)


@every_cell
def test_parameters_left_out_are_zeros(case: Case) -> None:
    bare, whole = case.params(INPUTS, 5, bias=False), case.params(INPUTS, 5)
    zeros = {name: value if name in bare else 0 * value for name, value in whole.items()}
    x = np.random.default_rng(0).standard_normal((2, STEPS, INPUTS))
    found, wanted = (seqpar.recurrence(case.cell, x, None, params) for params in (bare, zeros))
    assert np.array_equal(found, wanted)
    assert np.abs(wanted).max() > 0.01
