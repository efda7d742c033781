"""What a chunk of a linear recurrence does to the state that enters it, when its coefficients are numbers.

The slope of a chunk is the product of its coefficients, rescaled. The product is not the whole story: a state that the
definition loses to underflow half-way, or that overflows there, would come back to life in a long product. A larger state
overflows sooner and is lost later, so two bounds say it all: below one the state is lost, above the other it overflows,
first. Worked example in float32, coefficients 1e-30, 1e-30, 1e30, 1e30, product 1: a state of 1 is lost (1e-60 is not a
number), one of 1e20 survives (1e-40 is), none overflows; the bounds are about 2e16 and infinity. A chunk of the same four in
another order, 1e30 first, has 0 and about 3e-22.
"""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import double_of
from seqpar.algorithms.crossing import Coefficients, Transfer
from seqpar.algorithms.pairs import reduced
from seqpar.algorithms.scaled import Scaled, multipliers, narrowed, scaled, times

Array = Any

__all__ = [
    "NUMBERS",
    "Passage",
    "Slope",
    "Transfer",
    "carried",
    "joined_slope",
    "passage_of",
    "slope_of",
]


class Slope(NamedTuple):
    """The product of a chunk's coefficients; log |product|; log |k| below which k is lost, and above which it overflows.

    The logarithms only judge what is lost on the way, they never enter a result. lost <= overflow, always.
    """

    product: Scaled
    size: Array
    lost: Array
    overflow: Array


class Passage(NamedTuple):
    """A transfer in plain numbers, ready to be applied: |k| below `lost` becomes 0, above `overflow` infinity."""

    factors: tuple[Array, ...]
    lost: Array
    overflow: Array
    offset: Array
    dropped: Array | None


# Stands for log(0): every finite state is lost. A sum of 1e8 of them is a float32 still.
_LOG_ZERO = -1e30


def slope_of(xp: Any, c: Array, axis: int, count: int, reverse: bool) -> Slope:
    """The slope of `count` coefficients along `axis`, which stays with size 1; one coefficient may stand for all.

    That one is multiplied in double precision, also when chunks are joined. Errors of squaring all point the same way: with
    a complex constant of size 1, 65,536 steps in single precision err by 1e-3 of the state, a loop by 3e-5.
    """
    size = xp.abs(c)
    zero = size == 0
    size = xp.log(xp.where(zero, xp.ones_like(size), size))
    size = xp.where(zero, xp.full_like(size, _LOG_ZERO), size)
    least, end = _range(xp, size)
    wide = double_of(xp, c.dtype, c) if c.shape[axis] == 1 else c.dtype
    x = Slope(scaled(xp, xp.astype(c, wide, copy=False)), size, least - size, end - size)
    return reduced(xp, joined_slope, x, axis, count, reverse)


def carried(xp: Any, k: Array, passage: Passage) -> Array:
    """The state after a chunk. What is lost is deselected, never multiplied by 0: it may be NaN."""
    size = xp.abs(k)
    k = k * xp.where(size > passage.overflow, xp.full_like(size, float("inf")), xp.ones_like(size))
    k = xp.where(size < passage.lost, xp.zeros_like(k), k)
    for factor in passage.factors:
        k = k * factor
    k = k + passage.offset
    return k if passage.dropped is None else xp.where(passage.dropped, passage.offset, k)


def passage_of(xp: Any, transfer: Transfer) -> Passage:
    through = transfer.slope
    lost, overflow = _from_log(xp, through.lost), _from_log(xp, through.overflow)
    product = narrowed(xp, through.product, transfer.offset.dtype)
    return Passage(multipliers(xp, product), lost, overflow, transfer.offset, transfer.dropped)


def _range(xp: Any, x: Array) -> tuple[float, float]:
    """Logarithms of the smallest number that still counts, 2**-145 or 2**-1070, and of the end of the range, 2**128 or 2**1024.

    Below that fewer than five bits are left, and rounding alone decides whether the definition keeps a state. It counts as
    lost, so that it cannot grow to infinity where the definition lost it. The end leaves room for the rounding of logarithms.
    """
    least, end = (-1070, 1024) if x.dtype == xp.float64 else (-145, 128)
    return least * log(2), end * log(2) + 0.01


def _from_log(xp: Any, x: Array) -> Array:
    """exp(x), or infinity at the end of the range without passing through an overflow."""
    beyond = x >= _range(xp, x)[1] - 0.02
    return xp.where(beyond, xp.full_like(x, float("inf")), xp.exp(xp.where(beyond, xp.zeros_like(x), x)))


def joined_slope(xp: Any, first: Slope, second: Slope) -> Slope:
    """A state between the bounds of the first chunk enters the second larger by the first's size."""
    lost = xp.maximum(first.lost, second.lost - first.size)
    overflow = xp.minimum(first.overflow, second.overflow - first.size)
    return Slope(
        times(xp, first.product, second.product),
        first.size + second.size,
        xp.minimum(lost, first.overflow),
        xp.maximum(overflow, first.lost),
    )


def _product(xp: Any, c: Array, k: Array) -> Array:
    return c * k


NUMBERS = Coefficients(_product, slope_of, joined_slope, passage_of, carried)
