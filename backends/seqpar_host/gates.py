"""The coefficient of a step from its gate, and one minus it, both right to a few ulp.

    value: c = a        log: c = exp(a)        logit: c = sigmoid(a)

exp is 2**n * (1 + e), e = expm1(r) by its series on |r| <= ln(2)/2; 1 - c never comes from a subtraction of c.
"""

import math
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from seqpar_host.simd import I32, I64, Lanes, pair


def coefficient(a: Lanes, gate: str) -> Lanes:
    """c of the recurrence h = c*h + u."""
    if gate == "value":
        return a
    if gate == "log":
        return complex_exp(a) if a.complex else exp(a)
    return sigmoid(a)


def complement(a: Lanes, gate: str) -> Lanes:
    """1 - c without cancellation: -expm1(a) and sigmoid(-a)."""
    if gate == "value":
        return 1.0 - a
    if gate == "log":
        return -(complex_expm1(a) if a.complex else expm1(a))
    return sigmoid(-a)


def wide_pair(a: Lanes, gate: str) -> tuple[Lanes, Lanes]:
    """(c, 1 - c) in float64 from a in float32, both right to a few ulp of float32, and c to many more where it is near 1.

    Float32 has nothing between 1 and 1 - 6e-8: exp(-1e-7) rounded to it forgets 2 % too much, 1e-3 after 131,072 steps.
    """
    if gate == "logit":
        e = exp(-a.call("fabs"))
        small = (e / (e + 1.0)).cast("float64")
        large, negative = 1.0 - small, a.less(0.0)
        return negative.select(small, large), negative.select(large, small)
    if not a.complex:
        n, e = _reduce(a.clip(-110.0, 90.0))
        power, wide = _power(n.widened()), e.cast("float64")
        c, rest = power.fma(wide, power), -power.fma(wide, power - 1.0)
        # Outside of float32's range the definition has 0 and inf, and a state that was lost must not come back.
        gone, beyond = a.less(-110.0), (-a).less(-LARGEST_EXPONENT)
        c = beyond.select(c.like(math.inf), gone.select(c.like(0.0), c))
        return c, beyond.select(rest.like(-math.inf), gone.select(rest.like(1.0), rest))
    c, rest = complex_exp(a), -complex_expm1(a)
    near = (rest.real * rest.real + rest.imag * rest.imag).less(0.25)
    c, rest = c.cast("float64"), rest.cast("float64")
    return near.select(1.0 - rest, c), rest


LARGEST_EXPONENT = 88.72283  # exp of more is inf in float32


def exp(x: Lanes) -> Lanes:
    # Clipped where the result is 0 or inf anyway; the power of two in two halves, so that it underflows gradually.
    x = x.clip(-110.0, 90.0) if x.state == "float32" else x.clip(-750.0, 720.0)
    n, e = _reduce(x)
    half = n.shifted_down()
    return _power(half).fma(e, _power(half)) * _power(n.minus(half))


def expm1(x: Lanes) -> Lanes:
    x = x.clip(-30.0, 89.0) if x.state == "float32" else x.clip(-50.0, 710.0)
    n, e = _reduce(x)
    # Half the power of two, doubled at the end: 2**128 is no float32, exp(88.5) is.
    s = _power(n.minus_one())
    return s.fma(e, s - 0.5) * 2.0


def sigmoid(x: Lanes) -> Lanes:
    """1/(1 + exp(-x)) from exp(-|x|), which cannot overflow: small values keep their relative accuracy."""
    e = exp(-x.call("fabs"))
    return x.less(0.0).select(e, x.like(1.0)) / (e + 1.0)


def complex_exp(z: Lanes) -> Lanes:
    size, cos, sin = exp(z.real), z.imag.call("cos"), z.imag.call("sin")
    # exp(-inf + iy) is 0 for every y, and exp(inf + 0i) is inf + 0i: no 0*NaN and no inf*0.
    gone = size.equals(0.0)
    imag = z.imag.equals(0.0).select(z.imag, size * sin)
    return pair(gone.select(size, size * cos), gone.select(size, imag))


def complex_expm1(z: Lanes) -> Lanes:
    """expm1(x) cos(y) - 2 sin(y/2)**2 + i exp(x) sin(y)."""
    whole, half = complex_exp(z), (z.imag * 0.5).call("sin")
    real = expm1(z.real).fma(z.imag.call("cos"), half * half * -2.0)
    gone = exp(z.real).equals(0.0)
    return pair(gone.select(real.like(-1.0), real), whole.imag)


@dataclass(frozen=True)
class _Whole:
    """Integers, lane by lane: the exponents."""

    builder: Any
    value: Any

    def _all(self, number: int) -> Any:
        return ir.Constant(self.value.type, [number] * self.value.type.count)

    def shifted_down(self) -> "_Whole":
        if self.value.type.element.width == 32:
            return _Whole(self.builder, self.builder.ashr(self.value, self._all(1)))
        # 64-bit arithmetic shifts need AVX-512: shift an offset, positive number logically.
        lifted = self.builder.lshr(self.builder.add(self.value, self._all(4096)), self._all(1))
        return _Whole(self.builder, self.builder.sub(lifted, self._all(2048)))

    def widened(self) -> "_Whole":
        return _Whole(self.builder, self.builder.sext(self.value, ir.VectorType(I64, self.value.type.count)))

    def minus(self, other: "_Whole") -> "_Whole":
        return _Whole(self.builder, self.builder.sub(self.value, other.value))

    def minus_one(self) -> "_Whole":
        return _Whole(self.builder, self.builder.sub(self.value, self._all(1)))


# (log2(e), ln2 in two pieces, the number whose addition rounds to an integer and leaves it in the low bits, series terms)
_LOG2E = 1.4426950408889634
_LN2 = {
    "float32": (0.693145751953125, 1.428606765330187e-06),
    "float64": (0.6931471803691238, 1.9082149292705877e-10),
}
_ROUND = {"float32": 1.5 * 2.0**23, "float64": 1.5 * 2.0**52}
_TERMS = {"float32": 7, "float64": 13}
_BITS = {"float32": (I32, 23, 127), "float64": (I64, 52, 1023)}


def _reduce(x: Lanes) -> tuple[_Whole, Lanes]:
    """x = n ln2 + r -> n and expm1(r). A NaN passes through r; n is then any number."""
    whole, _, _ = _BITS[x.state]
    big = x.like(_ROUND[x.state])
    shifted = x.fma(_LOG2E, big)
    n = shifted - big
    high, low = _LN2[x.state]
    r = n.fma(-low, n.fma(-high, x))
    factor = 1.0
    for k in range(2, _TERMS[x.state] + 1):
        factor /= k
    series = x.like(factor)
    for k in range(_TERMS[x.state], 2, -1):
        factor *= k
        series = series.fma(r, factor)
    bits = ir.VectorType(whole, x.count)
    value = x.builder.sub(x.builder.bitcast(shifted.parts[0], bits), x.builder.bitcast(big.parts[0], bits))
    return _Whole(x.builder, value), (r * r).fma(series, r)


def _power(n: _Whole) -> Lanes:
    """2**n for n in the range of exponents."""
    state = "float32" if n.value.type.element.width == 32 else "float64"
    _, fraction, bias = _BITS[state]
    bits = n.builder.shl(n.builder.add(n.value, n._all(bias)), n._all(fraction))
    kind = ir.VectorType({"float32": ir.FloatType(), "float64": ir.DoubleType()}[state], n.value.type.count)
    return Lanes(n.builder, (n.builder.bitcast(bits, kind),))
