"""Kernels for Dask arrays: QR and R alone as a tree over chunks of rows, least squares from R as one task.

The graph has a few tasks for each chunk and for each merge of `arity` R factors, in the order of the chunks. Chunks of rows
may be of any size, empty ones too. Columns have to be in one chunk, so they are brought together, and rows cut as much
shorter: no chunk gets larger than it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from seqpar.dispatch.execute import abstract
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.knobs import knob, powers_of_two
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts
from seqpar.errors import ShapeError
from seqpar.tall.lstsq_operation import LSTSQ, LeastSquares
from seqpar_dask import tree
from seqpar_dask.grid import Grid, Result, arrays_of, grid_of, name_of, placed, whole_columns
from seqpar_dask.linear_algebra import on_matrices

Results = tuple[Array, ...]
Graph = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class TreeConfig:
    """How R factors are merged."""

    arity: int = knob(8, tries=powers_of_two(2, 64))
    """How many at a time."""


class QRByChunks(Kernel):
    """Q and R: every chunk by itself, R factors up a tree, and down again what each chunk's Q is multiplied by."""

    operation = "qr"
    backend = "dask"
    method = "tree"
    form = "arrays"
    config = TreeConfig
    of_chunks: ClassVar[str] = "auto"
    """The method that chunks are factorised by."""
    summary = "chunks of rows by what suits them, merged by a tree"

    def refuses(self, problem: Problem, config: TreeConfig) -> str | None:
        return wrong_counts(config, 2, "number of R factors")

    def rank(self, problem: Problem) -> float:
        return 1.0

    def run(self, xp: Any, spec: Any, config: TreeConfig, operands: Sequence[Array | None]) -> Results:
        a = whole_columns(operands[0])
        grid, heights, n = Grid(a.chunks[:-2]), a.chunks[-2], a.shape[-1]
        name = name_of("qr", a, config, self.of_chunks)
        p = n if any(m != m for m in heights) else min(sum(heights), n)
        graph: Graph = {}
        r_tasks: Graph = {}
        q_tasks: Graph = {}
        ran_tasks: Graph = {}
        chunk = partial(tree.qr_of_chunk, Request(self.of_chunks))
        promised = p if p == n else None
        for place in grid.places():
            leaves = [(f"{name}-chunk", *place, i) for i in range(len(heights))]
            graph |= {leaf: (chunk, grid.block(a, place, i, 0)) for i, leaf in enumerate(leaves)}
            top, turns = _climbed(name, place, leaves, config.arity, graph)
            r_tasks[f"{name}-r", *place, 0, 0] = (partial(tree.enough_rows, columns=promised), top)
            ran_tasks[f"{name}-ran", *place] = (tree.ran_of, top)
            for i, (leaf, turn) in enumerate(zip(leaves, turns, strict=True)):
                q_tasks[f"{name}-q", *place, i, 0] = (tree.turned, leaf, turn)
        results = (
            (Result(f"{name}-q", (*grid.chunks, heights, (p,)), a.dtype), q_tasks),
            (Result(f"{name}-r", (*grid.chunks, (p,), (n,)), a.dtype), r_tasks),
            (Result(f"{name}-ran", grid.chunks, np.dtype("int32")), ran_tasks),
        )
        return arrays_of(name, graph, (a,), results)


class RByChunks(QRByChunks):
    """R alone: no chunk's Q is ever formed."""

    operation = "r_factor"

    def run(self, xp: Any, spec: Any, config: TreeConfig, operands: Sequence[Array | None]) -> Results:
        a, b, weights, seed = operands
        grid = grid_of(operands, (2, 2, 1, 2))
        a = placed(grid, whole_columns(a), None, (-1,))
        heights = a.chunks[-2]
        b = None if b is None else placed(grid, b, heights, (-1,))
        weights = None if weights is None else placed(grid, weights, heights)
        seed = None if seed is None else placed(grid, seed, (-1,), (-1,))
        n = a.shape[-1] + (0 if b is None else b.shape[-1])
        rows = sum(heights) + (0 if seed is None else seed.shape[-2])
        p = n if rows != rows else min(rows, n)
        name = name_of("r", a, b, weights, seed, config, self.of_chunks)
        chunk = partial(tree.r_of_chunk, Request(self.of_chunks))
        graph: Graph = {}
        r_tasks: Graph = {}
        ran_tasks: Graph = {}
        for place in grid.places():
            keys = [(f"{name}-chunk", *place, i) for i in range(len(heights))]
            for i, key in enumerate(keys):
                graph[key] = (
                    chunk,
                    grid.block(a, place, i, 0),
                    None if b is None else grid.block(b, place, i, 0),
                    None if weights is None else grid.block(weights, place, i),
                )
            above = None if seed is None else grid.block(seed, place, 0, 0)
            level = 0
            while len(keys) > 1 or above is not None:
                groups = _groups(keys, config.arity)
                keys = [(f"{name}-merged-{level}", *place, j) for j in range(len(groups))]
                for j, group in enumerate(groups):
                    graph[keys[j]] = (tree.merged_r, above if j == 0 else None, group)
                above, level = None, level + 1
            r_tasks[f"{name}-r", *place, 0, 0] = (
                partial(tree.r_in_full, columns=n if rows != rows else None),
                keys[0],
            )
            ran_tasks[f"{name}-ran", *place] = (tree.ran_of, keys[0])
        results = (
            (Result(f"{name}-r", (*grid.chunks, (p,), (n,)), a.dtype), r_tasks),
            (Result(f"{name}-ran", grid.chunks, np.dtype("int32")), ran_tasks),
        )
        return arrays_of(name, graph, (a, b, weights, seed), results)


