"""Cells through `recurrence` by every method: which way is taken, and that it makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, LSTM, data, loop, marks, near, wild
from seqpar import NewtonConfig, ShootingConfig, cells
from seqpar.errors import NotEligibleError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [(1,), (3,)], ids=str)
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_chunks_give_the_bits_of_walking_step_by_step(
    dtype: Any, batch: tuple[int, ...], resets: bool
) -> None:
    params, x, h0 = data(GRU, batch, 2000, dtype=dtype)
    params = {name: p / 2 for name, p in params.items()}
    starts = marks(batch, 2000) & marks((1,), 2000) if resets else None
    states = {}
    for method in ("sequential", "shooting", "auto"):
        states[method] = seqpar.recurrence(cells.gru, x, h0, params, method=method, resets=starts)
    chunks = seqpar.solve_recurrence(
        cells.gru, x, h0, params, config=ShootingConfig(chunk=250), resets=starts
    )
    assert chunks.method_name == "shooting"
    assert (chunks.sweeps >= 2).all()
    for found in (states["shooting"], states["auto"], chunks.states):
        assert np.array_equal(found, states["sequential"])


def test_chaos_too() -> None:
    params, x, h0 = wild()
    chunks = seqpar.solve_recurrence(cells.elman, x, h0, params, config=ShootingConfig(chunk=300))
    one = seqpar.solve_recurrence(cells.elman, x, h0, params, method="sequential")
    assert np.array_equal(chunks.states, one.states)
    assert chunks.converged.all()


def test_a_chunk_longer_than_time_is_time() -> None:
    params, x, h0 = data(GRU)
    found = seqpar.recurrence(cells.gru, x, h0, params, config=ShootingConfig(chunk=10_000))
    near(found, loop(np, GRU, params, x, h0))


@pytest.mark.parametrize("method", ["newton", "quasi_newton", "shooting_newton"])
@pytest.mark.parametrize("case", [GRU, LSTM, next(c for c in CASES if c.cell.name == "mingru")], ids=repr)
def test_newtons_methods_take_a_cell(case: Case, method: str) -> None:
    params, x, h0 = data(case)
    params = {name: p / 2 for name, p in params.items()}
    solution = seqpar.solve_recurrence(case.cell, x, h0, params, method=method)
    assert solution.method_name == method
    near(solution.states, loop(np, case, params, x, h0), 1e-9)


def test_newton_asks_the_cell_for_its_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    own = cells.Cell.jacobian

    def counted(self: Any, *given: Any) -> Any:
        asked.append(self)
        return own(self, *given)

    monkeypatch.setattr(cells.Cell, "jacobian", counted)
    params, x, h0 = data(GRU)
    params = {name: p / 2 for name, p in params.items()}
    for method in ("newton", "quasi_newton"):
        asked.clear()
        seqpar.solve_recurrence(cells.gru, x, h0, params, method=method)
        assert asked


@pytest.mark.parametrize("name", ["mingru", "indrnn"])
def test_a_diagonal_cell_is_one_to_newton(name: str) -> None:
    case = next(c for c in CASES if c.cell.name == name)
    params, x, h0 = data(case)
    params = {name: p / 2 for name, p in params.items()}
    found = seqpar.solve_recurrence(case.cell, x, h0, params, method="quasi_newton")
    dense = seqpar.solve_recurrence(case.cell, x, h0, params, method="newton", jacobian="dense")
    near(found.states, dense.states, 1e-10)
    assert int(found.sweeps.max()) <= int(dense.sweeps.max()) + 1


@pytest.mark.parametrize(
    "options",
    [{"tol": 1e-6}, {"bounds": (-1.0, 1.0)}, {"max_sweeps": 50}, {"config": ShootingConfig(burn_in=4)}, {"guess": None}],
    ids=str,
)  # fmt: skip
def test_what_iterations_know_is_still_known(options: Any) -> None:
    params, x, h0 = data(GRU, steps=300)
    params = {name: p / 2 for name, p in params.items()}
    h0 = np.tanh(h0)
    wanted = loop(np, GRU, params, x, h0)
    if "guess" in options:
        options = {"guess": wanted + 1e-3}
    near(seqpar.recurrence(cells.gru, x, h0, params, method="shooting", **options), wanted, 1e-5)


def test_a_jacobian_of_ones_own_wins() -> None:
    params, x, h0 = data(GRU)
    params = {name: p / 2 for name, p in params.items()}
    calls = []

    def jacobian(p: Any, h: Any, x: Any) -> Any:
        calls.append(h)
        return cells.gru.jacobian(p, h, x)

    seqpar.recurrence(cells.gru, x, h0, params, method="newton", jacobian=jacobian)
    assert calls
    near(
        seqpar.recurrence(cells.gru, x, h0, params, method="quasi_newton", config=NewtonConfig(probes=2), max_sweeps=200),
        loop(np, GRU, params, x, h0),
        1e-9,
    )  # fmt: skip


def test_half_precision_goes_the_way_of_any_step() -> None:
    params, x, h0 = data(GRU, dtype=np.float16)
    found = seqpar.solve_recurrence(cells.gru, x, h0, params)
    assert found.states.dtype == np.float16
    wide = {name: p.astype(np.float64) for name, p in params.items()}
    near(found.states, loop(np, GRU, wide, x.astype(np.float64), h0.astype(np.float64)), 0.02)


def test_a_backend_that_cannot_says_why() -> None:
    params, x, h0 = data(GRU, dtype=np.float16)
    with pytest.raises(NotEligibleError, match=r"host\.sequential: .*float16"):
        seqpar.recurrence(cells.gru, x, h0, params, backend="host")
