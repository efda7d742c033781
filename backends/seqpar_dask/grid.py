"""Dask arrays cut alike: leading axes of one size and one set of chunks, columns whole, and graphs over what results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

Array = Any
Key = tuple[Any, ...]
Chunks = tuple[tuple[int, ...], ...]


class Result(NamedTuple):
    """One array that a graph makes."""

    name: str
    chunks: Chunks
    dtype: Any


class Grid(NamedTuple):
    """Chunks of the leading axes, which every operand and result has."""

    chunks: Chunks

    def places(self) -> Iterator[tuple[int, ...]]:
        return product(*(range(len(sizes)) for sizes in self.chunks))

    def block(self, x: Array, place: tuple[int, ...], *own: int) -> Key:
        """The key of a chunk."""
        return (x.name, *place, *own)


def grid_of(operands: Sequence[Array | None], own: Sequence[int]) -> Grid:
    """The leading axes of operands that have `own` axes of their own, chunked as the first of full size is."""
    leads = [(x, x.ndim - n) for x, n in zip(operands, own, strict=True) if x is not None]
    rank = leads[0][1]
    chunks = []
    for axis in range(rank):
        full = next((x for x, _ in leads if x.shape[axis] != 1), leads[0][0])
        chunks.append(full.chunks[axis])
    return Grid(tuple(chunks))


def placed(grid: Grid, x: Array, *own: tuple[int, ...] | None) -> Array:
    """x on the grid, its own axes in the chunks given; None leaves them as they are, (-1,) puts them into one."""
    lead = tuple(sum(sizes) for sizes in grid.chunks)
    tail = x.shape[len(lead) :]
    if x.shape[: len(lead)] != lead:
        x = da.broadcast_to(x, (*lead, *tail))
    wanted: dict[int, Any] = dict(enumerate(grid.chunks))
    for axis, chunks in enumerate(own, start=len(lead)):
        if chunks is not None:
            wanted[axis] = (x.shape[axis],) if chunks == (-1,) else chunks
    changed = {axis: chunks for axis, chunks in wanted.items() if x.chunks[axis] != chunks}
    return x.rechunk(changed) if changed else x


def whole_columns(x: Array) -> Array:
    """x with its columns in one chunk, and as much shorter chunks of rows, so that none becomes larger than it was."""
    pieces = len(x.chunks[-1])
    if pieces == 1:
        return x
    if any(math.isnan(n) for n in x.chunks[-2]):
        return x.rechunk({x.ndim - 1: -1})
    rows = [n for size in x.chunks[-2] for n in _shares(size, pieces)]
    return x.rechunk({x.ndim - 2: tuple(rows), x.ndim - 1: -1})


def _shares(size: int, pieces: int) -> list[int]:
    step = -(-size // pieces)
    return [min(step, size - i) for i in range(0, size, step)] if size else [0]


def name_of(what: str, *determined_by: Any) -> str:
    """The prefix of the names in a graph: equal for equal calls."""
    return f"seqpar-{what}-{tokenize(*[x.name if isinstance(x, da.Array) else x for x in determined_by])}"


def arrays_of(
    name: str,
    graph: dict[Any, Any],
    inputs: Sequence[Array | None],
    results: Sequence[tuple[Result, dict[Any, Any]]],
) -> tuple[Array, ...]:
    """Arrays whose chunks are tasks of their own over one common graph, so that what nobody asks for is not done."""
    given = [x for x in inputs if x is not None]
    common = HighLevelGraph.from_collections(f"{name}-tree", graph, dependencies=given)
    made = []
    for result, tasks in results:
        layers = {**common.layers, result.name: tasks}
        needs = {**common.dependencies, result.name: {f"{name}-tree"}}
        # Of the inputs' kind, which may not be NumPy's; casting would warn where complex numbers have real results.
        meta = np.empty_like(meta_from_array(given[0]._meta, ndim=len(result.chunks)), dtype=result.dtype)
        made.append(da.Array(HighLevelGraph(layers, needs), result.name, result.chunks, meta=meta))
    return tuple(made)
