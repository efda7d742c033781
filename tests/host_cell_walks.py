"""Cells walked by the host's kernels on NumPy arrays, as every call does it, and problems for them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqpar import cells
from seqpar.cells.operation import BACKWARD, CELL
from seqpar.cells.walk import CellWalk, packed, walk_of
from seqpar.dispatch.execute import execute
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.options import Request
from seqpar.dispatch.plain_bindings import NumpyBinding
from seqpar.dispatch.problem import Layout
from seqpar.testing.oracle import Array
from seqpar_host import CellShootingConfig
from seqpar_host.kernels import CellBackward, CellShootingBackward

BINDING = NumpyBinding()


class Walk(NamedTuple):
    """A call: the spec, and x (batch, T, m), h0 (batch, n), resets (batch, T) or None, weights (models or 1, w)."""

    spec: CellWalk
    x: Array
    h0: Array
    resets: Array | None
    weights: Array

    @property
    def operands(self) -> tuple[Array | None, ...]:
        return self.x, self.h0, self.resets, self.weights


def problem(
    cell: cells.Cell,
    batch: int,
    steps: int,
    hidden: int = 5,
    inputs: int = 3,
    dtype: str = "float32",
    *,
    models: int = 1,
    scale: float = 1.0,
    resets: float = 0.0,
    seed: int = 0,
) -> Walk:
    """A random one; `resets`: how many of the steps are some."""
    rng = np.random.default_rng(seed)
    sizes = {"outputs": hidden + 2} if cell.parts == ("outputs",) else {}
    rows = []
    for model in range(models):
        params = {k: (scale * v).astype(dtype) for k, v in cell.init(model, inputs, hidden, **sizes).items()}
        spec = walk_of(cell.program, cell.sizes(params))
        rows.append(packed(np, spec, params, params[next(iter(params))]))
    x = rng.standard_normal((batch, steps, inputs)).astype(dtype)
    h0 = (0.5 * rng.standard_normal((batch, spec.state))).astype(dtype)
    return Walk(spec, x, h0, rng.random((batch, steps)) < resets if resets else None, np.stack(rows))


def asked(method: str, chunk: int | None = None) -> Request:
    config = None if chunk is None else CellShootingConfig(chunk=chunk)
    return Request(method, "host", config)


def forward(walk: Walk, method: str = "sequential", chunk: int | None = None) -> tuple[Array, Array]:
    """(states, sweeps)."""
    states, sweeps = execute(BINDING, CELL, walk.spec, walk.operands, asked(method, chunk))
    return states, sweeps


def backward(
    walk: Walk, states: Array, g: Array, method: str = "sequential", chunk: int | None = None
) -> tuple[Array, ...]:
    """Gradients of x, h0 and the weights."""
    operands = (*walk.operands, states, g)
    return execute(BINDING, BACKWARD, walk.spec, operands, asked(method, chunk))


def written(
    walk: Walk, states: Array, g: Array, method: str = "sequential", chunk: int | None = None
) -> Sequence[Array]:
    """What the backward kernel itself writes, into memory that holds NaN before."""
    operands = (*walk.operands, states, g)
    metas = [None if a is None else Abstract(a.shape, a.dtype.name) for a in operands]
    results = [np.full(shape, np.nan, dtype) for shape, dtype in BACKWARD.raw(walk.spec, metas)]
    arrays = (*operands, *results)
    layouts = [None if a is None else Layout(a.shape, a.strides, a.dtype.name) for a in arrays]
    kernel = CellBackward() if method == "sequential" else CellShootingBackward()
    config = kernel.config() if chunk is None else kernel.config(chunk=chunk)
    kernel.bind(walk.spec, config, layouts)([0 if a is None else a.ctypes.data for a in arrays])
    return results


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, signs of zeros too; of NaN only that it is one."""
    one, other = np.array(one), np.array(other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        one[np.isnan(one)] = other[np.isnan(other)] = np.nan
    return one.tobytes() == other.tobytes()
