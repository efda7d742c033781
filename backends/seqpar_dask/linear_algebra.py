"""Factorisations of small Dask matrices: tasks on whole matrices, one for each chunk of the leading axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np

from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra
from seqpar.tall.linear_algebra import linear_algebra
from seqpar_dask.grid import Result, arrays_of, grid_of, name_of, placed

Array = Any
Shape = tuple[int, ...]


class DaskLinearAlgebra(StandardLinearAlgebra):
    """What the blocks' own library has, on whole matrices; products as Dask does them."""

    def qr(self, a: Array) -> tuple[Array, Array]:
        m, n = a.shape[-2:]
        p = min(m, n)
        q, r = _apply("qr", (a,), [((m, p), a.dtype), ((p, n), a.dtype)])
        return q, r

    def r(self, a: Array) -> Array:
        m, n = a.shape[-2:]
        return _apply("r", (a,), [((min(m, n), n), a.dtype)])[0]

    def cholesky(self, g: Array) -> Array:
        return _apply("cholesky", (g,), [(g.shape[-2:], g.dtype)])[0]

    def solve_right(self, a: Array, r: Array) -> Array:
        return _apply("solve_right", (a, r), [(a.shape[-2:], a.dtype)])[0]

    def svd(self, a: Array) -> tuple[Array, Array, Array]:
        m, n = a.shape[-2:]
        p = min(m, n)
        real = np.empty((), a.dtype).real.dtype
        u, s, vh = _apply("svd", (a,), [((m, p), a.dtype), ((p,), real), ((p, n), a.dtype)])
        return u, s, vh


def on_matrices(
    what: str,
    function: Callable[..., Any],
    operands: Sequence[Array | None],
    own: Sequence[int],
    outs: Sequence[tuple[Shape, Any]],
) -> tuple[Array, ...]:
    """`function` of operands that have `own` axes of their own, which are not cut.

    Of its results `outs` has the own shapes and the dtypes.
    """
    grid = grid_of(operands, own)
    inputs = [
        None if x is None else placed(grid, x, *[(-1,)] * n) for x, n in zip(operands, own, strict=True)
    ]
    name = name_of(what, *inputs, function)
    graph: dict[Any, Any] = {}
    tasks: list[dict[Any, Any]] = [{} for _ in outs]
    for place in grid.places():
        blocks = [
            None if x is None else grid.block(x, place, *[0] * n) for x, n in zip(inputs, own, strict=True)
        ]
        graph[f"{name}-whole", *place] = (function, *blocks)
        for i, (shape, _) in enumerate(outs):
            tasks[i][f"{name}-{i}", *place, *[0] * len(shape)] = (getitem, (f"{name}-whole", *place), i)
    results = [
        (Result(f"{name}-{i}", (*grid.chunks, *((n,) for n in shape)), dtype), tasks[i])
        for i, (shape, dtype) in enumerate(outs)
    ]
    return arrays_of(name, graph, inputs, results)


def _apply(method: str, operands: Sequence[Array], outs: Sequence[tuple[Shape, Any]]) -> tuple[Array, ...]:
    # A product of conjugates or slices may be unknown to the blocks' library: they are plain blocks there.
    operands = [da.asarray(x) for x in operands]
    return on_matrices(method, partial(_call, method), operands, [2] * len(operands), outs)


def _call(method: str, *blocks: Array) -> tuple[Array, ...]:
    found = getattr(linear_algebra(blocks[0]), method)(*blocks)
    return found if isinstance(found, tuple) else (found,)
