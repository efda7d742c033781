"""Products of many coefficients, and sums of such, that neither overflow nor underflow: a mantissa and a power of an exact unit.

A chunk of 4,096 steps with a = 3 has the product 3**4096; times a state of 0 it must give 0, not inf * 0. The product is
held as mantissa * unit**exponent with unit = 2**60 (2**480 in double precision), and the mantissa between unit**-0.5 and
unit**0.5. Rescaling multiplies by powers of two, chosen by comparison, so it is exact. Zero, inf and NaN stay in the mantissa.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import filled

Array = Any

__all__ = ["Scaled", "multipliers", "narrowed", "scaled", "sum_of_products", "summable", "times"]

_UNIT = 2.0**60

# The exponent of a zero among summands: below every number's, and eight times two of them still an int32.
_LOWEST = -(2**26)


class Scaled(NamedTuple):
    """mantissa * unit**exponent, elementwise; the exponent is int32."""

    mantissa: Array
    exponent: Array


def scaled(xp: Any, x: Array) -> Scaled:
    """Numbers of the working precision, whatever their size: two rounds reach from 2**128 and 2**-149 (2**1024, 2**-1074)."""
    zero = xp.astype(_size(xp, x) < 0, xp.int32)
    return _rescaled(xp, _rescaled(xp, Scaled(x, zero)))


def times(xp: Any, x: Scaled, y: Scaled) -> Scaled:
    """x * y: mantissas of at most unit**0.5 cannot overflow, and one round brings their product back."""
    return _rescaled(xp, Scaled(x.mantissa * y.mantissa, x.exponent + y.exponent))


def narrowed(xp: Any, x: Scaled, dtype: Any) -> Scaled:
    """Numbers in the given precision, if need be in single for double: a unit of the one is eight of the other."""
    if x.mantissa.dtype == dtype:
        return x
    x = Scaled(x.mantissa, 8 * x.exponent)
    for _ in range(4):
        x = _rescaled(xp, x, _UNIT)
    return Scaled(xp.astype(x.mantissa, dtype), x.exponent)


def summable(xp: Any, x: Scaled) -> Scaled:
    """The same numbers, with zeros that are never the largest of several summands."""
    lowest = filled(xp, (), _LOWEST, x.exponent, xp.int32)
    return Scaled(x.mantissa, xp.where(x.mantissa == 0, lowest, x.exponent))


def sum_of_products(xp: Any, pairs: Sequence[tuple[Scaled, Scaled]]) -> Scaled:
    """The sum of x * y over pairs of summable numbers, itself summable.

    Products of mantissas lie between 1 / unit and unit. They are added at the largest exponent of all, where a term of three
    units less is nothing beside 1 / unit.
    """
    top = pairs[0][0].exponent + pairs[0][1].exponent
    for x, y in pairs[1:]:
        top = xp.maximum(top, x.exponent + y.exponent)
    total: Any = 0.0
    for x, y in pairs:
        below = top - (x.exponent + y.exponent)
        total = total + x.mantissa * y.mantissa * _units_down(xp, below, x.mantissa)
    return summable(xp, _rescaled(xp, Scaled(total, top)))


def multipliers(xp: Any, x: Scaled) -> tuple[Array, Array, Array, Array]:
    """Four plain numbers whose product is x, all at least 1 or all at most 1 in size.

    Multiplying a state by them one after the other is monotone: no step overflows or underflows unless the result does.
    Five units are beyond everything: 2**300 takes the smallest number 2**-149 to infinity and 2**-300 the largest to 0.
    """
    size = _size(xp, x.mantissa)
    up, one, down = _constants(xp, size, _unit(xp, size))
    raised = (x.exponent > 0) & (size < 1)
    lowered = (x.exponent < 0) & (size > 1)
    mantissa = x.mantissa * xp.where(raised, up, xp.where(lowered, down, one))
    exponent = x.exponent - xp.astype(raised, xp.int32) + xp.astype(lowered, xp.int32)

    def unit_if_beyond(count: int) -> Array:
        return xp.where(exponent >= count, up, xp.where(exponent <= -count, down, one))

    two = unit_if_beyond(1) * unit_if_beyond(2)
    return mantissa, two, unit_if_beyond(3) * unit_if_beyond(4), unit_if_beyond(5)


def _rescaled(xp: Any, x: Scaled, unit: float | None = None) -> Scaled:
    size = _size(xp, x.mantissa)
    unit = unit or _unit(xp, size)
    up, one, down = _constants(xp, size, unit)
    small, big = size < unit**-0.5, size >= unit**0.5
    exponent = x.exponent + xp.astype(big, xp.int32) - xp.astype(small, xp.int32)
    return Scaled(x.mantissa * xp.where(small, up, xp.where(big, down, one)), exponent)


def _units_down(xp: Any, count: Array, like: Array) -> Array:
    """unit**-count for a count of 0, 1, 2, and zero beyond."""
    size = _size(xp, like)
    unit = _unit(xp, size)
    one, two, three, none = (filled(xp, (), x, size, size.dtype) for x in (1.0, unit**-1, unit**-2, 0.0))
    return xp.where(count < 1, one, xp.where(count < 2, two, xp.where(count < 3, three, none)))


def _constants(xp: Any, size: Array, unit: float) -> tuple[Array, Array, Array]:
    """unit, 1, 1 / unit as arrays, so that a choice between them keeps precision and device."""
    return xp.full_like(size, unit), xp.ones_like(size), xp.full_like(size, 1.0 / unit)


def _unit(xp: Any, size: Array) -> float:
    return _UNIT**8 if size.dtype == xp.float64 else _UNIT


def _size(xp: Any, x: Array) -> Array:
    """|x|, or the larger component: abs of a complex number may overflow where its components do not."""
    if xp.isdtype(x.dtype, "complex floating"):
        return xp.maximum(xp.abs(xp.real(x)), xp.abs(xp.imag(x)))
    return xp.abs(x)
