"""What segments of a matrix recurrence do to the states that enter them, and those states.

A segment takes the state k to P k + R: the columns of P are walked as states are, each from a column of the identity over no
input, and R from zero over the inputs. A column may grow or shrink beyond any format while states stay finite, so it has an
exponent of its own: before every step its largest number is 2**-6 of what it may be, and sixteen products of any finite numbers
with such can neither overflow nor vanish. Exponents per column are what diag(3, 0.5) needs: over 4,096 steps one column is
beyond the range and one vanishes, and a state (0, 1) must turn into neither 0 * inf nor 0.
"""

import triton
import triton.language as tl

from seqpar_triton.matrix import (
    INTEGERS,
    advanced,
    along,
    in_time,
    keep,
    lines_of,
    loaded,
    one_of,
    start_of,
    zero,
)
from seqpar_triton.numbers import DROPPED, power_of_two

# Beyond this exponent nothing finite is left, and sums of exponents do not wrap around.
MOST = tl.constexpr(1 << 28)


@triton.jit
def size_of(xr, xi, COMPLEX: tl.constexpr):
    """The larger part of every number."""
    if COMPLEX:
        return tl.maximum(tl.abs(xr), tl.abs(xi))
    else:
        return tl.abs(xr)


@triton.jit
def exponent_of(size, WIDE: tl.constexpr):
    """The power of two that is nearest below."""
    if WIDE:
        return (size.to(tl.int64, bitcast=True) >> 52).to(tl.int32) - 1023
    else:
        return (size.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def normalised(xr, xi, e, COMPLEX: tl.constexpr, WIDE: tl.constexpr):
    """The same columns x * 2**e, such that any finite matrix can be multiplied with them."""
    LARGEST: tl.constexpr = 1023 if WIDE else 127
    of = exponent_of(tl.max(size_of(xr, xi, COMPLEX), 1), WIDE)[:, None]
    # Neither zero, nor infinite, nor NaN.
    up = tl.where((of >= 1 - LARGEST) & (of <= LARGEST), -6 - of, 0)
    half = up >> 1
    first, second = power_of_two(half, WIDE), power_of_two(up - half, WIDE)
    e = tl.minimum(tl.maximum(e - up, -MOST), MOST)
    if COMPLEX:
        return xr * first * second, xi * first * second, e
    else:
        xr = xr * first * second
        return xr, xr, e


@triton.jit(do_not_specialize=INTEGERS)
def matrix_reduce(
    A, b, resets,
    slope, exponent, reached,
    steps, groups, segment, columns, n1, n2,
    A_step, A_0, A_1, A_2, A_line, A_lane, b_step, b_0, b_1, b_2, b_row, b_column, r_step, r_0, r_1, r_2,
    N: tl.constexpr, NP: tl.constexpr, DIMS: tl.constexpr, TOGETHER: tl.constexpr, ALL: tl.constexpr, BLOCK: tl.constexpr,
    UNROLL: tl.constexpr, STAGES: tl.constexpr, AW: tl.constexpr, BW: tl.constexpr, ROWS: tl.constexpr, FLAT: tl.constexpr,
    STILL: tl.constexpr, ADJOINT: tl.constexpr, DOWN: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """P and R of a segment. A program walks TOGETHER columns of [P R], which share the matrices; ALL: those are all there are."""
    WIDE: tl.constexpr = STATE.primitive_bitwidth == 64
    group = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    r = tl.arange(0, NP)[None, :]
    there = (group < groups)[:, None]
    inside = there & (r < N)
    oA = start_of(group, group, n1, n2, A_0, A_1, A_2, 0, DIMS, True, AW)[:, None]
    ob = along(start_of(group, group, n1, n2, b_0, b_1, b_2, 0, DIMS, True, BW)[:, None], b_row, r, BW)
    place = tl.program_id(1)
    offset = tl.program_id(2) * TOGETHER
    zr, zi = zero(b, ob, groups, COMPLEX, STATE)
    xr, xi, e = (), (), ()
    for c in tl.static_range(TOGETHER):
        # Rows are fewer than n, so that columns of R start from zero.
        xr = xr + (tl.where((r == offset + c) & (r < N), 1.0, zr),)
        xi = xi + (zi,)
        e = e + (tl.zeros((BLOCK, 1), tl.int32),)
    drop = there
    gone = group[:, None] < 0
    if resets is not None:
        orr = start_of(group, group, n1, n2, r_0, r_1, r_2, 0, DIMS, True, 1)[:, None]
    if STILL:
        lr, li = lines_of(A, oA, A_line, A_lane, r, there, N, FLAT, AW, COMPLEX, STATE)
    begin = place * segment
    end = tl.minimum(begin + segment, steps)
    for block in tl.range(begin, end, UNROLL, num_stages=STAGES):
        for i in tl.static_range(UNROLL):
            step = block + i
            now = there & (step < end)
            live = inside & (step < end)
            if not STILL:
                at = oA + in_time(step, steps, A_step, DOWN, AW)
                lr, li = lines_of(A, at, A_line, A_lane, r, now, N, FLAT, AW, COMPLEX, STATE)
            if resets is not None:
                drop = tl.load(resets + (orr + in_time(step, steps, r_step, DOWN, 1)), mask=now, other=0) != 0
                gone = gone | drop
            new_r, new_i, new_e = (), (), ()
            for c in tl.static_range(TOGETHER):
                if ALL and c < N:
                    ur = tl.zeros((BLOCK, NP), STATE)
                    ui = ur
                else:
                    of = offset + c - N
                    at = ob + (
                        in_time(step, steps, b_step, DOWN, BW)
                        + tl.multiple_of(of.to(tl.int64) * b_column, BW)
                    )
                    ur, ui = loaded(b, at, live & (of >= 0) & (of < columns), COMPLEX, STATE)
                _, _, nr, ni = advanced(
                    lr, li, xr[c], xi[c], ur, ui, drop, r, N, ROWS, resets is not None, ADJOINT, COMPLEX
                )
                ne = e[c]
                if not ALL:
                    sr, si, se = normalised(nr, ni, ne, COMPLEX, WIDE)
                    power = offset + c < N
                    nr, ni, ne = tl.where(power, sr, nr), tl.where(power, si, ni), tl.where(power, se, ne)
                elif c < N:
                    nr, ni, ne = normalised(nr, ni, ne, COMPLEX, WIDE)
                new_r = new_r + (tl.where(now, nr, xr[c]),)
                new_i = new_i + (tl.where(now, ni, xi[c]),)
                new_e = new_e + (tl.where(now, ne, e[c]),)
            xr, xi, e = new_r, new_i, new_e
    here = place.to(tl.int64) * groups + group[:, None]
    for c in tl.static_range(TOGETHER):
        of = offset + c
        keep(slope, (here * N + of) * N + r, xr[c], xi[c], inside & (of < N), COMPLEX)
        tl.store(exponent + (here * N + of), tl.where(gone, DROPPED, e[c]), mask=there & (of < N))
        of -= N
        keep(
            reached, (here * columns + of) * N + r, xr[c], xi[c], inside & (of >= 0) & (of < columns), COMPLEX
        )


@triton.jit(do_not_specialize=INTEGERS)
def matrix_cross(
    slope, exponent, reached, h0,
    entering,
    parts, states, groups, columns, n1, n2, h0_0, h0_1, h0_2, h0_row, h0_column,
    N: tl.constexpr, NP: tl.constexpr, DIMS: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
    COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """The state that enters every segment: through all but the last, in their order."""
    state = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    group, column = state, state
    if not ONE:
        group, column = state // columns, state % columns
    r = tl.arange(0, NP)[None, :]
    there = (state < states)[:, None]
    inside = there & (r < N)
    kr = tl.zeros((BLOCK, NP), STATE)
    ki = kr
    if h0 is not None:
        first = start_of(group, column, n1, n2, h0_0, h0_1, h0_2, h0_column, DIMS, ONE, 1)
        kr, ki = loaded(h0, along(first[:, None], h0_row, r, 1), inside, COMPLEX, STATE)
    keep(entering, (state.to(tl.int64) * N)[:, None] + r, kr, ki, inside, COMPLEX)
    for place in tl.range(0, parts, num_stages=STAGES):
        here = (tl.cast(place, tl.int64) * groups + group)[:, None]
        yr, yi = loaded(
            reached, ((tl.cast(place, tl.int64) * states + state) * N)[:, None] + r, inside, COMPLEX, STATE
        )
        e = tl.load(exponent + here * N + r, mask=inside, other=0)
        mr, mi, of = near_one(kr, ki, COMPLEX, STATE)
        sr, si = yr, yi
        for c in tl.static_range(N):
            pr, pi = loaded(slope, (here * N + c) * N + r, inside, COMPLEX, STATE)
            total = tl.sum(tl.where(r == c, e + of, 0), 1)[:, None]
            cr, ci = one_of(mr, r, c), one_of(mi, r, c)
            xr, xi = scaled_product(pr, pi, cr, ci, total, COMPLEX, STATE)
            sr, si = sr + xr, si + xi
        # Of a segment with a reset all columns are dropped.
        gone = e == DROPPED
        kr, ki = tl.where(gone, yr, sr), tl.where(gone, yi, si)
        there_after = (tl.cast(place + 1, tl.int64) * states + state) * N
        keep(entering, there_after[:, None] + r, kr, ki, inside, COMPLEX)


@triton.jit
def near_one(kr, ki, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """Numbers as x * 2**e, where x is about one, so that what overflows or vanishes is the end result alone."""
    WIDE: tl.constexpr = STATE.primitive_bitwidth == 64
    LARGEST: tl.constexpr = 1023 if WIDE else 127
    # Those below the normal numbers too are normal 2**64 times larger.
    small = size_of(kr, ki, COMPLEX) < 2.0**-60
    more = tl.where(small, 2.0**64, 1.0).to(STATE)
    kr, ki = kr * more, ki * more
    e = exponent_of(size_of(kr, ki, COMPLEX), WIDE)
    e = tl.where((e >= 1 - LARGEST) & (e <= LARGEST), e - 1, 0)
    one = power_of_two(-e, WIDE)
    return kr * one, ki * one, e - tl.where(small, 64, 0)


@triton.jit
def scaled_product(pr, pi, kr, ki, e, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """p * k * 2**e, where neither factor is far above one."""
    WIDE: tl.constexpr = STATE.primitive_bitwidth == 64
    FAR: tl.constexpr = 2040 if WIDE else 250
    e = tl.minimum(tl.maximum(e, -FAR), FAR)
    half = e >> 1
    first, second = power_of_two(half, WIDE), power_of_two(e - half, WIDE)
    if COMPLEX:
        xr, xi = pr * kr - pi * ki, pr * ki + pi * kr
        return xr * first * second, xi * first * second
    else:
        x = pr * kr * first * second
        return x, x
