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


@pytest.mark.usefixtures("eager_probes")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [(1,), (3,)], ids=str)
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_chunks_give_the_bits_of_walking_step_by_step(
    dtype: Any, batch: tuple[int, ...], resets: bool
) -> None:
    params, x, h0 = data(GRU, batch, 2000, dtype=dtype)
    params = {name: p / 2 for name, p in params.items()}
    starts = marks(batch, 2000) & marks((1,), 2000) if resets else None
    one = seqpar.solve_recurrence(cells.gru, x, h0, params, method="sequential", resets=starts)
    assert one.method_name == "sequential"
    assert (one.sweeps == 1).all()
    for options in ({"method": "shooting"}, {"method": "auto"}, {"config": ShootingConfig(chunk=250)}):
        chunks = seqpar.solve_recurrence(cells.gru, x, h0, params, resets=starts, **options)
        assert chunks.method_name == "shooting"
        assert (chunks.sweeps >= 2).all()
        assert np.array_equal(chunks.states, one.states)


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


def test_what_iterations_know_is_still_known() -> None:
    params, x, h0 = data(GRU, steps=300)
    params = {name: p / 2 for name, p in params.items()}
    h0 = np.tanh(h0)
    wanted = loop(np, GRU, params, x, h0)

    def solved(throw: bool = True, **options: Any) -> Any:
        return seqpar.solve_recurrence(cells.gru, x, h0, params, method="shooting", throw=throw, **options)

    def sweeps(**options: Any) -> int:
        solution = solved(**options)
        near(solution.states, wanted, 1e-5)
        assert solution.converged.all()
        return int(solution.sweeps.max())

    # A tolerance: the walk without one is exact, and the tighter it is the more sweeps there are.
    assert not solved().residual.any()
    assert solved(tol=1e-6).residual.all()
    assert sweeps(tol=1e-12) > sweeps(tol=1e-6) > solved(tol=0.1).sweeps.max()
    # So many sweeps and no more, in which it does not converge.
    assert solved(max_sweeps=1, throw=False).sweeps.tolist() == [1, 1]
    assert not solved(max_sweeps=1, throw=False).converged.any()
    # Guesses: the better, the sooner. Chunks that start 100 away take long, unless bounds put them back.
    right, wrong = sweeps(guess=wanted), sweeps(guess=wanted + 100.0)
    assert right == 1 < sweeps(guess=wanted + 1e-3) < wrong
    assert sweeps(guess=wanted + 100.0, bounds=(-1.0, 1.0)) < wrong
    # With a longer run into each chunk, its first states are right sooner.
    config = {burn_in: ShootingConfig(chunk=30, burn_in=burn_in) for burn_in in (0, 60)}
    assert sweeps(tol=1e-6, config=config[60]) < sweeps(tol=1e-6, config=config[0])


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
