"""The fused backward pass of the linear recurrence with lanes over sequences: every gradient in one walk against time.

lam = g[t] + k;  k = c[t] lam, or 0 at a reset;  dc = lam h[t-1], or 0 at a reset, minus lam b[t] under convex
da = dc dc/da;  db = lam, or (1 - c) lam under convex;  dh0 = k at the end
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import gate_derivative, offsets, product
from seqpar_triton.walk import INTEGERS, coefficient_of, in_memory, keep, number


@triton.jit
def pulled(
    a, b, resets, g, da, db,
    oa, ob, orr, og, oda, odb,
    a_step, b_step, r_step, g_step, step, steps, there,
    br, bi, kr, ki, cr, ci, dr, di, sumr, sumi,
    WIDTHS: tl.constexpr, GATE: tl.constexpr, CONVEX: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, SUMMED: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """One step against time, before which the state was (br, bi): what is carried on, and the sums of dc."""
    if not STILL:
        ar, ai = number(a, oa + in_memory(step, steps, a_step, DOWN, WIDTHS[0]), there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    gr, gi = number(g, og + in_memory(step, steps, g_step, DOWN, WIDTHS[5]), there, COMPLEX)
    lr, li = gr.to(CARRY) + kr, gi.to(CARRY) + ki
    kr, ki = product(cr, ci, lr, li, COMPLEX)
    er, ei = product(lr, li, br, bi, COMPLEX)
    if resets is not None:
        drop = (
            tl.load(resets + (orr + in_memory(step, steps, r_step, DOWN, WIDTHS[2])), mask=there, other=0)
            != 0
        )
        kr, ki = tl.where(drop, 0.0, kr), tl.where(drop, 0.0, ki)
        er, ei = tl.where(drop, 0.0, er), tl.where(drop, 0.0, ei)
    if CONVEX:
        ur, ui = number(b, ob + in_memory(step, steps, b_step, DOWN, WIDTHS[1]), there, COMPLEX)
        xr, xi = product(lr, li, ur.to(CARRY), ui.to(CARRY), COMPLEX)
        er, ei = er - xr, ei - xi
        lr, li = product(dr, di, lr, li, COMPLEX)
    if SUMMED:
        sumr += er.to(tl.float64)
        sumi += ei.to(tl.float64)
    else:
        if GATE != "value":
            wr, wi = gate_derivative(cr, ci, dr, di, GATE, COMPLEX)
            er, ei = product(er, ei, wr, wi, COMPLEX)
        keep(da, oda, er.to(STATE), ei.to(STATE), there, COMPLEX)
    keep(db, odb, lr.to(STATE), li.to(STATE), there, COMPLEX)
    return kr, ki, cr, ci, dr, di, sumr, sumi


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
    HW: tl.constexpr = WIDTHS[3]
    WIDTH: tl.constexpr = WIDTHS[4]
    DAW: tl.constexpr = WIDTHS[6]
    DBW: tl.constexpr = WIDTHS[7]
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = tl.max_constancy(lane < sequences, WIDTH)
    oa = offsets(lane, n1, n2, a0, a1, a2, DIMS, WIDTHS[0])
    oh = offsets(lane, n1, n2, h_0, h_1, h_2, DIMS, HW)
    og = offsets(lane, n1, n2, g0, g1, g2, DIMS, WIDTHS[5])
    ob, orr = oa, oa
    if CONVEX:
        ob = offsets(lane, n1, n2, b0, b1, b2, DIMS, WIDTHS[1])
    if resets is not None:
        orr = offsets(lane, n1, n2, r0, r1, r2, DIMS, WIDTHS[2])
    kr = tl.zeros((BLOCK,), CARRY)
    ki = kr
    place = tl.program_id(1)
    if entering is not None:
        kr, ki = number(entering, place.to(tl.int64) * sequences + lane, there, COMPLEX)
    elif g_final is not None:
        kr, ki = number(g_final, offsets(lane, n1, n2, gf0, gf1, gf2, DIMS, 1), there, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    cr, ci, dr, di = kr, kr, kr, kr
    if STILL:
        ar, ai = number(a, oa, there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    sumr = tl.zeros((BLOCK,), tl.float64)
    sumi = sumr
    begin = place * segment
    end = tl.minimum(begin + segment, steps)
    # As in `walk`; the last step of all is not among whole blocks, for no state of h is before it.
    whole = begin + tl.maximum(tl.minimum(end, steps - 1) - begin, 0) // UNROLL * UNROLL
    oda = offsets(lane, n1, n2, da0, da1, da2, DIMS, DAW) + in_memory(begin, steps, da_step, DOWN, DAW)
    odb = offsets(lane, n1, n2, db0, db1, db2, DIMS, DBW) + in_memory(begin, steps, db_step, DOWN, DBW)
    da_hop, db_hop = tl.cast(da_step, tl.int64), tl.cast(db_step, tl.int64)
    if DOWN:
        da_hop, db_hop = -da_hop, -db_hop
    for first in tl.range(begin, whole, UNROLL, num_stages=STAGES):
        for i in tl.static_range(UNROLL):
            br, bi = number(h, oh + in_memory(first + i + 1, steps, h_step, DOWN, HW), there, COMPLEX)
            kr, ki, cr, ci, dr, di, sumr, sumi = pulled(
                a, b, resets, g, da, db, oa, ob, orr, og, oda, odb, a_step, b_step, r_step, g_step, first + i, steps, there,
                br.to(CARRY), bi.to(CARRY), kr, ki, cr, ci, dr, di, sumr, sumi,
                WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, SUMMED, STATE, CARRY,
            )  # fmt: skip
            oda = tl.max_contiguous(tl.multiple_of(oda + da_hop, DAW), DAW)
            odb = tl.max_contiguous(tl.multiple_of(odb + db_hop, DBW), DBW)
    # What enters the first step of the recurrence, the last of this walk.
    sr = tl.zeros((BLOCK,), CARRY)
    si = sr
    if h0 is not None:
        sr, si = number(h0, offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS, 1), there, COMPLEX)
        sr, si = sr.to(STATE).to(CARRY), si.to(STATE).to(CARRY)
    for step in tl.range(whole, end, num_stages=1):
        inner = there & (step < steps - 1)
        br, bi = number(h, oh + in_memory(step + 1, steps, h_step, DOWN, HW), inner, COMPLEX)
        br, bi = tl.where(inner, br.to(CARRY), sr), tl.where(inner, bi.to(CARRY), si)
        kr, ki, cr, ci, dr, di, sumr, sumi = pulled(
            a, b, resets, g, da, db, oa, ob, orr, og, oda, odb, a_step, b_step, r_step, g_step, step, steps, there,
            br, bi, kr, ki, cr, ci, dr, di, sumr, sumi,
            WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, SUMMED, STATE, CARRY,
        )  # fmt: skip
        oda = tl.max_contiguous(tl.multiple_of(oda + da_hop, DAW), DAW)
        odb = tl.max_contiguous(tl.multiple_of(odb + db_hop, DBW), DBW)
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
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
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
