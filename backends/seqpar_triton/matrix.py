"""The matrix recurrence with one group of lanes per state: rows of the state in registers, lines of the matrix beside them.

A state is a column of n numbers, padded to a power of two. Where four or fewer of them fill what a thread loads at once, one
thread has the whole state and no number crosses lanes. A line is a row of M where rows lie contiguous in memory, and then
contributes one sum of products; else it is a column, and is added to the result times one number of the state.

One program walks BLOCK states over one segment of time, with the loads of STAGES blocks of UNROLL steps in flight. What is known
of strides is compiled in as widths, so that nothing is compiled for a size but n.
"""

import triton
import triton.language as tl

# Sizes and strides; what they are known to be multiples of is in the widths. Triton skips the names that a kernel lacks.
INTEGERS = (
    *("steps", "states", "groups", "segment", "parts", "columns", "n1", "n2"),
    *(f"A_{each}" for each in ("step", 0, 1, 2, "line", "lane")),
    *(f"dA_{each}" for each in ("step", 0, 1, 2, "line", "lane")),
    *(f"{name}_{each}" for name in ("b", "h", "g", "db") for each in ("step", 0, 1, 2, "row", "column")),
    *(f"{name}_{each}" for name in ("h0", "f", "gf", "dh0") for each in (0, 1, 2, "row", "column")),
    *(f"r_{each}" for each in ("step", 0, 1, 2)),
)


