"""The condition of a matrix from its R factor."""

from __future__ import annotations

from typing import Any

from seqpar.algorithms.signs import diagonal
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.tall.linear_algebra import linear_algebra

LARGEST_SVD = 512
"""Columns up to which the singular values of R are computed; beyond, the diagonal gives a lower bound. They take 0.1 s for 512
columns in float32 in one thread, four fifths of the R of 16 times as many rows, and 0.7 s for 1,024."""


def ratio(xp: Any, largest: Array, smallest: Array) -> Array:
    """largest / smallest, infinity beyond half of the largest number and for 0 / 0, without a warning; NaN where either is."""
    some = (smallest != 0) & ~(smallest <= largest / (xp.finfo(largest.dtype).max / 2))
    quotient = largest / xp.where(some, smallest, xp.ones_like(smallest))
    return xp.where(some, quotient, xp.where(xp.isnan(largest), largest, xp.full_like(largest, float("inf"))))


def condition_of(r: Array) -> Array:
    """The ratio of the largest singular value of r (..., p, n) to the smallest; 1 for a matrix without columns or rows."""
    binding = binding_for(type(r))
    xp = binding.namespace(r)
    p = min(r.shape[-2:])
    if p == 0:
        return xp.ones_like(xp.abs(xp.sum(r, axis=(-2, -1))))
    if r.shape[-1] <= LARGEST_SVD:
        s = linear_algebra(r).svd(r)[1]
        return ratio(xp, s[..., 0], s[..., -1])
    sizes = xp.abs(diagonal(xp, r[..., :p, :p]))
    return ratio(xp, xp.max(sizes, axis=-1), xp.min(sizes, axis=-1))
