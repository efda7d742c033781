"""Cells under the methods that are there for any step: tolerances, guesses, bounds, Newton's methods."""

import numpy as np
import pytest

import seqpar
from cell_walks import LSTM
from seqpar import cells
from seqpar.cells.stepping import CellStepper
from seqpar.solving.canonical import canonical

T, INPUTS, HIDDEN = 2000, 3, 8


def _problem(cell, like=None):
    params = cell.init(0, INPUTS, HIDDEN, like=like)
    x = np.random.default_rng(1).standard_normal((2, T, INPUTS), dtype=np.float32)
    return params, x


def _stepper(cell, params, x, h0):
    return canonical(cell, x, h0, params, -2, None, False, None).recurrence.stepper()


@pytest.mark.parametrize("cell", [cells.gru, cells.lstm, cells.mgu], ids=lambda cell: cell.name)
@pytest.mark.parametrize(
    "options",
    [
        {"method": "shooting", "tol": 1e-6},
        {"tol": 1e-6},
        {"method": "newton", "tol": 1e-5},
        {"method": "shooting", "config": seqpar.ShootingConfig(chunk=100, burn_in=50)},
        {"method": "shooting_newton"},
    ],
    ids=str,
)
def test_the_general_methods_agree_with_the_kernels_own_walk(cell, options):
    params, x = _problem(cell)
    expected = seqpar.recurrence(cell, x, None, params, method="sequential")
    found = seqpar.solve_recurrence(cell, x, None, params, **options)
    assert bool(found.converged.all())
    assert np.abs(found.states - expected).max() < 2e-5


def test_a_guess_is_where_a_cell_starts():
    params, x = _problem(cells.gru)
    expected = seqpar.recurrence(cells.gru, x, None, params, method="sequential")
    found = seqpar.solve_recurrence(cells.gru, x, None, params, method="shooting", guess=expected)
    assert int(found.sweeps.max()) == 1
    assert np.abs(found.states - expected).max() < 1e-6


@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_a_tile_is_walked_as_the_framework_would(resets):
    params, x = _problem(cells.lstm)
    start = np.random.default_rng(2).standard_normal((5, 2 * HIDDEN), dtype=np.float32)
    stepper = _stepper(cells.lstm, params, x, start[:2])
    assert isinstance(stepper, CellStepper)
    tile = np.random.default_rng(3).standard_normal((40, 5, INPUTS), dtype=np.float32)
    mask = np.random.default_rng(4).random((40, 5, 1)) < 0.1 if resets else None
    states, end = stepper.walk(start, 40, [tile], mask, start[::-1])
    h, expected = start.astype(np.float64), []
    wide = {name: value.astype(np.float64) for name, value in params.items()}
    for step in range(40):
        # After a reset another state enters than at the start.
        h = h if mask is None else np.where(mask[step], start[::-1], h)
        h = LSTM.step(np, wide, h, tile[step])
        expected.append(h)
    np.testing.assert_allclose(states, expected, atol=2e-6)
    np.testing.assert_allclose(end, h, atol=2e-6)
    assert stepper.walk(start, 40, [tile], mask, start[::-1], keep=False)[0] is None
    end[:] = 0
    assert states[-1].any(), "the last states and the end share memory"


def test_where_rows_are_compiled_the_framework_walks_by_itself():
    jnp = pytest.importorskip("jax.numpy", reason="JAX is the framework that compiles its walks")
    params, x = _problem(cells.gru, like=jnp.zeros(1, jnp.float32))
    stepper = _stepper(cells.gru, params, jnp.asarray(x), jnp.zeros(HIDDEN, jnp.float32))
    assert not isinstance(stepper, CellStepper)


def test_sums_that_overflow_are_no_fault_of_the_step() -> None:
    for seed in range(10):  # where a sum of both signs ends hangs on its order: infinite, NaN or a number
        params = cells.elman.init(seed, 16, 4, bias=False, like=np.zeros(1))
        params["w"] = np.random.default_rng(seed).choice([-1.0, 1.0], (16, 4))
        x = np.full((3, 50, 16), np.finfo(float).max / 3)
        with np.errstate(all="ignore"):
            found = seqpar.solve_recurrence(cells.elman, x, np.zeros(4), params, tol=1e-3)
        assert found.states.shape == (3, 50, 4)