@triton.jit
def start_of(
    group, column, n1, n2, s0, s1, s2, across, DIMS: tl.constexpr, ONE: tl.constexpr, WIDTH: tl.constexpr
):
    """Elements from an operand's first to those of one column of a group; ONE: there is one column."""
    off = (group % n2).to(tl.int64) * s2
    if DIMS == 1:
        off = group.to(tl.int64) * s2
    elif DIMS == 2:
        off += (group // n2).to(tl.int64) * s1
    else:
        outer = group // n2
        off += (outer % n1).to(tl.int64) * s1 + (outer // n1).to(tl.int64) * s0
    if not ONE:
        off += column.to(tl.int64) * across
    return tl.multiple_of(off, WIDTH)


@triton.jit
def in_time(step, steps, stride, DOWN: tl.constexpr, WIDTH: tl.constexpr):
    """Elements from the first step in memory to the one that the walk comes to as number `step`."""
    if DOWN:
        step = steps - 1 - step
    return tl.multiple_of(tl.cast(step, tl.int64) * stride, WIDTH)


@triton.jit
def along(off, row, r, WIDTH: tl.constexpr):
    """Elements to the rows r of what starts at `off`; they are neighbours where WIDTH is not 1."""
    if WIDTH > 1:
        return off + r
    else:
        return off + r.to(tl.int64) * row


@triton.jit
def loaded(pointer, off, there, COMPLEX: tl.constexpr, FORMAT: tl.constexpr):
    """Numbers in memory at two-dimensional offsets, as (re, im) in a format; zero where there are none."""
    if COMPLEX:
        pairs = (off * 2)[:, :, None] + tl.arange(0, 2)[None, None, :]
        re, im = tl.split(tl.load(pointer + pairs, mask=there[:, :, None], other=0.0).to(FORMAT))
        return re, im
    else:
        x = tl.load(pointer + off, mask=there, other=0.0).to(FORMAT)
        return x, x


@triton.jit
def zero(pointer, off, count, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """Zeros in the lanes in which numbers at these offsets are loaded: nothing is read, but the compiler keeps to the lanes."""
    return loaded(pointer, off, (off < 0) & (count < 0), COMPLEX, STATE)


@triton.jit
def keep(pointer, off, xr, xi, there, COMPLEX: tl.constexpr):
    """Numbers into memory, rounded to its format."""
    xr = xr.to(pointer.dtype.element_ty)
    if COMPLEX:
        pairs = (off * 2)[:, :, None] + tl.arange(0, 2)[None, None, :]
        tl.store(pointer + pairs, tl.join(xr, xi.to(pointer.dtype.element_ty)), mask=there[:, :, None])
    else:
        tl.store(pointer + off, xr, mask=there)


@triton.jit
def lines_of(
    A, off, line, lane, r, there,
    N: tl.constexpr, FLAT: tl.constexpr, WIDTH: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """The lines of the matrices that start at `off`, as tuples of real and of imaginary parts.

    FLAT: n is 2 or 4, and a matrix one piece of memory, which neighbouring lanes load together.
    """
    real, imaginary = (), ()
    if FLAT:
        each = off + tl.arange(0, N * N)[None, :]
        x = tl.load(A + each, mask=there, other=0.0).to(STATE)
        # Lines apart: the last axis becomes theirs, and is halved.
        x = tl.permute(tl.reshape(x, (x.shape[0], N, N)), (0, 2, 1))
        if N == 2:
            x0, x1 = tl.split(x)
            real = (x0, x1)
        else:
            even, odd = tl.split(tl.reshape(x, (x.shape[0], N, 2, 2)))
            x0, x2 = tl.split(even)
            x1, x3 = tl.split(odd)
            real = (x0, x1, x2, x3)
        imaginary = real
    else:
        inside = there & (r < N)
        for i in tl.static_range(N):
            shift = tl.multiple_of(tl.cast(line, tl.int64) * i, WIDTH)
            xr, xi = loaded(A, along(off + shift, lane, r, WIDTH), inside, COMPLEX, STATE)
            real = real + (xr,)
            imaginary = imaginary + (xi,)
    return real, imaginary


@triton.jit
def one_of(x, r, i: tl.constexpr):
    """Row i of the states, for all rows."""
    return tl.sum(tl.where(r == i, x, 0.0), 1)[:, None]


@triton.jit
def times(lr, li, xr, xi, r, N: tl.constexpr, ROWS: tl.constexpr, COMPLEX: tl.constexpr):
    """M x, from the lines of M. Rows of x beyond n are zero, and remain so."""
    yr = tl.zeros_like(xr)
    yi = yr
    for i in tl.static_range(N):
        if ROWS:
            if COMPLEX:
                yr = tl.where(r == i, tl.sum(lr[i] * xr - li[i] * xi, 1)[:, None], yr)
                yi = tl.where(r == i, tl.sum(lr[i] * xi + li[i] * xr, 1)[:, None], yi)
            else:
                yr = tl.where(r == i, tl.sum(lr[i] * xr, 1)[:, None], yr)
        else:
            cr = one_of(xr, r, i)
            if COMPLEX:
                ci = one_of(xi, r, i)
                yr += lr[i] * cr - li[i] * ci
                yi += lr[i] * ci + li[i] * cr
            else:
                yr += lr[i] * cr
    # Zero times a number that is not finite.
    if not ROWS and xr.shape[1] > N:
        yr = tl.where(r < N, yr, 0.0)
        yi = tl.where(r < N, yi, 0.0)
    return yr, yi


@triton.jit
def advanced(
    lr, li, kr, ki, ur, ui, drop, r,
    N: tl.constexpr, ROWS: tl.constexpr, RESETS: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr,
):  # fmt: skip
    """(h, the state carried on) after one step. What a reset drops is multiplied, but not looked at."""
    if ADJOINT:
        hr, hi = ur + kr, ui + ki
        kr, ki = times(lr, li, hr, hi, r, N, ROWS, COMPLEX)
        if RESETS:
            kr, ki = tl.where(drop, 0.0, kr), tl.where(drop, 0.0, ki)
        return hr, hi, kr, ki
    else:
        hr, hi = times(lr, li, kr, ki, r, N, ROWS, COMPLEX)
        if RESETS:
            hr, hi = tl.where(drop, 0.0, hr), tl.where(drop, 0.0, hi)
        hr, hi = hr + ur, hi + ui
        return hr, hi, hr, hi


@triton.jit(do_not_specialize=INTEGERS)
def matrix_walk(
    A, b, h0, resets, entering,
    h, final,
    steps, states, segment, columns, n1, n2,
    A_step, A_0, A_1, A_2, A_line, A_lane, b_step, b_0, b_1, b_2, b_row, b_column, h0_0, h0_1, h0_2, h0_row, h0_column,
    r_step, r_0, r_1, r_2, h_step, h_0, h_1, h_2, h_row, h_column, f_0, f_1, f_2, f_row, f_column,
    N: tl.constexpr, NP: tl.constexpr, DIMS: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr,
    STAGES: tl.constexpr, AW: tl.constexpr, BW: tl.constexpr, HW: tl.constexpr, ROWS: tl.constexpr, FLAT: tl.constexpr,
    STILL: tl.constexpr, ADJOINT: tl.constexpr, DOWN: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """h, and at the end of the last segment the final state."""
    state = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    group, column = state, state
    if not ONE:
        group, column = state // columns, state % columns
    r = tl.arange(0, NP)[None, :]
    there = (state < states)[:, None]
    inside = there & (r < N)
    oA = start_of(group, column, n1, n2, A_0, A_1, A_2, 0, DIMS, True, AW)[:, None]
    ob = along(start_of(group, column, n1, n2, b_0, b_1, b_2, b_column, DIMS, ONE, BW)[:, None], b_row, r, BW)
    oh = along(start_of(group, column, n1, n2, h_0, h_1, h_2, h_column, DIMS, ONE, HW)[:, None], h_row, r, HW)
    kr, ki = zero(b, ob, states, COMPLEX, STATE)
    place = tl.program_id(1)
    if entering is not None:
        here = ((place.to(tl.int64) * states + state) * N)[:, None] + r
        kr, ki = loaded(entering, here, inside, COMPLEX, STATE)
    elif h0 is not None:
        first = start_of(group, column, n1, n2, h0_0, h0_1, h0_2, h0_column, DIMS, ONE, 1)
        kr, ki = loaded(h0, along(first[:, None], h0_row, r, 1), inside, COMPLEX, STATE)
    drop = there
    if resets is not None:
        orr = start_of(group, column, n1, n2, r_0, r_1, r_2, 0, DIMS, True, 1)[:, None]
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
            ur, ui = loaded(b, ob + in_time(step, steps, b_step, DOWN, BW), live, COMPLEX, STATE)
            if resets is not None:
                drop = tl.load(resets + (orr + in_time(step, steps, r_step, DOWN, 1)), mask=now, other=0) != 0
            hr, hi, nr, ni = advanced(
                lr, li, kr, ki, ur, ui, drop, r, N, ROWS, resets is not None, ADJOINT, COMPLEX
            )
            kr, ki = tl.where(now, nr, kr), tl.where(now, ni, ki)
            keep(h, oh + in_time(step, steps, h_step, DOWN, HW), hr, hi, live, COMPLEX)
    last = start_of(group, column, n1, n2, f_0, f_1, f_2, f_column, DIMS, ONE, 1)[:, None]
    keep(final, along(last, f_row, r, 1), kr, ki, inside & (end == steps), COMPLEX)
