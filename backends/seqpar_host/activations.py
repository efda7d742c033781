"""What cells apply to their sums, on vectors of numbers: right to a few ulp wherever the result lies, for one division each.

    sigmoid   e / (1 + e) below zero, 1 / (1 + e) above, e = exp(-|x|): so relative to s(x), and to 1 - s(x) = s(-x)
    tanh      -m / (2 + m) with the sign of x, m = expm1(-2|x|): relative to tanh(x), and +-1 where rounding says so

exp(y) is 2**n * (1 + r + r**2 q(r)), y = n ln2 + r, |r| <= ln(2)/2, and of y <= 0 alone: nothing overflows. NaN stays NaN.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from seqpar_host.simd import FLOATS, I32, I64, Lanes, intrinsic, suffix


@dataclass(frozen=True)
class _Format:
    """What exponentials are made of in one format of floats."""

    integer: Any
    fraction: int  # bits after the point
    bias: int  # of the exponent
    lift: int  # exp is first computed times 2**lift: then it is normal however small
    lowest: float  # exp of less is 0
    ln2: tuple[float, float]  # two pieces, of which the first times any n is exact
    q: tuple[float, ...]  # from the constant term on


# q interpolates (exp(r) - 1 - r) / r**2 at Chebyshev's nodes of |r| <= 1.0001 ln(2)/2, solved with 60 digits: exp is off by
# 1.0e-8 and 1.7e-17 of itself at most, a sixth of an ulp. ln2 is cut as Cody and Waite cut it (Software Manual for the
# Elementary Functions, 1980).
_FORMATS = {
    "float32": _Format(
        I32,
        23,
        127,
        64,
        -105.0,
        (0.693145751953125, 1.428606765330187e-06),
        (0.5, 0.16666576969698775, 0.041666554617204574, 0.008363179052722578, 0.0013926183587713494),
    ),
    "float64": _Format(
        I64,
        52,
        1023,
        512,
        -746.0,
        (0.6931471803691238, 1.9082149292705877e-10),
        (
            *(0.5, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717),
            *(0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06),
            *(2.7620088445409746e-07, 2.510038549551032e-08),
        ),
    ),
}
_LOG2E = 1.4426950408889634


def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + exp(-x))."""
    of = _FORMATS[x.state]
    power, m = _exponential(_bounded(-x.call("fabs"), of.lowest), of.lift)
    # The power of two comes off in the last multiplication, which rounds results below the normal numbers.
    e = power.fma(m, power) * 2.0**-of.lift
    return x.less(0.0).select(e, x.like(1.0)) / (e + 1.0)


def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent."""
    # From 2|x| = 40 on m is -1 in either format.
    power, m = _exponential(_bounded(x.call("fabs") * -2.0, -40.0), 0)
    m = power.fma(m, power - 1.0)
    kind = x.parts[0].type
    sized = (m / (m + 2.0)).parts[0]
    name = f"llvm.copysign.{suffix(kind)}"
    return Lanes(x.builder, (intrinsic(x.builder, name, kind, [sized, x.parts[0]]),))


def relu(x: Lanes) -> Lanes:
    """x, or 0 below zero."""
    return x.less(0.0).select(x.like(0.0), x)


def above(x: Lanes) -> Lanes:
    """1 above zero, else 0."""
    return x.like(0.0).less(x).select(x.like(1.0), x.like(0.0))


def _bounded(y: Lanes, lowest: float) -> Lanes:
    """y, or `lowest` where it is less: one instruction, as a comparison that NaN fails."""
    return y.less(lowest).select(y.like(lowest), y)


def _exponential(y: Lanes, lift: int) -> tuple[Lanes, Lanes]:
    """(2**(n + lift), expm1(r)) of y = n ln2 + r."""
    of, builder = _FORMATS[y.state], y.builder
    # So large that adding it rounds to an integer, and leaves n + lift + bias in the low bits, below zeros.
    big = 1.5 * 2.0**of.fraction + of.bias + lift
    shifted = y.fma(_LOG2E, y.like(big))
    n = shifted - big
    r = n.fma(-of.ln2[1], n.fma(-of.ln2[0], y))
    bits = ir.VectorType(of.integer, y.count)
    exponent = builder.shl(
        builder.bitcast(shifted.parts[0], bits), ir.Constant(bits, [of.fraction] * y.count)
    )
    power = Lanes(builder, (builder.bitcast(exponent, ir.VectorType(FLOATS[y.state], y.count)),))
    return power, (r * r).fma(_polynomial(of.q, r), r)


def _polynomial(coefficients: tuple[float, ...], r: Lanes) -> Lanes:
    total = r.like(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total.fma(r, c)
    return total
