"""Gradients of a cell's parameters and input on the host: the definition's in float64, the same bits for any threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from host_cell_walks import BINDING, Walk, backward, forward, problem, same, written
from host_xla import target
from seqpar import cells
from seqpar.cells.gradients_operation import GRADIENTS, in_arrays
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Layout
from seqpar_host import cell_gather_plan, threads
from seqpar_host.kernels import CellGradients

CELLS = [getattr(cells, name) for name in cells.__all__ if name != "Cell"]
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
NO_CONFIG = CellGradients().config()
# Sums of so many products of about one, rounded at every step.
BOUNDS = {"float32": 3e-6, "float64": 1e-14}


def operands_of(walk: Walk) -> list[Any]:
    """x, h0, resets, weights, states, and what a walk backward stored."""
    states, _ = forward(walk)
    g: Any = np.random.default_rng(1).standard_normal(states.shape)
    return [*walk.operands, states, written(walk, states, g.astype(states.dtype))[0]]


def found(walk: Walk, operands: Sequence[Any], many: int | None = None) -> list[Any]:
    """What the kernel writes, into memory that holds NaN before."""
    metas = [None if a is None else Abstract(a.shape, a.dtype.name) for a in operands]
    results = [np.full(shape, np.nan, dtype) for shape, dtype in GRADIENTS.raw(walk.spec, metas)]
    arrays = (*operands, *results)
    layouts = [None if a is None else Layout(a.shape, a.strides, a.dtype.name) for a in arrays]
    launch = CellGradients().bind(walk.spec, NO_CONFIG, layouts)
    launch([0 if a is None else a.ctypes.data for a in arrays], many)
    return list(GRADIENTS.finish(np, walk.spec, operands, tuple(results)))


def defined(walk: Walk, operands: Sequence[Any]) -> tuple[Any, ...]:
    exact = [a if a is None or a.dtype == bool else a.astype(np.float64) for a in operands]
    return in_arrays(np, walk.spec, *exact)


def right(walk: Walk, operands: Sequence[Any], many: int | None = None) -> None:
    bound = BOUNDS[walk.x.dtype.name]
    for one, other in zip(found(walk, operands, many), defined(walk, operands), strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= bound * max(1.0, np.abs(other).max())


@every_cell
@pytest.mark.parametrize("hidden", [1, 3, 8, 17, 33, 64])
def test_every_cell_of_every_size_is_that_of_the_definition(cell: cells.Cell, hidden: int) -> None:
    inputs = {1: 5, 3: 1, 8: 40, 17: 1, 33: 5, 64: 40}[hidden]
    walk = problem(cell, 3, 70, hidden, inputs, resets=0.1)
    right(walk, operands_of(walk))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 63, 64, 65, 1023, 1024, 1025, 2500])
def test_tasks_end_where_they_may(steps: int, batch: int, dtype: str) -> None:
    for cell, resets in ((cells.gru, 0.0), (cells.mgu, 0.05)):
        walk = problem(cell, batch, steps, 9, 4, dtype, resets=resets)
        right(walk, operands_of(walk))


def test_short_sequences_share_tasks() -> None:
    walk = problem(cells.lstm, 300, 17, 5, 3, resets=0.2)
    right(walk, operands_of(walk))


def strided(a: Any) -> Any:
    """The same numbers with gaps, and backwards along the last axis."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::-2] = a
    return wide[..., ::-2]


@pytest.mark.parametrize("cell", [cells.gru, cells.lstm, cells.jordan], ids=lambda c: c.name)
@pytest.mark.parametrize("which", [0, 1, 3, 4, 5])
def test_operands_may_have_any_strides(cell: cells.Cell, which: int) -> None:
    walk = problem(cell, 2, 150, 17, 5)
    operands = operands_of(walk)
    expected = found(walk, operands)
    operands[which] = strided(operands[which])
    for one, other in zip(found(walk, operands), expected, strict=True):
        assert same(one, other)


def test_axes_may_lie_in_any_order() -> None:
    walk = problem(cells.gru, 3, 150, 17, 5, resets=0.1)
    operands = operands_of(walk)
    expected = found(walk, operands)
    for which in (0, 2, 4, 5):
        operands[which] = np.ascontiguousarray(operands[which].swapaxes(0, 1)).swapaxes(0, 1)
    for one, other in zip(found(walk, operands), expected, strict=True):
        assert same(one, other)


def test_an_input_that_sequences_share_gets_the_sum_of_their_gradients() -> None:
    walk = problem(cells.lstm, 3, 150, 17, 5)
    shared = walk._replace(x=walk.x[:1])
    operands = operands_of(walk._replace(x=np.repeat(shared.x, 3, axis=0)))
    operands[0] = shared.x
    right(shared, operands)


@pytest.mark.parametrize("batch", [1, 40])
def test_threads_change_no_bit(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_gather_plan, "THREAD_NANOSECONDS", 1)
    monkeypatch.setattr(threads, "usable_cores", lambda: 256)
    walk = problem(cells.lstm, batch, 5000 // batch, 17, 5)
    operands = operands_of(walk)
    alone, *others = (found(walk, operands, many) for many in (1, 2, 3, 5))
    for other in others:
        assert all(same(a, b) for a, b in zip(alone, other, strict=True))


@pytest.mark.parametrize("which", [0, 4, 5])
def test_nan_reaches_what_depends_on_it_and_nothing_else(which: int) -> None:
    walk = problem(cells.gru, 2, 300, 9, 4)
    operands = operands_of(walk)
    operands[which] = operands[which].copy()
    operands[which][1, 77, 2] = np.nan
    for one, other in zip(found(walk, operands), defined(walk, operands), strict=True):
        assert (np.isnan(one) == np.isnan(other)).all()
        assert np.isnan(other).any() or which == 0 or one.ndim == 3
        assert not np.isnan(other).all()


def chosen(walk: Walk) -> str:
    operands = [
        *walk.operands,
        *(np.zeros((*walk.x.shape[:2], n), walk.x.dtype) for n in (walk.spec.state, walk.spec.stored)),
    ]
    return choose(problem_of(BINDING, GRADIENTS, walk.spec, operands), Request()).kernel.label


def test_large_matrices_and_single_steps_are_for_the_framework() -> None:
    assert chosen(problem(cells.lstm, 1, 100, 32, 8)) == "host.products"
    assert chosen(problem(cells.lstm, 1, 15, 32, 8)) == "reference.products"
    assert chosen(problem(cells.lstm, 4, 100, 32, 8, models=4)) == "reference.products"
    assert chosen(problem(cells.lstm, 2, 1000, 512, 8)) == "reference.products"


def test_the_backward_pass_takes_its_gradients_from_here() -> None:
    walk = problem(cells.lstm, 2, 300, 17, 5)
    operands = operands_of(walk)
    g = np.random.default_rng(1).standard_normal(operands[4].shape).astype(np.float32)
    dx, _, dweights = backward(walk, operands[4], g)
    expected = found(walk, operands)
    assert same(dx, expected[0])
    assert same(dweights, expected[1])


def test_xla_calls_it_too() -> None:
    walk = problem(cells.gru, 2, 150, 9, 5, resets=0.1)
    operands = operands_of(walk)
    expected = found(walk, operands)
    call, _ = target(CellGradients(), walk.spec, operands, expected)
    for one, other in zip(call(*operands), expected, strict=True):
        assert same(one, other)
