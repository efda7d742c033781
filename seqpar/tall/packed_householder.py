"""The definition of packed Householder vectors (`seqpar.tall.packing`) in the array API: kernels are tested against it.

Columns are first divided by powers of two, so that squares neither overflow nor vanish; that changes no reflection, and R has
its columns multiplied again. With alpha the pivot, x what lies below it, and beta = -sign(alpha) |(alpha, x)|,

    d = 1 / (alpha - beta)         tau = (beta - alpha) / beta         v = d (alpha - beta, x)         H = I - tau v v^T

A block under R is [R; block] here, and alpha - beta, which has its place in R, is not kept. Zeros have d = tau = 0.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from seqpar.algorithms.arrays import broadcast_shape, filled
from seqpar.algorithms.matrices import matrix_transpose
from seqpar.algorithms.signs import diagonal
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.packing import PANEL, RECORD, Block, Packing

Found = dict[Block, Array]


def factorised(xp: Any, a: Array) -> tuple[Array, Array, Array, Array]:
    """v, t, signs and r of a real a (..., m, n), m >= n >= 1."""
    m, n = a.shape[-2:]
    of = Packing(m, n, binding_for(type(a)).dtype_name(a.dtype))
    scale = _powers(xp, a)
    a = a / scale
    kept: Found = {}
    records: Found = {}
    factors: list[Array] = []
    for part in range(of.parts):
        r = a[..., :0, :]
        for block in of.chain(part):
            rows = a[..., block.start : block.start + block.rows, :]
            kept[block], records[block], r = _folded(xp, of, block, xp.concat([r, rows], axis=-2))
        factors.append(r)
    r = factors[0]
    for part in range(1, of.parts):
        block = of.merge(part)
        kept[block], records[block], r = _folded(xp, of, block, xp.concat([r, factors[part]], axis=-2))
    here = diagonal(xp, r)
    signs = xp.where(here < 0, -xp.ones_like(here), xp.ones_like(here))
    r = signs[..., None] * r * scale
    r = xp.where(r == 0, xp.zeros_like(r), r)  # no zero has a sign
    finite = xp.all(xp.isfinite(r), axis=(-2, -1))[..., None]
    r = xp.where(finite[..., None], r, xp.full_like(r, xp.nan))
    return (
        _rows(xp, of, kept),
        _records(xp, of, records),
        xp.where(finite, signs, xp.full_like(signs, xp.nan)),
        r,
    )


def multiplied(xp: Any, v: Array, t: Array, signs: Array, x: Array, rows: int, flipped: bool) -> Array:
    """Q x for x (..., n, k), or Q^T x for x (..., m, k)."""
    n = v.shape[-1]
    of = Packing(rows, n, binding_for(type(v)).dtype_name(v.dtype))
    lead = broadcast_shape(v.shape[:-2], x.shape[:-2])
    x, signs = xp.broadcast_to(x, (*lead, *x.shape[-2:])), signs[..., None]

    def reflected(block: Block, top: Array, below: Array) -> tuple[Array, Array]:
        found = _reflected(xp, of, v, t, block, xp.concat([top, below], axis=-2), flipped)
        return found[..., :n, :], found[..., n:, :]

    if flipped:
        tops = []
        for part in range(of.parts):
            top = x[..., :0, :]
            for block in of.chain(part):
                top, _ = reflected(block, top, x[..., block.start : block.start + block.rows, :])
            tops.append(top)
        for part in range(1, of.parts):
            tops[0], _ = reflected(of.merge(part), tops[0], tops[part])
        return signs * tops[0]
    top, tops = signs * x, []
    for part in reversed(range(1, of.parts)):
        top, below = reflected(of.merge(part), top, xp.zeros_like(top))
        tops.append(below)
    tops.append(top)
    pieces = []
    for part, top in zip(reversed(range(of.parts)), tops, strict=True):
        for block in reversed(list(of.chain(part))):
            height = block.rows if block.on_top else block.rows - n
            zeros = filled(xp, (*lead, height, x.shape[-1]), 0.0, x, x.dtype)
            top, below = reflected(block, top, zeros)
            pieces.append(below)
        pieces.append(top)
    return xp.concat(pieces[::-1], axis=-2)


def _folded(xp: Any, of: Packing, block: Block, rows: Array) -> tuple[Array, Array, Array]:
    """What is kept of a block (..., rows, n), its records (..., panels, RECORD) and R, of [R; block]."""
    n, least = of.n, xp.finfo(rows.dtype).smallest_normal * 2.0**26
    down, along = _counted(xp, rows.shape[-2], rows)[:, None], _counted(xp, n, rows)
    columns, factors, taus = [], [], []
    for j in range(n):
        x = xp.where(down >= j, rows[..., :, j : j + 1], xp.zeros_like(rows[..., :, :1]))
        alpha, square = x[..., j : j + 1, :], xp.sum(x * x, axis=-2, keepdims=True)
        none, one, zero = square < least, xp.ones_like(square), xp.zeros_like(square)
        norm = xp.sqrt(square)
        beta = xp.where(none, alpha, xp.where(alpha < 0, norm, -norm))
        apart = alpha - beta
        factors.append(xp.where(none, zero, one / xp.where(none, one, apart)))
        taus.append(xp.where(none, zero, -apart / xp.where(none, one, beta)))
        columns.append(xp.where(down == j, apart, x))
        v = factors[j] * columns[j]
        rows = rows - v * (taus[j] * xp.sum(v * rows, axis=-2, keepdims=True))
        rows = xp.where(along == j, xp.where(down == j, beta, xp.where(down > j, zero, rows)), rows)
    x, d = xp.concat(columns, axis=-1), xp.concat(factors, axis=-1)
    records = [_record(xp, x * d, d, taus, first) for first in range(0, n, PANEL)]
    return x[..., n if block.on_top else 0 :, :], xp.stack(records, axis=-2), rows[..., :n, :]


def _record(xp: Any, v: Array, d: Array, taus: list[Array], first: int) -> Array:
    """The record of a panel: T by columns, each -tau T (V^T v) and tau, and d."""
    stop = min(first + PANEL, v.shape[-1])
    t = v[..., :0, :0]
    for j in range(first, stop):
        across = _product(matrix_transpose(xp, v[..., :, first:j]), v[..., :, j : j + 1])
        above = xp.concat([t, -taus[j] * _product(t, across)], axis=-1) if j > first else taus[j]
        t = above if j == first else xp.concat([above, _row(xp, taus[j], j - first)], axis=-2)
    t = _wide(xp, _wide(xp, t, -1), -2)
    by_columns = xp.reshape(matrix_transpose(xp, t), (*t.shape[:-2], PANEL * PANEL))
    return xp.concat([by_columns, _wide(xp, d[..., 0, first:stop], -1)], axis=-1)


def _row(xp: Any, last: Array, zeros: int) -> Array:
    """Zeros, and a number after them."""
    return xp.concat([filled(xp, (*last.shape[:-1], zeros), 0.0, last, last.dtype), last], axis=-1)


def _wide(xp: Any, x: Array, axis: int) -> Array:
    """Zeros after an axis, up to the width of a panel."""
    shape = list(x.shape)
    shape[axis] = PANEL - shape[axis]
    return xp.concat([x, filled(xp, tuple(shape), 0.0, x, x.dtype)], axis=axis)


def _reflected(xp: Any, of: Packing, v: Array, t: Array, block: Block, rows: Array, flipped: bool) -> Array:
    """The product of a block's H, or of its transpose, with [top; rows], or in a head with rows."""
    n, firsts = of.n, range(0, of.n, PANEL)
    kept = xp.reshape(v[..., block.start : block.start + block.rows, :], (*v.shape[:-2], n, block.rows))
    for first in firsts if flipped else reversed(firsts):
        stop = min(first + PANEL, n)
        record = t[..., block.part, block.record, first // PANEL, :]
        triangle = xp.reshape(record[..., : PANEL * PANEL], (*record.shape[:-1], PANEL, PANEL))
        triangle = triangle[..., : stop - first, : stop - first]
        x = matrix_transpose(xp, kept[..., first:stop, :])
        if block.on_top:
            above = _counted(xp, n, x)[:, None] == _counted(xp, n, x)[first:stop]
            above = xp.broadcast_to(xp.astype(above, x.dtype), (*x.shape[:-2], n, stop - first))
        else:
            # What lies before the panel's own rows is not looked at.
            x = xp.where(_counted(xp, block.rows, x)[:, None] >= first, x, xp.zeros_like(x))
            above = x[..., :0, :]
        panel = xp.concat(
            [above, x * record[..., None, PANEL * PANEL : RECORD - PANEL + stop - first]], axis=-2
        )
        # T lies by columns, so that it is T^T that was read.
        small = triangle if flipped else matrix_transpose(xp, triangle)
        rows = rows - _product(panel, _product(small, _product(matrix_transpose(xp, panel), rows)))
    return rows


def _rows(xp: Any, of: Packing, kept: Found) -> Array:
    """v, row-major: NumPy would leave a single square block by columns."""
    lead = next(iter(kept.values())).shape[:-2]
    flat = [
        xp.reshape(matrix_transpose(xp, kept[block]), (*lead, block.rows * of.n)) for block in sorted(kept)
    ]
    return xp.reshape(xp.concat(flat, axis=-1), (*lead, of.rows, of.n))


def _records(xp: Any, of: Packing, records: Found) -> Array:
    """t, with zeros for records that no block has."""
    by_place = {(block.part, block.record): x for block, x in records.items()}
    nothing = xp.zeros_like(next(iter(records.values())))
    return xp.stack(
        [
            xp.stack([by_place.get((part, i), nothing) for i in range(of.records)], axis=-3)
            for part in range(of.parts)
        ],
        axis=-4,
    )


def _powers(xp: Any, a: Array) -> Array:
    """A power of two near the largest number of each column; 1 for zeros and for what is not finite."""
    largest = xp.max(xp.abs(a), axis=-2, keepdims=True)
    fit = (largest > 0) & xp.isfinite(largest)
    return 2 ** xp.floor(xp.log2(xp.where(fit, largest, xp.ones_like(largest))))


def _counted(xp: Any, count: int, like: Array) -> Array:
    return xp.arange(count, device=device(like))


def _product(x: Array, y: Array) -> Array:
    return linear_algebra(x).product(x, y)
