"""What kernels do with one number each, real or complex: gates, products that cannot overflow, loads and stores.

A complex number is a pair (re, im) of tensors, in memory two neighbours. A real one is passed as (x, x): the second is never
read where COMPLEX is false, so the compiler drops it.

Carries are double precision for gates, whose point is a memory of a million steps: exp(-1e-7) rounded to float32 forgets 2 %
too much. exp is 2**n * (1 + e) with e = expm1(r) by its series on |r| <= ln(2)/2, so one minus it never comes from a
subtraction. Products over many steps are held in double precision, clamped below its range for single-precision states
(what they are off then is beyond float32 anyway), and with an exponent of their own for double-precision states.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2_HIGH = tl.constexpr(0.693359375)  # exact in few bits, so that n * LN2_HIGH is exact
LN2_LOW = tl.constexpr(-2.1219444005469057e-4)
CLAMP = tl.constexpr(2.0**890)
UNIT_ROOT = tl.constexpr(2.0**300)
UNIT_ROOT_INVERSE = tl.constexpr(2.0**-300)
# The exponent of a product over a reset: nothing crosses it.
DROPPED = tl.constexpr(-(2**30))


@triton.jit
def exponentials(x, WIDE: tl.constexpr):
    """(exp(x), expm1(x)), both right to a few ulp, for float32, or float64 where WIDE."""
    if WIDE:
        y = tl.minimum(tl.maximum(x, -750.0), 720.0)
    else:
        y = tl.minimum(tl.maximum(x, -110.0), 90.0)
    n = tl.floor(y * LOG2E + 0.5)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    # expm1(r) = r + r**2 * (1/2! + r/3! + ...); 1e-8 of it after 7 terms, 1e-17 after 13.
    if WIDE:
        s = 1.0 / 87178291200.0 + 0.0 * r
        s = s * r + 1.0 / 6227020800.0
        s = s * r + 1.0 / 479001600.0
        s = s * r + 1.0 / 39916800.0
        s = s * r + 1.0 / 3628800.0
        s = s * r + 1.0 / 362880.0
        s = s * r + 1.0 / 40320.0
        s = s * r + 1.0 / 5040.0
    else:
        s = 1.0 / 40320.0 + 0.0 * r
        s = s * r + 1.0 / 5040.0
    s = s * r + 1.0 / 720.0
    s = s * r + 1.0 / 120.0
    s = s * r + 1.0 / 24.0
    s = s * r + 1.0 / 6.0
    s = s * r + 0.5
    e = r + r * r * s
    # The power in two halves: it underflows gradually, and 2**128 is no float32 where exp(88.5) is.
    whole = n.to(tl.int32)
    half = whole >> 1
    low, high = power_of_two(half, WIDE), power_of_two(whole - half, WIDE)
    big = (low + low * e) * high
    small = (low * e) * high + (low * high - 1.0)
    # NaN has no exponent; it travels in x itself.
    big = tl.where(x == x, big, x)
    small = tl.where(n == 0.0, e, tl.where(n > 60.0, big, small))
    small = tl.where(x == x, small, x)
    return big, small


@triton.jit
def remembered_and_forgotten(x):
    """(exp(x), 1 - exp(x)) of float32 in double precision: its range needs no halves of powers, and its ulp no second series."""
    y = tl.minimum(tl.maximum(x, -750.0), 710.0)
    n = tl.floor(y * LOG2E + 0.5)
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    s = 1.0 / 40320.0 + 0.0 * r
    s = s * r + 1.0 / 5040.0
    s = s * r + 1.0 / 720.0
    s = s * r + 1.0 / 120.0
    s = s * r + 1.0 / 24.0
    s = s * r + 1.0 / 6.0
    s = s * r + 0.5
    # NaN passes no minimum or maximum.
    e = tl.where(x == x, r + r * r * s, x).to(tl.float64)
    c = (e + 1.0) * power_of_two(n.to(tl.int32), True)
    return c, tl.where(n == 0.0, -e, 1.0 - c)


@triton.jit
def power_of_two(n, WIDE: tl.constexpr):
    """2**n for exponents of normal numbers; beyond them 0 or infinity."""
    if WIDE:
        bits = tl.minimum(tl.maximum(n, -1023), 1024) + 1023
        return (bits.to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:
        bits = tl.minimum(tl.maximum(n, -127), 128) + 127
        return (bits << 23).to(tl.float32, bitcast=True)


@triton.jit
def product(xr, xi, yr, yi, COMPLEX: tl.constexpr):
    """x * y."""
    if COMPLEX:
        return xr * yr - xi * yi, xr * yi + xi * yr
    else:
        return xr * yr, xr


@triton.jit
def multiply_add(xr, xi, yr, yi, zr, zi, COMPLEX: tl.constexpr):
    """x * y + z."""
    if COMPLEX:
        return xr * yr - xi * yi + zr, xr * yi + xi * yr + zi
    else:
        return xr * yr + zr, xr


@triton.jit
def gate_pair(ar, ai, GATE: tl.constexpr, COMPLEX: tl.constexpr, WIDE: tl.constexpr):
    """(c, 1 - c) from the gate: in the state's precision for "value", in double precision else. WIDE: the state is double."""
    if GATE == "value":
        return ar, ai, 1.0 - ar, -ai
    elif GATE == "logit":
        e, _ = exponentials(-tl.abs(ar), WIDE)
        rest = (e / (1.0 + e)).to(tl.float64)
        large = 1.0 - rest
        c = tl.where(ar < 0.0, rest, large)
        d = tl.where(ar < 0.0, large, rest)
        return c, c, d, d
    elif COMPLEX:
        # exp(x + iy) - 1 = expm1(x) cos y - 2 sin(y/2)**2 + i exp(x) sin y, in the precision of the carry
        x, y = ar.to(tl.float64), ai.to(tl.float64)
        big, small = exponentials(x, True)
        dip = tl.sin(0.5 * y)
        dip = 2.0 * dip * dip
        # exp(-inf + iy) is 0 for every y, and exp(x + 0i) has no imaginary part: no 0 * NaN, no inf * 0.
        gone = big == 0.0
        less = tl.where(gone, -1.0, small * (1.0 - dip) - dip)
        near = (tl.abs(x) < 0.5) & (tl.abs(y) < 0.5)
        cr = tl.where(near, 1.0 + less, tl.where(gone, 0.0, big * (1.0 - dip)))
        ci = tl.where(gone, 0.0, tl.where(y == 0.0, y, big * tl.sin(y)))
        return cr, ci, -less, -ci
    elif WIDE:
        big, small = exponentials(ar, WIDE)
        c = tl.where(tl.abs(ar) < 0.5, 1.0 + small, big)
        return c, c, -small, -small
    else:
        c, d = remembered_and_forgotten(ar)
        return c, c, d, d


