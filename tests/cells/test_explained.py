"""What `explain` says of a call with a cell, and what `verify` finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_walks import GRU, data, loop, marks, near, wild
from seqpar import ShootingConfig, cells


def test_the_kernel_that_runs_and_why_not_the_others() -> None:
    params, x, h0 = data(GRU)
    why = seqpar.explain(seqpar.solve_recurrence, cells.gru, x, h0, params)
    assert (why.backend, why.provenance) == ("host", "heuristic")
    told = str(why)
    assert told.startswith("solve_recurrence: 2 sequences of 19 steps of cells.gru (hidden=4 inputs=3)")
    assert "not reference.sequential" in told
    assert len(told) < 800


@pytest.mark.parametrize("method", ["sequential", "shooting"])
def test_what_was_explained_can_be_asked_for(method: str) -> None:
    params, x, h0 = data(GRU, steps=500)
    why = seqpar.explain(seqpar.recurrence, cells.gru, x, h0, params, method=method)
    asked = {"backend": why.backend, "method": why.method, "config": why.config}
    again = seqpar.explain(seqpar.recurrence, cells.gru, x, h0, params, **asked)
    assert (again.method, again.config, again.provenance) == (method, why.config, "explicit")
    near(seqpar.recurrence(cells.gru, x, h0, params, **asked), loop(np, GRU, params, x, h0), 1e-10)


def test_why_no_kernel_runs() -> None:
    params, x, h0 = data(GRU, dtype=np.float16)
    told = str(seqpar.explain(seqpar.solve_recurrence, cells.gru, x, h0, params))
    assert "runs: sequential" in told
    assert "not host.sequential: " in told
    assert "float16" in told


def test_a_wish_is_told_as_one() -> None:
    params, x, h0 = data(GRU)
    why = seqpar.explain(seqpar.solve_recurrence, cells.gru, x, h0, params, method="newton")
    assert (why.method, why.reason) == ("newton", "as asked")


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"axis": 0}, {"resets": True}], ids=str)
def test_a_solution_is_verified_to_the_bit(options: Any) -> None:
    params, x, h0 = data(GRU, (3,), 700)
    params = {name: p / 2 for name, p in params.items()}
    if options == {"resets": True}:
        options = {"resets": marks((3,), 700)}
    if "axis" in options:
        x = np.moveaxis(x, 1, 0)
    config = ShootingConfig(chunk=100)
    solution = seqpar.solve_recurrence(cells.gru, x, h0, params, config=config, **options)
    found = seqpar.verify(solution, steps=650, tol=0.0)
    assert found == (650, 0.0, 0.0, True)


def test_chaos_is_verified_and_a_wrong_bit_found() -> None:
    params, x, h0 = wild()
    solution = seqpar.solve_recurrence(cells.elman, x, h0, params, config=ShootingConfig(chunk=300))
    assert seqpar.verify(solution, steps=3000) == (3000, 0.0, seqpar.verify(solution).tol, True)
    wrong = np.array(solution.states)
    wrong[0, 2000, 3] += 1e-3
    assert not seqpar.verify(replace(solution, states=wrong), steps=3000).agrees
    assert seqpar.verify(replace(solution, states=wrong), steps=2000).agrees


def test_nothing_is_verified_of_nothing() -> None:
    params, x, h0 = data(GRU, steps=0)
    assert seqpar.verify(seqpar.solve_recurrence(cells.gru, x, h0, params)).agrees
