"""The fused backward pass of the matrix recurrence: every gradient in one walk against time.

    lam = g[t] + k;  k = M[t]^T lam, or 0 at a reset;  dM = lam h[t-1]^T, or 0 at a reset, summed over columns
    db = lam;  dA = dM or its transpose;  dh0 = k at the end

The adjoint walk is that of matrix.py, with lines of the transposed matrices; its segments are reduced as those are. Columns of
one state lie in one program, COLUMNS lanes for each group of them, where a matrix of gradients is their sum.
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


@triton.jit
def line_of(
    lr, li, hr, hi, drop, r,
    i: tl.constexpr, ROWS: tl.constexpr, RESETS: tl.constexpr, GROUPS: tl.constexpr, COLUMNS: tl.constexpr,
    COMPLEX: tl.constexpr, FORMAT: tl.constexpr,
):  # fmt: skip
    """Line i, a row or a column, of lam h^T in a format, summed over columns. What a reset drops is never multiplied by 0."""
    if ROWS:
        ar, ai, br, bi = one_of(lr, r, i), li, hr, hi
        if COMPLEX:
            ai = one_of(li, r, i)
    else:
        ar, ai, br, bi = one_of(hr, r, i), hi, lr, li
        if COMPLEX:
            ai = one_of(hi, r, i)
    ar, ai, br, bi = ar.to(FORMAT), ai.to(FORMAT), br.to(FORMAT), bi.to(FORMAT)
    if COMPLEX:
        xr, xi = ar * br - ai * bi, ar * bi + ai * br
    else:
        xr = ar * br
        xi = xr
    if RESETS:
        xr, xi = tl.where(drop, 0.0, xr), tl.where(drop, 0.0, xi)
    if COLUMNS > 1:
        xr = tl.sum(tl.reshape(xr, (GROUPS, COLUMNS, xr.shape[1])), 1)
        if COMPLEX:
            xi = tl.sum(tl.reshape(xi, (GROUPS, COLUMNS, xi.shape[1])), 1)
        else:
            xi = xr
    return xr, xi


@triton.jit(do_not_specialize=INTEGERS)
def matrix_walk_backward(
    A, h0, resets, h, g, g_final, entering,
    dA, db, dh0,
    steps, groups, segment, columns, n1, n2,
    A_step, A_0, A_1, A_2, A_line, A_lane, h0_0, h0_1, h0_2, h0_row, h0_column, r_step, r_0, r_1, r_2,
    h_step, h_0, h_1, h_2, h_row, h_column, g_step, g_0, g_1, g_2, g_row, g_column, gf_0, gf_1, gf_2, gf_row, gf_column,
    dA_step, dA_0, dA_1, dA_2, dA_line, dA_lane, db_step, db_0, db_1, db_2, db_row, db_column,
    dh0_0, dh0_1, dh0_2, dh0_row, dh0_column,
    N: tl.constexpr, NP: tl.constexpr, DIMS: tl.constexpr, COLUMNS: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr,
    UNROLL: tl.constexpr, STAGES: tl.constexpr, AW: tl.constexpr, HW: tl.constexpr, GW: tl.constexpr, DW: tl.constexpr,
    BW: tl.constexpr, ROWS: tl.constexpr, FLAT: tl.constexpr, DROWS: tl.constexpr, STILL: tl.constexpr,
    SUMMED: tl.constexpr, DOWN: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """db, dh0, and dA: of every step, or under SUMMED of every segment, in double precision and row-major."""
    GROUPS: tl.constexpr = BLOCK // COLUMNS
    lane = tl.arange(0, BLOCK)
    group, column = tl.program_id(0) * GROUPS + lane // COLUMNS, lane % COLUMNS
    r = tl.arange(0, NP)[None, :]
    there = ((group < groups) & (column < columns))[:, None]
    inside = there & (r < N)
    oA = start_of(group, column, n1, n2, A_0, A_1, A_2, 0, DIMS, True, AW)[:, None]
    oh = along(start_of(group, column, n1, n2, h_0, h_1, h_2, h_column, DIMS, ONE, HW)[:, None], h_row, r, HW)
    og = along(start_of(group, column, n1, n2, g_0, g_1, g_2, g_column, DIMS, ONE, GW)[:, None], g_row, r, GW)
    ob = along(
        start_of(group, column, n1, n2, db_0, db_1, db_2, db_column, DIMS, ONE, BW)[:, None], db_row, r, BW
    )
    whole = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    present = (whole < groups)[:, None]
    oD = start_of(whole, whole, n1, n2, dA_0, dA_1, dA_2, 0, DIMS, True, DW)[:, None]
    kr, ki = zero(g, og, groups, COMPLEX, STATE)
    place = tl.program_id(1)
    if entering is not None:
        here = ((place.to(tl.int64) * groups + group) * columns + column) * N
        kr, ki = loaded(entering, here[:, None] + r, inside, COMPLEX, STATE)
    elif g_final is not None:
        first = start_of(group, column, n1, n2, gf_0, gf_1, gf_2, gf_column, DIMS, ONE, 1)
        kr, ki = loaded(g_final, along(first[:, None], gf_row, r, 1), inside, COMPLEX, STATE)
    sr = tl.zeros((BLOCK, NP), STATE)
    si = sr
    if h0 is not None:
        first = start_of(group, column, n1, n2, h0_0, h0_1, h0_2, h0_column, DIMS, ONE, 1)
        sr, si = loaded(h0, along(first[:, None], h0_row, r, 1), inside, COMPLEX, STATE)
    drop = there
    if resets is not None:
        orr = start_of(group, column, n1, n2, r_0, r_1, r_2, 0, DIMS, True, 1)[:, None]
    if STILL:
        lr, li = lines_of(A, oA, A_line, A_lane, r, there, N, FLAT, AW, COMPLEX, STATE)
    total_r, total_i = (), ()
    if SUMMED:
        for _ in tl.static_range(N):
            total_r = total_r + (tl.zeros((GROUPS, NP), tl.float64),)
            total_i = total_i + (tl.zeros((GROUPS, NP), tl.float64),)
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
            gr, gi = loaded(g, og + in_time(step, steps, g_step, DOWN, GW), live, COMPLEX, STATE)
            # The state before this step is the result of the next one that this walk comes to.
            before = live & (step + 1 < steps)
            hr, hi = loaded(h, oh + in_time(step + 1, steps, h_step, DOWN, HW), before, COMPLEX, STATE)
            hr, hi = tl.where(step + 1 < steps, hr, sr), tl.where(step + 1 < steps, hi, si)
            if resets is not None:
                drop = tl.load(resets + (orr + in_time(step, steps, r_step, DOWN, 1)), mask=now, other=0) != 0
            zr, zi, nr, ni = advanced(
                lr, li, kr, ki, gr, gi, drop, r, N, ROWS, resets is not None, True, COMPLEX
            )
            keep(db, ob + in_time(step, steps, db_step, DOWN, BW), zr, zi, live, COMPLEX)
            # Beyond the columns, and beyond the segment, nothing is to be added.
            zr, zi = tl.where(live, zr, 0.0), tl.where(live, zi, 0.0)
            hr, hi = tl.where(live, hr, 0.0), tl.where(live, hi, 0.0)
            kr, ki = tl.where(now, nr, kr), tl.where(now, ni, ki)
            if SUMMED:
                new_r, new_i = (), ()
                for j in tl.static_range(N):
                    xr, xi = line_of(
                        zr, zi, hr, hi, drop, r, j, DROWS, resets is not None, GROUPS, COLUMNS, COMPLEX, tl.float64
                    )  # fmt: skip
                    new_r = new_r + (total_r[j] + xr,)
                    new_i = new_i + (total_i[j] + xi,)
                total_r, total_i = new_r, new_i
            else:
                at = oD + in_time(step, steps, dA_step, DOWN, DW)
                write = present & (r < N) & (step < end)
                for j in tl.static_range(N):
                    xr, xi = line_of(
                        zr, zi, hr, hi, drop, r, j, DROWS, resets is not None, GROUPS, COLUMNS, COMPLEX, STATE
                    )  # fmt: skip
                    shift = tl.multiple_of(tl.cast(dA_line, tl.int64) * j, DW)
                    keep(dA, along(at + shift, dA_lane, r, DW), xr, xi, write, COMPLEX)
    if SUMMED:
        # One matrix after the other, segment by segment; lines are rows.
        at = (place.to(tl.int64) * groups + whole) * (N * N)
        for j in tl.static_range(N):
            keep(dA, at[:, None] + (j * N) + r, total_r[j], total_i[j], present & (r < N), COMPLEX)
    last = start_of(group, column, n1, n2, dh0_0, dh0_1, dh0_2, dh0_column, DIMS, ONE, 1)[:, None]
    keep(dh0, along(last, dh0_row, r, 1), kr, ki, inside & (end == steps), COMPLEX)


@triton.jit(do_not_specialize=INTEGERS)
def matrix_total(
    sums,
    dA,
    parts, groups, n1, n2, dA_0, dA_1, dA_2, dA_line, dA_lane,
    N: tl.constexpr, DIMS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, COMPLEX: tl.constexpr,
):  # fmt: skip
    """dA of a matrix that serves all time: the sums of the segments in their order."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    group, line, lane = number // (N * N), number // N % N, number % N
    there = (group < groups)[:, None]
    xr = tl.zeros((BLOCK, 1), tl.float64)
    xi = xr
    for place in tl.range(0, parts, num_stages=STAGES):
        here = tl.cast(place, tl.int64) * groups * (N * N) + number
        ar, ai = loaded(sums, here[:, None], there, COMPLEX, tl.float64)
        xr, xi = xr + ar, xi + ai
    off = start_of(group, group, n1, n2, dA_0, dA_1, dA_2, 0, DIMS, True, 1)
    off += line.to(tl.int64) * dA_line + lane.to(tl.int64) * dA_lane
    keep(dA, off[:, None], xr, xi, there, COMPLEX)
