"""Cells in Triton kernels, called on NumPy arrays in Triton's interpreter, and the definition beside them."""

from typing import Any

import numpy as np

from seqpar.cells.cell import Cell
from seqpar.cells.operation import BACKWARD, CELL, backward, sequential
from seqpar.cells.walk import CellWalk, packed, walk_of
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.problem import Layout
from seqpar_triton.cell_kernels import CellBackward, CellSequential
from seqpar_triton.configs import CellConfig

PLAIN = CellConfig()


def problem(
    cell: Cell,
    n: int,
    m: int,
    lead: tuple[int, ...],
    steps: int,
    *,
    resets: bool = False,
    models: tuple[int, ...] | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> tuple[CellWalk, list[Any]]:
    """A walk, and its operands x, h0, resets, weights."""
    rng = np.random.default_rng(seed)
    sizes = {name: m if name == "inputs" else n for name in spaces_of(cell)}
    spec = walk_of(cell.program, sizes)
    models = models or (1,) * len(lead)
    rows = []
    for _ in range(int(np.prod(models))):
        drawn = {p.name: rng.uniform(-1, 1, p.shape(sizes)) / np.sqrt(n) for p in cell.program.parameters}
        rows.append(packed(np, spec, drawn, np.zeros(())))
    weights = np.reshape(np.stack(rows), (*models, -1)).astype(dtype)
    x = rng.standard_normal((*lead, steps, m)).astype(dtype)
    h0 = rng.standard_normal((*lead, spec.state)).astype(dtype)
    marks = rng.random((*lead, steps)) < 0.3 if resets else None
    return spec, [x, h0, marks, weights]


def spaces_of(cell: Cell) -> set[str]:
    return {"inputs", *(p.columns for p in cell.program.parameters)}


def run(kernel: Any, spec: CellWalk, config: Any, arrays: list[Any]) -> None:
    """One launch over memory."""
    layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in arrays]
    scratch = [np.full(shape, 7, dtype) for shape, dtype in kernel.scratch(spec, config, layouts)]
    launch = kernel.bind(spec, config, layouts)
    launch([0 if x is None else x.ctypes.data for x in (*arrays, *scratch)])


def blank(shapes: Any) -> list[Any]:
    """Memory in which nothing is right yet."""
    return [np.full(shape, -7 if dtype == "int32" else np.nan, dtype) for shape, dtype in shapes]


def abstract(arrays: list[Any]) -> list[Any]:
    return [None if x is None else Abstract(x.shape, x.dtype.name) for x in arrays]


def walk(spec: CellWalk, operands: list[Any], config: Any = PLAIN, kernel: Any = None) -> list[Any]:
    """(states, sweeps)."""
    results = blank(CELL.abstract(spec, abstract(operands)))
    run(kernel or CellSequential(), spec, config, [*operands, *results])
    return results


def walk_back(
    spec: CellWalk, operands: list[Any], states: Any, g: Any, config: Any = PLAIN, kernel: Any = None
) -> tuple[Any, ...]:
    """(dx, dh0, dweights)."""
    given = [*operands, states, g]
    results = blank(BACKWARD.raw(spec, abstract(given)))
    run(kernel or CellBackward(), spec, config, [*given, *results])
    assert not any(np.isnan(x).any() for x in results) or np.isnan(g).any() or np.isnan(states).any()
    return BACKWARD.finish(np, spec, given, tuple(results))


def wide(operands: list[Any]) -> list[Any]:
    """The same in float64."""
    return [x if x is None or x.dtype == bool else x.astype("float64") for x in operands]


def check(
    spec: CellWalk, operands: list[Any], config: Any = PLAIN, kernels: tuple[Any, Any] = (None, None)
) -> None:
    """Both passes against the definition in float64: rounding of a float32 step, relative to what is largest."""
    dtype = operands[0].dtype
    states, sweeps = walk(spec, operands, config, kernels[0])
    wanted, _ = sequential(np, spec, *wide(operands))
    within = 40 * np.finfo(dtype).eps
    assert np.all(sweeps >= 1)
    np.testing.assert_allclose(states, wanted, rtol=0, atol=within * max(1.0, np.abs(wanted).max()))
    g = np.random.default_rng(9).standard_normal(states.shape).astype(dtype)
    found = walk_back(spec, operands, states, g, config, kernels[1])
    right = backward(np, spec, *wide(operands), states.astype("float64"), g.astype("float64"))
    for name, x, y in zip(BACKWARD.results, found, right, strict=True):
        assert x.dtype == dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=2 * within * np.abs(y).max(), err_msg=name)
