"""R factors of the rows of a stream, oldest first, merged like the digits of a counter.

Every block folded into one and the same R rounds it once more: in float32 the R of 6 million rows in 6,000 blocks was off by
2,000 units of rounding, since what a block adds to a large number loses its last digits. So only `CHAIN` blocks go into one R,
and R factors of as many blocks are merged: a row is rounded log2 times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.dispatch.problem import Array
from seqpar.solving.bindings import solver_of
from seqpar.tall.lstsq_operation import real_of
from seqpar.tall.operations import R_FACTOR, Factorisation

CHAIN = 16
"""Blocks that are folded into one R before it counts as a digit."""


class Recipe(NamedTuple):
    """How rows become an R factor."""

    binding: Binding
    dtype: str
    columns: int
    """Those of [a | 1 | b]."""
    intercept: bool
    forget: float
    """The weight that rows lose with every row behind them."""
    gathered: int
    """Rows that wait to be factorised together."""
    slice: int
    """Rows of a long block that are factorised at a time."""
    request: Request


class Factor(NamedTuple):
    """The R factor of some rows that follow each other."""

    r: Array
    """(columns, columns), with zeros below where there were fewer rows."""
    rows: int
    blocks: int
    """How many factorisations it took."""


def empty_factor(recipe: Recipe, like: Array) -> Factor:
    """That of no rows."""
    n = recipe.columns
    return Factor(recipe.binding.full(0.0, (n, n), recipe.dtype, like), 0, 0)


def carried(recipe: Recipe, factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """The same rows, the last factors merged until each took fewer blocks than the one before it."""
    *others, last = factors
    while others and others[-1].blocks <= last.blocks:
        last = joined(recipe, others.pop(), last)
    return (*others, last)


def whole(recipe: Recipe, factors: Sequence[Factor]) -> Array:
    """The R factor of all rows, the small ones merged first."""
    *others, last = factors
    while others:
        last = joined(recipe, others.pop(), last)
    return last.r


def joined(recipe: Recipe, factor: Factor, behind: Factor) -> Factor:
    """That of the rows of two, the first of which have lost weight since."""
    binding, keep = recipe.binding, None
    if recipe.forget != 1:
        # An array and not a constant: one compiled program for any number of rows.
        keep = binding.full(recipe.forget ** (behind.rows / 2), (), real_of(recipe.dtype), factor.r)
    r = compiled(binding, _below, (binding,), (factor.r, behind.r, keep))
    return Factor(r, factor.rows + behind.rows, factor.blocks + behind.blocks)


def compiled(
    binding: Binding, function: Callable[..., Any], static: tuple[Any, ...], arrays: Sequence[Any]
) -> Any:
    """`function(static, *arrays)` as one program, where the framework compiles."""
    with np.errstate(all="ignore"):
        return solver_of(binding).as_one_program(function, static, static, arrays)


def _below(static: tuple[Binding], r: Array, behind: Array, keep: Array | None) -> Array:
    (binding,) = static
    if keep is not None:
        r = r * binding.namespace(r).astype(keep, r.dtype)
    return binding.call(R_FACTOR, Factorisation(), (behind, None, None, r), NO_WISH)[0]
