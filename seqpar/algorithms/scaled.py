"""Products of many coefficients that neither overflow nor underflow: a mantissa and a power of an exact unit.

A chunk of 4,096 steps with a = 3 has the product 3**4096; times a state of 0 it must give 0, not inf * 0. The product is
held as mantissa * unit**exponent with unit = 2**60 (2**480 in double precision), and the mantissa between unit**-0.5 and
unit**0.5. Rescaling multiplies by powers of two, chosen by comparison, so it is exact. Zero, inf and NaN stay in the mantissa.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .arrays import along

Array = Any

__all__ = ["Scaled", "multipliers", "power", "product", "scaled", "times"]


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


def product(xp: Any, x: Scaled, axis: int) -> Scaled:
    """The product along one axis, which stays with size 1, by halving: log2(n) rounds."""
    count = x.mantissa.shape[axis]
    while count > 1:
        half = count // 2
        pairs = times(xp, _part(x, axis, 0, half), _part(x, axis, half, 2 * half))
        if count % 2:
            last = _part(x, axis, count - 1, count)
            pairs = Scaled(*(xp.concat([p, q], axis=axis) for p, q in zip(pairs, last, strict=True)))
        x, count = pairs, half + count % 2
    return x


def power(xp: Any, x: Scaled, count: int) -> Scaled:
    """x**count for count >= 1, by squaring."""
    result = x
    for bit in bin(count)[3:]:
        result = times(xp, result, result)
        if bit == "1":
            result = times(xp, result, x)
    return result


def multipliers(xp: Any, x: Scaled) -> tuple[Array, Array, Array, Array]:
    """Four plain numbers whose product is x, all at least 1 or all at most 1 in size.

    Multiplying a state by them one after the other is monotone: no step overflows or underflows unless the result does.
    Five units are beyond everything: 2**300 takes the smallest number 2**-149 to infinity and 2**-300 the largest to 0.
    """
    unit = _unit(xp, x.mantissa)
    size = _size(xp, x.mantissa)
    raised = (x.exponent > 0) & (size < 1)
    lowered = (x.exponent < 0) & (size > 1)
    mantissa = x.mantissa * _choice(xp, raised, lowered, unit, size)
    exponent = x.exponent - xp.astype(raised, xp.int32) + xp.astype(lowered, xp.int32)

    def units(count: int) -> Array:
        return _choice(xp, exponent >= count, exponent <= -count, unit, size)

    return mantissa, units(1) * units(2), units(3) * units(4), units(5)


def _rescaled(xp: Any, x: Scaled) -> Scaled:
    unit, size = _unit(xp, x.mantissa), _size(xp, x.mantissa)
    small, big = size < unit**-0.5, size >= unit**0.5
    exponent = x.exponent + xp.astype(big, xp.int32) - xp.astype(small, xp.int32)
    return Scaled(x.mantissa * _choice(xp, small, big, unit, size), exponent)


def _choice(xp: Any, up: Array, down: Array, unit: float, like: Array) -> Array:
    """unit where `up`, 1 / unit where `down`, else 1."""
    rest = xp.where(down, xp.full_like(like, 1.0 / unit), xp.ones_like(like))
    return xp.where(up, xp.full_like(like, unit), rest)


def _unit(xp: Any, x: Array) -> float:
    return 2.0**480 if x.dtype == xp.float64 or x.dtype == xp.complex128 else 2.0**60


def _size(xp: Any, x: Array) -> Array:
    """|x|, or the larger component: abs of a complex number may overflow where its components do not."""
    if xp.isdtype(x.dtype, "complex floating"):
        return xp.maximum(xp.abs(xp.real(x)), xp.abs(xp.imag(x)))
    return xp.abs(x)


def _part(x: Scaled, axis: int, start: int, stop: int) -> Scaled:
    return Scaled(along(x.mantissa, axis, start, stop), along(x.exponent, axis, start, stop))
