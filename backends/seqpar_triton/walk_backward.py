"""The fused backward pass of the linear recurrence with lanes over sequences: every gradient in one walk against time.

lam = g[t] + k;  k = c[t] lam, or 0 at a reset;  dc = lam h[t-1], or 0 at a reset, minus lam b[t] under convex
da = dc dc/da;  db = lam, or (1 - c) lam under convex;  dh0 = k at the end
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import gate_derivative, offsets, product
from seqpar_triton.walk import INTEGERS, coefficient_of, in_memory, keep, number


@triton.jit(do_not_specialize=INTEGERS)
def walk_backward(
    a, b, h0, resets, h, g, g_final, entering,
    da, db, dh0,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, h0_0, h0_1, h0_2, r_step, r0, r1, r2, h_step, h_0, h_1, h_2,
    g_step, g0, g1, g2, gf0, gf1, gf2, da_step, da0, da1, da2, db_step, db0, db1, db2, dh0_0, dh0_1, dh0_2,
    DIMS: tl.constexpr, WIDTHS: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr, STILL: tl.constexpr,
    SUMMED: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """da, db, and at the end of the last segment dh0. Where da is SUMMED over time, it is one sum per segment, unweighted."""
    AW: tl.constexpr = WIDTHS[0]
    BW: tl.constexpr = WIDTHS[1]
    RW: tl.constexpr = WIDTHS[2]
    HW: tl.constexpr = WIDTHS[3]
    WIDTH: tl.constexpr = WIDTHS[4]
    GW: tl.constexpr = WIDTHS[5]
    DAW: tl.constexpr = WIDTHS[6]
    DBW: tl.constexpr = WIDTHS[7]
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = tl.max_constancy(lane < sequences, WIDTH)
    oa = offsets(lane, n1, n2, a0, a1, a2, DIMS, AW)
    oh = offsets(lane, n1, n2, h_0, h_1, h_2, DIMS, HW)
    og = offsets(lane, n1, n2, g0, g1, g2, DIMS, GW)
    oda = offsets(lane, n1, n2, da0, da1, da2, DIMS, DAW)
    odb = offsets(lane, n1, n2, db0, db1, db2, DIMS, DBW)
    if CONVEX:
        ob = offsets(lane, n1, n2, b0, b1, b2, DIMS, BW)
    if resets is not None:
        orr = offsets(lane, n1, n2, r0, r1, r2, DIMS, RW)
    kr = tl.zeros((BLOCK,), CARRY)
    ki = kr
    # What enters the first step of the recurrence, the last of this walk.
    sr = tl.zeros((BLOCK,), CARRY)
    si = sr
    if h0 is not None:
        sr, si = number(h0, offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS, 1), there, COMPLEX)
        sr, si = sr.to(STATE).to(CARRY), si.to(STATE).to(CARRY)
    place = tl.program_id(1)
    if entering is not None:
        kr, ki = number(entering, place.to(tl.int64) * sequences + lane, there, COMPLEX)
    elif g_final is not None:
        kr, ki = number(g_final, offsets(lane, n1, n2, gf0, gf1, gf2, DIMS, 1), there, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    drop = there
    if STILL:
        ar, ai = number(a, oa, there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    sumr = tl.zeros((BLOCK,), tl.float64)
    sumi = sumr
    begin = place * segment
    end = tl.minimum(begin + segment, steps)
    for first in tl.range(begin, end, UNROLL, num_stages=STAGES):
        for i in tl.static_range(UNROLL):
            step = first + i
            live = there & (step < end)
            inner = live & (step < steps - 1)
            if not STILL:
                ar, ai = number(a, oa + in_memory(step, steps, a_step, DOWN, AW), live, COMPLEX)
                cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
            gr, gi = number(g, og + in_memory(step, steps, g_step, DOWN, GW), live, COMPLEX)
            br, bi = number(h, oh + in_memory(step + 1, steps, h_step, DOWN, HW), inner, COMPLEX)
            br, bi = tl.where(inner, br.to(CARRY), sr), tl.where(inner, bi.to(CARRY), si)
            lr, li = gr.to(CARRY) + kr, gi.to(CARRY) + ki
            nr, ni = product(cr, ci, lr, li, COMPLEX)
            er, ei = product(lr, li, br, bi, COMPLEX)
            if resets is not None:
                drop = (
                    tl.load(resets + (orr + in_memory(step, steps, r_step, DOWN, RW)), mask=live, other=0)
                    != 0
                )
                nr, ni = tl.where(drop, 0.0, nr), tl.where(drop, 0.0, ni)
                er, ei = tl.where(drop, 0.0, er), tl.where(drop, 0.0, ei)
            if CONVEX:
                ur, ui = number(b, ob + in_memory(step, steps, b_step, DOWN, BW), live, COMPLEX)
                xr, xi = product(lr, li, ur.to(CARRY), ui.to(CARRY), COMPLEX)
                er, ei = er - xr, ei - xi
                lr, li = product(dr, di, lr, li, COMPLEX)
            if SUMMED:
                sumr += tl.where(live, er.to(tl.float64), 0.0)
                sumi += tl.where(live, ei.to(tl.float64), 0.0)
            else:
                if GATE != "value":
                    wr, wi = gate_derivative(cr, ci, dr, di, GATE, COMPLEX)
                    er, ei = product(er, ei, wr, wi, COMPLEX)
                keep(
                    da,
                    oda + in_memory(step, steps, da_step, DOWN, DAW),
                    er.to(STATE),
                    ei.to(STATE),
                    live,
                    COMPLEX,
                )
            keep(
                db,
                odb + in_memory(step, steps, db_step, DOWN, DBW),
                lr.to(STATE),
                li.to(STATE),
                live,
                COMPLEX,
            )
            kr, ki = tl.where(live, nr, kr), tl.where(live, ni, ki)
    if SUMMED:
        keep(da, place.to(tl.int64) * sequences + lane, sumr, sumi, there, COMPLEX)
    last = there & (end == steps)
    keep(dh0, offsets(lane, n1, n2, dh0_0, dh0_1, dh0_2, DIMS, 1), kr.to(STATE), ki.to(STATE), last, COMPLEX)


@triton.jit(do_not_specialize=INTEGERS)
def total(
    a, sums,
    da,
    segments, sequences, n1, n2, a0, a1, a2, da0, da1, da2,
    DIMS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, GATE: tl.constexpr, COMPLEX: tl.constexpr,
    STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """da summed over time: the sums of the segments in their order, times dc/da of the one coefficient."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = lane < sequences
    sr = tl.zeros((BLOCK,), tl.float64)
    si = sr
    for place in tl.range(0, segments, num_stages=STAGES):
        xr, xi = number(sums, tl.cast(place, tl.int64) * sequences + lane, there, COMPLEX)
        sr, si = sr + xr, si + xi
    if GATE != "value":
        ar, ai = number(a, offsets(lane, n1, n2, a0, a1, a2, DIMS, 1), there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
        wr, wi = gate_derivative(cr, ci, dr, di, GATE, COMPLEX)
        sr, si = product(sr, si, wr.to(tl.float64), wi.to(tl.float64), COMPLEX)
    keep(da, offsets(lane, n1, n2, da0, da1, da2, DIMS, 1), sr, si, there, COMPLEX)
