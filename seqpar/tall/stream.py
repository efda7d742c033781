"""The R factor of a stream of rows: short blocks wait until they are worth a factorisation, long ones are walked by slices.

A factorisation of m rows below an R of N columns does the work of N + m rows: a block of 2 N wastes a third of it, one of 8 N a
ninth. A `Part` is never changed: whoever adds rows gets a new one, so that what fails on the way leaves the old one as it was.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError, OptionError, renamed
from seqpar.tall.factors import CHAIN, Factor, Recipe, carried, compiled, empty_factor
from seqpar.tall.lstsq_operation import real_of
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ran import TSQR

NAME = "LstsqAccumulator"

GATHERED = 8
"""Rows that wait to be factorised together, in columns."""

LEAST_GATHERED = 1024
"""Rows below which a call costs more than its factorisation, whatever the number of columns."""

SLICE = 1 << 22
"""Elements of a long block that are factorised at a time: 16 MB in float32."""


class Part(NamedTuple):
    """What is kept of the rows so far."""

    factors: tuple[Factor, ...]
    """R factors of [a | 1 | b], oldest first; none where no rows were factorised."""
    waiting: tuple[Array, ...]
    """Rows [a | 1 | b] behind those, weighted."""
    rows: int
    """How many there were, those that wait included."""
    ran: Array
    """What factorised the last block, a number of `seqpar.tall.ran`."""


def rows_at_a_time(columns: int, block_rows: int | None) -> tuple[int, int]:
    """How many rows are gathered, and how many of a long block are factorised at a time."""
    if block_rows is not None:
        return block_rows, block_rows
    gathered = max(GATHERED * columns, LEAST_GATHERED)
    return gathered, max(gathered, SLICE // columns)


def nothing(recipe: Recipe, like: Array) -> Part:
    """No rows at all."""
    return Part((), (), 0, recipe.binding.full(TSQR, (), "int32", like))


def with_rows(recipe: Recipe, part: Part, a: Array, b: Array, weights: Array | None) -> Part:
    """Rows a (m, n), b (m, k) and weights (m,) behind those of a part."""
    m, first = a.shape[0], 0
    if m >= recipe.gathered:
        part = settled(recipe, part)
    while m - first >= recipe.gathered:
        last = min(first + recipe.slice, m)
        part = _folded(recipe, part, *(_rows(x, first, last) for x in (a, b, weights)))
        first = last
    if first == m:
        return part
    block = [_rows(x, first, m) for x in (a, b, weights)]
    rows = compiled(recipe.binding, _joined, (recipe.binding, recipe.dtype, recipe.intercept), block)
    waiting = _doubled(recipe.binding, (*part.waiting, rows))
    part = part._replace(waiting=waiting, rows=part.rows + m - first)
    return settled(recipe, part) if sum(x.shape[0] for x in waiting) >= recipe.gathered else part


def settled(recipe: Recipe, part: Part) -> Part:
    """The same with no rows waiting."""
    if not part.waiting:
        return part
    xp = recipe.binding.namespace(part.waiting[0])
    rows = part.waiting[0] if len(part.waiting) == 1 else xp.concat(part.waiting, axis=0)
    done = part._replace(waiting=(), rows=part.rows - rows.shape[0])
    return _folded(recipe._replace(intercept=False), done, rows, None, None)


def merged(recipe: Recipe, part: Part, behind: Part) -> Part:
    """The rows of two parts, those of the second behind those of the first; neither has any waiting."""
    if not part.rows or not behind.rows:
        return part if part.rows else behind
    factors = carried(recipe, (*part.factors, *behind.factors))
    return Part(factors, (), part.rows + behind.rows, behind.ran)


def _rows(x: Array | None, first: int, last: int) -> Array | None:
    return x if x is None or (first, last) == (0, x.shape[0]) else x[first:last, ...]


def _folded(recipe: Recipe, part: Part, a: Array | None, b: Array | None, weights: Array | None) -> Part:
    assert a is not None
    m, forget, fading = a.shape[0], recipe.forget, None
    if forget != 1:
        powers = forget ** np.arange(m - 1.0, -1.0, -1.0)
        fading = recipe.binding.from_numpy(powers.astype(real_of(recipe.dtype)), a)
    factors = part.factors
    if factors and factors[-1].blocks < CHAIN:
        *others, last = factors
    else:
        others, last = list(carried(recipe, factors)) if factors else [], empty_factor(recipe, a)
    static = (recipe.binding, recipe.dtype, recipe.intercept, forget ** (m / 2), recipe.request)
    try:
        r, ran = compiled(recipe.binding, _factor, static, (a, b, weights, fading, last.r))
    except (NotEligibleError, OptionError) as error:
        raise renamed(error, R_FACTOR.name, NAME) from None
    return Part((*others, Factor(r, last.rows + m, last.blocks + 1)), (), part.rows + m, ran)


def _factor(
    static: tuple[Binding, str, bool, float, Request],
    a: Array,
    b: Array | None,
    weights: Array | None,
    fading: Array | None,
    seed: Array,
) -> tuple[Array, ...]:
    """R of the seed times a number, and of rows below it: a is read where it lies."""
    binding, dtype, intercept, keep, request = static
    a, b = _cast(binding, a, dtype), _with_ones(binding, a, b, dtype, intercept)
    if weights is not None:
        weights = _cast(binding, weights, real_of(dtype))
    if fading is not None:
        weights, seed = fading if weights is None else weights * fading, seed * keep
    return binding.call(R_FACTOR, Factorisation(), (a, b, weights, seed), request)


def _joined(static: tuple[Binding, str, bool], a: Array, b: Array | None, weights: Array | None) -> Array:
    """Rows of [a | 1 | b] in memory of their own, weighted."""
    binding, dtype, intercept = static
    xp = binding.namespace(a)
    rows = xp.concat(
        [_cast(binding, a, dtype), _with_ones(binding, a, b, dtype, intercept)],
        axis=-1,
    )
    if weights is None:
        return rows
    share = xp.sqrt(_cast(binding, weights, real_of(dtype)))
    return rows * xp.expand_dims(xp.astype(share, rows.dtype), axis=-1)


def _with_ones(binding: Binding, a: Array, b: Array | None, dtype: str, intercept: bool) -> Array | None:
    if b is None:
        return None
    b = _cast(binding, b, dtype)
    if not intercept:
        return b
    return binding.namespace(a).concat([binding.full(1.0, (b.shape[0], 1), dtype, a), b], axis=-1)


def _cast(binding: Binding, x: Array, dtype: str) -> Array:
    return binding.readable(x) if binding.dtype_name(x.dtype) == dtype else binding.cast(x, dtype)


def _doubled(binding: Binding, waiting: tuple[Array, ...]) -> tuple[Array, ...]:
    """The same rows in pieces that shrink, joined like the digits of a counter.

    Rows that come one at a time are copied log2 times, and compilers see a dozen shapes and not a thousand.
    """
    *pieces, last = waiting
    while pieces and pieces[-1].shape[0] <= last.shape[0]:
        last = binding.namespace(last).concat([pieces.pop(), last], axis=0)
    return (*pieces, last)
