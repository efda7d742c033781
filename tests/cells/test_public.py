"""Cells through `recurrence` and `solve_recurrence` in NumPy: values, shapes, options, and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, INPUTS, LSTM, STEPS, data, loop, marks, near
from seqpar import cells
from seqpar.errors import OptionError, ShapeError

every_cell = pytest.mark.parametrize("case", CASES, ids=repr)


@every_cell
def test_states_are_those_of_the_equations(case: Case) -> None:
    params, x, h0 = data(case)
    near(seqpar.recurrence(case.cell, x, h0, params), loop(np, case, params, x, h0))


@every_cell
def test_float32_keeps_its_precision(case: Case) -> None:
    params, x, h0 = data(case, dtype=np.float32)
    found = seqpar.recurrence(case.cell, x, h0, params)
    assert found.dtype == np.float32
    wide = {name: p.astype(np.float64) for name, p in params.items()}
    near(found, loop(np, case, wide, x.astype(np.float64), h0.astype(np.float64)), 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_host_has_a_kernel_for_every_cell(dtype: Any) -> None:
    for case in CASES:
        params, x, h0 = data(case, dtype=dtype)
        assert seqpar.explain(seqpar.recurrence, case.cell, x, h0, params).backend == "host"


@every_cell
def test_no_state_given_means_zeros(case: Case) -> None:
    params, x, h0 = data(case)
    found = seqpar.recurrence(case.cell, x, None, params)
    assert np.array_equal(found, seqpar.recurrence(case.cell, x, np.zeros_like(h0), params))
    near(found, loop(np, case, params, x))


@pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)
@pytest.mark.parametrize(
    ("of_x", "of_h0"),
    [
        ((), ()),
        ((), (3,)),
        ((3,), ()),
        ((1,), (3,)),
        ((3,), (1,)),
        ((2, 3), ()),
        ((2, 3), (2, 3)),
        ((2, 1), (3,)),
        ((1, 1), (1,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
def test_batch_axes_of_inputs_and_states_broadcast(
    case: Case, of_x: tuple[int, ...], of_h0: tuple[int, ...], reverse: bool
) -> None:
    params, x, _ = data(case, of_x)
    _, _, h0 = data(case, of_h0)
    wanted = loop(np, case, params, x, h0, reverse=reverse)
    solution = seqpar.solve_recurrence(case.cell, x, h0, params, reverse=reverse)
    near(solution.states, wanted)
    near(solution.final, wanted[..., 0 if reverse else -1, :])
    assert solution.sweeps.shape == solution.converged.shape == wanted.shape[:-2]


@pytest.mark.parametrize(
    ("batch", "axis"),
    [((), 0), ((), -2), *(((2,), axis) for axis in (0, 1, -2, -3)), *(((2, 3), axis) for axis in (0, 1, 2, -2, -3, -4))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("shared", [False, True], ids=["own resets", "shared resets"])
def test_time_may_be_any_axis_and_start_again_where_resets_are(
    batch: tuple[int, ...], axis: int, reverse: bool, shared: bool
) -> None:
    params, x, h0 = data(GRU, batch)
    starts = marks((1,) * len(batch) if shared else batch)
    wanted = loop(np, GRU, params, x, h0, np.broadcast_to(starts, (*batch, STEPS)), reverse)
    found = seqpar.recurrence(
        cells.gru,
        np.moveaxis(x, -2, axis),
        h0,
        params,
        axis=axis,
        reverse=reverse,
        resets=np.moveaxis(starts, -1, axis + 1 if axis < 0 else axis),
    )
    near(found, np.moveaxis(wanted, -2, axis))


def test_memory_may_lie_as_it_likes() -> None:
    params, x, h0 = data(GRU, (3,))
    wanted = loop(np, GRU, params, x, h0)
    turned = {name: np.asfortranarray(p) for name, p in params.items()}
    near(seqpar.recurrence(cells.gru, np.asfortranarray(x), np.asfortranarray(h0), turned), wanted)
    wide = np.zeros((6, 2 * STEPS, 5))
    wide[::2, ::-2, 1:4] = x
    near(seqpar.recurrence(cells.gru, wide[::2, ::-2, 1:4], h0, params), wanted)
    x.flags.writeable = False
    near(seqpar.recurrence(cells.gru, x, h0, params), wanted)


@pytest.mark.parametrize(("batch", "steps"), [((2,), 0), ((), 0), ((0,), 5), ((2, 0), 5), ((0,), 0)])
def test_nothing_to_walk_gives_nothing(batch: tuple[int, ...], steps: int) -> None:
    params, x, h0 = data(LSTM, batch, steps)
    for start in (h0, None):
        solution = seqpar.solve_recurrence(cells.lstm, x, start, params)
        assert solution.states.shape == (*batch, steps, 2 * HIDDEN)
        near(solution.final, h0 if start is not None and not steps else np.zeros((*batch, 2 * HIDDEN)))


def test_one_step_is_the_cell() -> None:
    params, x, h0 = data(GRU, steps=1)
    near(seqpar.recurrence(cells.gru, x, h0, params)[:, 0], cells.gru(params, h0, x[:, 0]))


def test_biases_may_be_left_out() -> None:
    params, x, h0 = data(GRU)
    params = {name: params[name] for name in ("u", "w")}
    near(seqpar.recurrence(cells.gru, x, h0, params), loop(np, GRU, params, x, h0))


def test_a_solution_says_all_and_shares_no_memory() -> None:
    params, x, h0 = data(LSTM)
    solution = seqpar.solve_recurrence(cells.lstm, x, h0, params)
    assert solution.method_name == "sequential"
    assert solution.converged.all()
    assert solution.converged.dtype == np.bool_
    assert (solution.sweeps == 1).all()
    assert not solution.residual.any()
    assert not solution.error_estimate.any()
    names = ("states", "final", "converged", "sweeps", "residual", "error_estimate")
    arrays = [x, h0, *(getattr(solution, name) for name in names)]
    for i, first in enumerate(arrays):
        assert not any(np.shares_memory(first, other) for other in arrays[:i])


def test_weights_are_read_at_every_call() -> None:
    params, x, h0 = data(GRU)
    before = seqpar.recurrence(cells.gru, x, h0, params)
    params["u"] *= 0.5
    after = seqpar.recurrence(cells.gru, x, h0, params)
    assert not np.array_equal(before, after)
    near(after, loop(np, GRU, params, x, h0))


def test_what_was_right_for_one_call_is_checked_again_for_another() -> None:
    params, x, h0 = data(GRU)
    seqpar.recurrence(cells.gru, x, h0, params, axis=1)
    with pytest.raises(OptionError, match="axis=True is not an integer"):
        seqpar.recurrence(cells.gru, x, h0, params, axis=True)
    with pytest.raises(ShapeError, match="5 numbers in a step"):
        seqpar.recurrence(cells.gru, np.ones((2, STEPS, 5)), h0, params)
    other = cells.elman.init(0, INPUTS, HIDDEN, like=x)
    assert seqpar.recurrence(cells.elman, x, h0, other).shape == x.shape[:2] + (HIDDEN,)
    relu = cells.elman.using(activation="relu")
    assert not np.array_equal(
        seqpar.recurrence(relu, x, h0, other), seqpar.recurrence(cells.elman, x, h0, other)
    )