def _groups(keys: list[Any], arity: int) -> list[list[Any]]:
    return [keys[i : i + arity] for i in range(0, len(keys), arity)]


def _climbed(
    name: str, place: tuple[int, ...], leaves: list[Any], arity: int, graph: Graph
) -> tuple[Any, list[Any]]:
    """Add merges of the leaves' R factors to a graph: the key of the last, and of what each leaf's Q is multiplied by."""
    levels: list[tuple[list[Any], list[Any]]] = []
    keys = [(f"{name}-factor", *place, i) for i in range(len(leaves))]
    graph |= {key: (tree.factor_of, leaf) for key, leaf in zip(keys, leaves, strict=True)}
    while len(keys) > 1:
        level = len(levels)
        groups = _groups(keys, arity)
        nodes = [(f"{name}-node-{level}", *place, j) for j in range(len(groups))]
        keys = [(f"{name}-factor-{level}", *place, j) for j in range(len(groups))]
        graph |= {node: (tree.merged_qr, group) for node, group in zip(nodes, groups, strict=True)}
        graph |= {key: (tree.factor_of, node) for key, node in zip(keys, nodes, strict=True)}
        levels.append((nodes, groups))
    turns: list[Any] = [None]
    for level, (nodes, groups) in reversed(list(enumerate(levels))):
        below: list[Any] = []
        for node, group, turn in zip(nodes, groups, turns, strict=True):
            for j in range(len(group)):
                key = (f"{name}-turn-{level}", *place, len(below))
                graph[key] = (tree.turn_of_part, node, j, turn)
                below.append(key)
        turns = below
    return keys[0], turns


# --- the same with one method for the chunks -----------------------------------------------------------------------------


class _Tsqr(QRByChunks):
    method = of_chunks = "tsqr"
    summary = "chunks of rows by blocks and a tree, merged by a tree"

    def rank(self, problem: Problem) -> float:
        return 4.0


class _TsqrR(RByChunks):
    method = of_chunks = "tsqr"
    summary = _Tsqr.summary
    rank = _Tsqr.rank


class _Cholesky(QRByChunks):
    method = of_chunks = "cholesky"
    summary = "chunks of rows by Cholesky QR, merged by a tree"

    def rank(self, problem: Problem) -> float:
        return 2.0


class _CholeskyR(RByChunks):
    method = of_chunks = "cholesky"
    summary = _Cholesky.summary
    rank = _Cholesky.rank


class _Native(QRByChunks):
    method = of_chunks = "native"
    summary = "chunks of rows by their library's own factorisation, merged by a tree"

    def rank(self, problem: Problem) -> float:
        return 3.0


class _NativeR(RByChunks):
    method = of_chunks = "native"
    summary = _Native.summary
    rank = _Native.rank


# --- from R -------------------------------------------------------------------------------------------------------------


class FromR(Kernel):
    """Least squares from an R factor: one task for each chunk of the leading axes."""

    operation = "lstsq"
    backend = "dask"
    method = "svd"
    form = "arrays"
    summary = "the singular values of R, in one task"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 1.0

    def run(self, xp: Any, spec: LeastSquares, config: Any, operands: Sequence[Array | None]) -> Results:
        a, _, ridge, _, r = operands
        assert a is not None
        assert r is not None
        n = a.shape[-1]
        binding = binding_for(type(r))
        # The rows of R have the Gram matrix of the rows that it was made of, and are as good as they.
        whole = (r[..., :n], r[..., n:], ridge, None, r)
        metas = [abstract(binding, x) for x in whole]
        outs = [(meta.shape[r.ndim - 2 :], np.dtype(meta.dtype)) for meta in LSTSQ.abstract(spec, metas)]
        return on_matrices("lstsq", partial(_from_r, spec, n), (r, ridge), (2, 1), outs)


def _from_r(spec: LeastSquares, n: int, r: Array, ridge: Array | None) -> Results:
    operands = (r[..., :n], r[..., n:], ridge, None, r)
    return binding_for(type(r)).call(LSTSQ, spec, operands, NO_WISH)


TREES = (QRByChunks(), RByChunks(), _Tsqr(), _TsqrR(), _Cholesky(), _CholeskyR(), _Native(), _NativeR())
KERNELS = (*TREES, FromR())


def of_unknown_rows(operation: str, method: str) -> Kernel:
    """The kernel of a method that can do without the number of rows; of "auto" the first, of an unknown one too."""
    trees = [kernel for kernel in TREES if kernel.operation == operation]
    if trees:
        return next((kernel for kernel in trees if kernel.method == method), trees[0])
    raise ShapeError(
        f"{operation}: the number of rows is not known yet. Find it out first: x.compute_chunk_sizes() in Dask."
    )