@triton.jit
def gate_derivative(cr, ci, dr, di, GATE: tl.constexpr, COMPLEX: tl.constexpr):
    """dc/da from c and d = 1 - c: c for "log", c d for "logit". Not called for "value"."""
    if GATE == "log":
        return cr, ci
    else:
        return cr * dr, ci


@triton.jit
def grown(pr, pi, e, cr, ci, COMPLEX: tl.constexpr, WIDE: tl.constexpr):
    """The product p over some steps, one step of coefficient c later. All in double precision; e is used where WIDE."""
    if WIDE:
        size = tl.abs(cr)
        if COMPLEX:
            size = tl.maximum(size, tl.abs(ci))
        down, up = size > UNIT_ROOT, (size < UNIT_ROOT_INVERSE) & (size > 0.0)
        factor = tl.where(
            down,
            UNIT_ROOT_INVERSE * UNIT_ROOT_INVERSE,
            tl.where(up, UNIT_ROOT * UNIT_ROOT, 1.0),
        )
        e += tl.where(down, 1, tl.where(up, -1, 0))
        pr, pi = product(pr, pi, cr * factor, ci * factor, COMPLEX)
        return rescaled(pr, pi, e, COMPLEX)
    else:
        pr, pi = product(pr, pi, cr, ci, COMPLEX)
        pr, pi = clamped(pr, pi, COMPLEX)
        return pr, pi, e


@triton.jit
def clamped(pr, pi, COMPLEX: tl.constexpr):
    """A product below the range of double precision; NaN stays."""
    pr = tl.where(pr > CLAMP, CLAMP, tl.where(pr < -CLAMP, -CLAMP, pr))
    if COMPLEX:
        pi = tl.where(pi > CLAMP, CLAMP, tl.where(pi < -CLAMP, -CLAMP, pi))
        return pr, pi
    else:
        return pr, pr


@triton.jit
def rescaled(pr, pi, e, COMPLEX: tl.constexpr):
    """The same p * 2**(600 e), with p within 2**-300 and 2**300 after one product of such."""
    size = tl.abs(pr)
    if COMPLEX:
        size = tl.maximum(size, tl.abs(pi))
    down, up = size > UNIT_ROOT, (size < UNIT_ROOT_INVERSE) & (size > 0.0)
    factor = tl.where(down, UNIT_ROOT_INVERSE * UNIT_ROOT_INVERSE, tl.where(up, UNIT_ROOT * UNIT_ROOT, 1.0))
    # A sum of many exponents must not wrap around; beyond 2**20 units nothing finite is left.
    e = tl.minimum(tl.maximum(e + tl.where(down, 1, tl.where(up, -1, 0)), -(1 << 20)), 1 << 20)
    if COMPLEX:
        return pr * factor, pi * factor, e
    else:
        return pr * factor, pr, e


@triton.jit
def crossed(pr, pi, e, kr, ki, COMPLEX: tl.constexpr, WIDE: tl.constexpr):
    """p * k, where k is the state that enters the steps whose product is p; in double precision."""
    if WIDE:
        root = tl.where(e > 0, UNIT_ROOT, tl.where(e < 0, UNIT_ROOT_INVERSE, 1.0))
        xr, xi = product(pr, pi, kr * root, ki * root, COMPLEX)
        xr, xi = xr * root, xi * root
        for unit in tl.static_range(2, 5):
            more = tl.where(tl.abs(e) >= unit, root, 1.0)
            xr, xi = xr * more * more, xi * more * more
        return xr, xi
    else:
        return product(pr, pi, kr, ki, COMPLEX)


@triton.jit
def offsets(index, n1, n2, s0, s1, s2, DIMS: tl.constexpr, WIDTH: tl.constexpr):
    """Elements from the first sequence to those numbered by `index`, whose axes have sizes (anything, n1, n2).

    WIDTH promises neighbours in memory: hints go on the result itself, for on a parameter of an inlined function they are lost.
    """
    if DIMS == 1:
        off = index.to(tl.int64) * s2
    elif DIMS == 2:
        off = (index % n2).to(tl.int64) * s2 + (index // n2).to(tl.int64) * s1
    else:
        outer = index // n2
        off = (
            (index % n2).to(tl.int64) * s2 + (outer % n1).to(tl.int64) * s1 + (outer // n1).to(tl.int64) * s0
        )
    if WIDTH > 1:
        off = tl.max_contiguous(tl.multiple_of(off, WIDTH), WIDTH)
    return off
