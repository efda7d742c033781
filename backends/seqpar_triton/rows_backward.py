"""The fused backward pass of the linear recurrence where time lies contiguous: every gradient in one walk against time.

    lam = g[t] + k;  k = c[t] lam, or 0 at a reset;  dc = lam h[t-1], or 0 at a reset, minus lam b[t] under convex
    da = dc dc/da;  db = lam, or (1 - c) lam under convex;  dh0 = k at the end

In the order of this walk h[t-1] is the next step's: that of the next item, of the next group, of the next block.
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import gate_derivative, product
from seqpar_triton.rows import drops_of
from seqpar_triton.rows_groups import entering_groups, folded, items_of, last_group, taken, tile_of
from seqpar_triton.rows_memory import alive, block_of, coefficients_of, put_block, row_offsets, still_value
from seqpar_triton.walk import INTEGERS, advanced, coefficient_of, keep, number


@triton.jit
def before_first(first, beyond, GROUPS: tl.constexpr, DOWN: tl.constexpr):
    """What comes after each group in the walk: the first items of the groups after it, and `beyond` the block."""
    n = tl.arange(0, GROUPS)[None, :]
    if DOWN:
        return tl.where(n == 0, beyond[:, None], taken(first, tl.maximum(n - 1, 0)))
    else:
        return tl.where(n == GROUPS - 1, beyond[:, None], taken(first, tl.minimum(n + 1, GROUPS - 1)))


@triton.jit(do_not_specialize=INTEGERS)
def walk_rows_backward(
    a, b, h0, resets, h, g, g_final, entering,
    da, db, dh0,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, h0_0, h0_1, h0_2, r_step, r0, r1, r2, h_step, h_0, h_1, h_2,
    g_step, g0, g1, g2, gf0, gf1, gf2, da_step, da0, da1, da2, db_step, db0, db1, db2, dh0_0, dh0_1, dh0_2,
    DIMS: tl.constexpr, UNITS: tl.constexpr, WIDTHS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr, STILL: tl.constexpr,
    SUMMED: tl.constexpr, ALONE: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """da, db, and at the end of the last segment dh0. Where da is SUMMED over time, it is one sum per segment.

    Those of several segments are still to be added up, and multiplied by dc/da; a segment that is ALONE gives da itself.
    """
    SPAN: tl.constexpr = GROUPS * ITEMS
    SINGLE: tl.constexpr = ROWS == 1
    WIDE: tl.constexpr = STATE.is_fp64()
    RESETS: tl.constexpr = resets is not None
    lane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    present = lane < sequences
    there = present[:, None]
    if SINGLE:
        row = tl.program_id(0)
    else:
        row = lane[:, None]
    oa = row_offsets(row, n1, n2, a0, a1, a2, DIMS)
    ob = row_offsets(row, n1, n2, b0, b1, b2, DIMS)
    orr = row_offsets(row, n1, n2, r0, r1, r2, DIMS)
    oh = row_offsets(row, n1, n2, h_0, h_1, h_2, DIMS)
    og = row_offsets(row, n1, n2, g0, g1, g2, DIMS)
    oda = row_offsets(row, n1, n2, da0, da1, da2, DIMS)
    odb = row_offsets(row, n1, n2, db0, db1, db2, DIMS)
    ohs = row_offsets(lane, n1, n2, h_0, h_1, h_2, DIMS)
    kr = tl.zeros((ROWS,), CARRY)
    ki = kr
    # What enters the first step of the recurrence, the last of this walk.
    startr, starti = kr, ki
    if h0 is not None:
        startr, starti = number(h0, row_offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS), present, COMPLEX)
        startr, starti = startr.to(STATE).to(CARRY), starti.to(STATE).to(CARRY)
    place = tl.program_id(1)
    if entering is not None:
        kr, ki = number(entering, place.to(tl.int64) * sequences + lane, present, COMPLEX)
    elif g_final is not None:
        kr, ki = number(g_final, row_offsets(lane, n1, n2, gf0, gf1, gf2, DIMS), present, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    sr, si = kr, ki
    if STILL:
        sr, si = still_value(a, row_offsets(lane, n1, n2, a0, a1, a2, DIMS), present, COMPLEX)
    sumr = tl.zeros((ROWS, GROUPS), tl.float64)
    sumi = sumr
    begin = tl.multiple_of(tl.cast(place, steps.dtype) * segment, WIDTH)
    end = begin + tl.minimum(segment, steps - begin)
    for first in tl.range(begin, end, SPAN, num_stages=STAGES):
        low = first
        if DOWN:
            low = tl.multiple_of(steps - SPAN - first, WIDTH)
        live = alive(low, steps, there, DOWN, SINGLE, SPAN, 1, 1)
        cr, ci, dr, di = coefficients_of(
            a, oa, low, a_step, steps, there, sr, si, live, DOWN, SINGLE, SPAN, COMPLEX, UNITS[0], WIDTHS[0],
            GATE, STILL, STATE, CARRY,
        )  # fmt: skip
        gr, gi = block_of(g, og, low, g_step, steps, there, DOWN, SINGLE, SPAN, COMPLEX, UNITS[4], WIDTHS[4])
        br, bi = block_of(h, oh, low, h_step, steps, there, DOWN, SINGLE, SPAN, COMPLEX, UNITS[3], WIDTHS[3])
        # Where h has no more steps, there is what entered the first; the last block may have room for it, or not.
        br, bi = tl.where(live, br.to(CARRY), startr[:, None]), tl.where(live, bi.to(CARRY), starti[:, None])
        beyond = low + SPAN
        if DOWN:
            beyond = low - 1
        more = present & (beyond >= 0) & (beyond < steps)
        nextr, nexti = number(h, ohs + tl.cast(beyond, tl.int64) * h_step, more, COMPLEX)
        nextr, nexti = tl.where(more, nextr.to(CARRY), startr), tl.where(more, nexti.to(CARRY), starti)
        ur, ui = gr, gi
        if CONVEX:
            ur, ui = block_of(
                b, ob, low, b_step, steps, there, DOWN, SINGLE, SPAN, COMPLEX, UNITS[1], WIDTHS[1]
            )
            ur, ui = ur.to(CARRY), ui.to(CARRY)
        cr, ci = items_of(cr, ROWS, GROUPS, ITEMS, DOWN), items_of(ci, ROWS, GROUPS, ITEMS, DOWN)
        dr, di = items_of(dr, ROWS, GROUPS, ITEMS, DOWN), items_of(di, ROWS, GROUPS, ITEMS, DOWN)
        br, bi = items_of(br, ROWS, GROUPS, ITEMS, DOWN), items_of(bi, ROWS, GROUPS, ITEMS, DOWN)
        ur, ui = items_of(ur, ROWS, GROUPS, ITEMS, DOWN), items_of(ui, ROWS, GROUPS, ITEMS, DOWN)
        gr, gi = gr.to(STATE).to(CARRY), gi.to(STATE).to(CARRY)
        gr, gi = items_of(gr, ROWS, GROUPS, ITEMS, DOWN), items_of(gi, ROWS, GROUPS, ITEMS, DOWN)
        drop = cr
        if RESETS:
            drop = drops_of(
                resets, orr, low, r_step, steps, there, UNITS[2], WIDTHS[2], ROWS, GROUPS, ITEMS, DOWN
            )  # fmt: skip
        if SUMMED:
            lives = items_of(tl.broadcast_to(live, (ROWS, SPAN)).to(tl.int8), ROWS, GROUPS, ITEMS, DOWN)
        pr, pi, e, rr, ri = folded(cr, ci, gr, gi, drop, ITEMS, RESETS, True, COMPLEX, WIDE)
        er, ei = entering_groups(pr, pi, e, rr, ri, kr, ki, GROUPS, COMPLEX, WIDE, RESETS, DOWN)
        nextr = before_first(br[0], nextr, GROUPS, DOWN)
        nexti = before_first(bi[0], nexti, GROUPS, DOWN) if COMPLEX else nextr
        dar, dai, dbr, dbi = (), (), (), ()
        for j in tl.static_range(ITEMS):
            lr, li, er, ei = advanced(er, ei, cr[j], ci[j], gr[j], gi[j], drop[j], RESETS, True, COMPLEX)
            if j < ITEMS - 1:
                xr, xi = product(lr, li, br[j + 1], bi[j + 1], COMPLEX)
            else:
                xr, xi = product(lr, li, nextr, nexti, COMPLEX)
            if RESETS:
                xr, xi = tl.where(drop[j], 0.0, xr), tl.where(drop[j], 0.0, xi)
            if CONVEX:
                yr, yi = product(lr, li, ur[j], ui[j], COMPLEX)
                xr, xi = xr - yr, xi - yi
                lr, li = product(dr[j], di[j], lr, li, COMPLEX)
            if SUMMED:
                sumr += tl.where(lives[j] != 0, xr.to(tl.float64), 0.0)
                sumi += tl.where(lives[j] != 0, xi.to(tl.float64), 0.0)
            else:
                if GATE != "value":
                    wr, wi = gate_derivative(cr[j], ci[j], dr[j], di[j], GATE, COMPLEX)
                    xr, xi = product(xr, xi, wr, wi, COMPLEX)
                dar, dai = dar + (xr.to(STATE),), dai + (xi.to(STATE),)
            dbr, dbi = dbr + (lr.to(STATE),), dbi + (li.to(STATE),)
        kr, ki = last_group(er, GROUPS, DOWN), last_group(ei, GROUPS, DOWN)
        if not SUMMED:
            put_block(
                da, oda, low, da_step, steps, there, tile_of(dar, ROWS, GROUPS, ITEMS, DOWN),
                tile_of(dai, ROWS, GROUPS, ITEMS, DOWN), DOWN, SINGLE, SPAN, COMPLEX, UNITS[5], WIDTHS[5],
            )  # fmt: skip
        put_block(
            db, odb, low, db_step, steps, there, tile_of(dbr, ROWS, GROUPS, ITEMS, DOWN),
            tile_of(dbi, ROWS, GROUPS, ITEMS, DOWN), DOWN, SINGLE, SPAN, COMPLEX, UNITS[6], WIDTHS[6],
        )  # fmt: skip
    if SUMMED:
        sumr, sumi = tl.sum(sumr, 1), tl.sum(sumi, 1)
        if ALONE:
            if GATE != "value":
                cr, ci, dr, di = coefficient_of(sr, si, GATE, COMPLEX, STATE, CARRY)
                wr, wi = gate_derivative(cr, ci, dr, di, GATE, COMPLEX)
                wr, wi = tl.reshape(wr, (ROWS,)).to(tl.float64), tl.reshape(wi, (ROWS,)).to(tl.float64)
                sumr, sumi = product(sumr, sumi, wr, wi, COMPLEX)
            keep(da, row_offsets(lane, n1, n2, da0, da1, da2, DIMS), sumr, sumi, present, COMPLEX)
        else:
            keep(da, place.to(tl.int64) * sequences + lane, sumr, sumi, present, COMPLEX)
    last = present & (end == steps)
    keep(dh0, row_offsets(lane, n1, n2, dh0_0, dh0_1, dh0_2, DIMS), kr.to(STATE), ki.to(STATE), last, COMPLEX)
