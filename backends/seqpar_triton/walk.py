"""The linear recurrence with lanes over sequences: every lane walks time with its state in a register.

One program walks BLOCK sequences over one segment of time. The loads of STAGES blocks of UNROLL steps are in flight at once;
inside a segment every state is formed exactly as the definition forms it. With several segments a first pass finds what each
does to a state that enters it (`reduce`), a second carries the state across them (`cross`), and `walk` starts from that.
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import DROPPED, crossed, gate_pair, grown, multiply_add, offsets, product

# Nothing is compiled for a size: what is known of strides is in WIDTHS. Triton skips the names that a kernel lacks.
INTEGERS = (
    *("steps", "sequences", "segment", "segments", "n1", "n2"),
    *(f"{name}_step" for name in ("a", "b", "r", "h", "g", "da", "db")),
    *(
        f"{name}{axis}"
        for name in ("a", "b", "h0_", "r", "h_", "f", "g", "gf", "da", "db", "dh0_")
        for axis in range(3)
    ),
)


@triton.jit
def number(pointer, off, there, COMPLEX: tl.constexpr):
    """Numbers in memory, as (re, im)."""
    if COMPLEX:
        parts = tl.load(
            pointer + (off * 2)[:, None] + tl.arange(0, 2)[None, :], mask=there[:, None], other=0.0
        )
        re, im = tl.split(parts)
        return re, im
    else:
        x = tl.load(pointer + off, mask=there, other=0.0)
        return x, x


@triton.jit
def keep(pointer, off, xr, xi, there, COMPLEX: tl.constexpr):
    """Numbers into memory, rounded to its format."""
    xr = xr.to(pointer.dtype.element_ty)
    if COMPLEX:
        parts = tl.join(xr, xi.to(pointer.dtype.element_ty))
        tl.store(pointer + (off * 2)[:, None] + tl.arange(0, 2)[None, :], parts, mask=there[:, None])
    else:
        tl.store(pointer + off, xr, mask=there)


@triton.jit
def coefficient_of(
    ar, ai, GATE: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr
):
    """(c, 1 - c) in the precision of the carry, from the gate as it is in memory."""
    cr, ci, dr, di = gate_pair(ar.to(STATE), ai.to(STATE), GATE, COMPLEX, tl.float64 == STATE)
    return cr.to(CARRY), ci.to(CARRY), dr.to(CARRY), di.to(CARRY)


@triton.jit
def in_memory(step, steps, stride, DOWN: tl.constexpr, WIDTH: tl.constexpr):
    """Elements from the first step in memory to the one that the walk comes to as number `step`."""
    if DOWN:
        step = steps - 1 - step
    off = tl.cast(step, tl.int64) * stride
    if WIDTH > 1:
        off = tl.multiple_of(off, WIDTH)
    return off


@triton.jit
def advanced(
    kr, ki, cr, ci, ur, ui, drop, RESETS: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr
):
    """(h, the state carried on) after one step. What a reset drops is multiplied too, and then not taken: it may be NaN."""
    if ADJOINT:
        hr, hi = ur + kr, ui + ki
        kr, ki = product(cr, ci, hr, hi, COMPLEX)
        if RESETS:
            kr, ki = tl.where(drop, 0.0, kr), tl.where(drop, 0.0, ki)
        return hr, hi, kr, ki
    else:
        hr, hi = multiply_add(cr, ci, kr, ki, ur, ui, COMPLEX)
        if RESETS:
            hr, hi = tl.where(drop, ur, hr), tl.where(drop, ui, hi)
        return hr, hi, hr, hi


@triton.jit
def read(
    a, b, resets, oa, ob, orr, a_step, b_step, r_step, step, steps, mask, cr, ci, dr, di,
    WIDTHS: tl.constexpr, GATE: tl.constexpr, CONVEX: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """(c, 1 - c, u, reset) of one step; c and 1 - c are those given where the coefficient is STILL."""
    if not STILL:
        ar, ai = number(a, oa + in_memory(step, steps, a_step, DOWN, WIDTHS[0]), mask, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    ur, ui = number(b, ob + in_memory(step, steps, b_step, DOWN, WIDTHS[1]), mask, COMPLEX)
    ur, ui = ur.to(CARRY), ui.to(CARRY)
    if CONVEX:
        ur, ui = product(dr, di, ur, ui, COMPLEX)
    drop = mask
    if resets is not None:
        drop = (
            tl.load(resets + (orr + in_memory(step, steps, r_step, DOWN, WIDTHS[2])), mask=mask, other=0) != 0
        )
    return cr, ci, dr, di, ur, ui, drop


@triton.jit(do_not_specialize=INTEGERS)
def walk(
    a, b, h0, resets, entering,
    h, final,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, h0_0, h0_1, h0_2, r_step, r0, r1, r2, h_step, h_0, h_1, h_2, f0, f1, f2,
    DIMS: tl.constexpr, WIDTHS: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """h, and at the end of the last segment the final state."""
    HW: tl.constexpr = WIDTHS[3]
    WIDTH: tl.constexpr = WIDTHS[4]
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = tl.max_constancy(lane < sequences, WIDTH)
    oa = offsets(lane, n1, n2, a0, a1, a2, DIMS, WIDTHS[0])
    ob = offsets(lane, n1, n2, b0, b1, b2, DIMS, WIDTHS[1])
    orr = oa
    if resets is not None:
        orr = offsets(lane, n1, n2, r0, r1, r2, DIMS, WIDTHS[2])
    kr = tl.zeros((BLOCK,), CARRY)
    ki = kr
    place = tl.program_id(1)
    if entering is not None:
        kr, ki = number(entering, place.to(tl.int64) * sequences + lane, there, COMPLEX)
    elif h0 is not None:
        kr, ki = number(h0, offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS, 1), there, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    cr, ci, dr, di = kr, kr, kr, kr
    if STILL:
        ar, ai = number(a, oa, there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    begin = place * segment
    end = tl.minimum(begin + segment, steps)
    # Blocks are whole, and nothing in them but the loads knows the number of the step: masks and places that the loads and
    # the rest both need would be handed through every block in flight, at three times the instructions.
    whole = begin + (end - begin) // UNROLL * UNROLL
    hop = tl.cast(h_step, tl.int64)
    if DOWN:
        hop = -hop
    out = offsets(lane, n1, n2, h_0, h_1, h_2, DIMS, HW) + in_memory(begin, steps, h_step, DOWN, HW)
    for first in tl.range(begin, whole, UNROLL, num_stages=STAGES):
        for i in tl.static_range(UNROLL):
            cr, ci, dr, di, ur, ui, drop = read(
                a, b, resets, oa, ob, orr, a_step, b_step, r_step, first + i, steps, there, cr, ci, dr, di,
                WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
            )  # fmt: skip
            hr, hi, kr, ki = advanced(kr, ki, cr, ci, ur, ui, drop, resets is not None, ADJOINT, COMPLEX)
            keep(h, out, hr.to(STATE), hi.to(STATE), there, COMPLEX)
            out = tl.max_contiguous(tl.multiple_of(out + hop, HW), HW)
    for step in tl.range(whole, end, num_stages=1):
        cr, ci, dr, di, ur, ui, drop = read(
            a, b, resets, oa, ob, orr, a_step, b_step, r_step, step, steps, there, cr, ci, dr, di,
            WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
        )  # fmt: skip
        hr, hi, kr, ki = advanced(kr, ki, cr, ci, ur, ui, drop, resets is not None, ADJOINT, COMPLEX)
        keep(h, out, hr.to(STATE), hi.to(STATE), there, COMPLEX)
        out = tl.max_contiguous(tl.multiple_of(out + hop, HW), HW)
    last = there & (end == steps)
    keep(final, offsets(lane, n1, n2, f0, f1, f2, DIMS, 1), kr.to(STATE), ki.to(STATE), last, COMPLEX)


@triton.jit(do_not_specialize=INTEGERS)
def reduce(
    a, b, resets,
    slope, exponent, reached,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, r_step, r0, r1, r2,
    DIMS: tl.constexpr, WIDTHS: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """What a segment does to the state k that enters it: slope * k + reached."""
    WIDTH: tl.constexpr = WIDTHS[4]
    WIDE: tl.constexpr = tl.float64 == STATE
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = tl.max_constancy(lane < sequences, WIDTH)
    oa = offsets(lane, n1, n2, a0, a1, a2, DIMS, WIDTHS[0])
    ob = offsets(lane, n1, n2, b0, b1, b2, DIMS, WIDTHS[1])
    orr = oa
    if resets is not None:
        orr = offsets(lane, n1, n2, r0, r1, r2, DIMS, WIDTHS[2])
    kr = tl.zeros((BLOCK,), CARRY)
    ki = kr
    pr = tl.full((BLOCK,), 1.0, tl.float64)
    pi = tl.zeros((BLOCK,), tl.float64)
    e = tl.zeros((BLOCK,), tl.int32)
    gone = lane < 0
    cr, ci, dr, di = kr, kr, kr, kr
    if STILL:
        ar, ai = number(a, oa, there, COMPLEX)
        cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    place = tl.program_id(1)
    begin = place * segment
    end = tl.minimum(begin + segment, steps)
    whole = begin + (end - begin) // UNROLL * UNROLL
    for first in tl.range(begin, whole, UNROLL, num_stages=STAGES):
        for i in tl.static_range(UNROLL):
            cr, ci, dr, di, ur, ui, drop = read(
                a, b, resets, oa, ob, orr, a_step, b_step, r_step, first + i, steps, there, cr, ci, dr, di,
                WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
            )  # fmt: skip
            if resets is not None:
                gone = gone | drop
            _, _, kr, ki = advanced(kr, ki, cr, ci, ur, ui, drop, resets is not None, ADJOINT, COMPLEX)
            pr, pi, e = grown(pr, pi, e, cr.to(tl.float64), ci.to(tl.float64), COMPLEX, WIDE)
    for step in tl.range(whole, end, num_stages=1):
        cr, ci, dr, di, ur, ui, drop = read(
            a, b, resets, oa, ob, orr, a_step, b_step, r_step, step, steps, there, cr, ci, dr, di,
            WIDTHS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
        )  # fmt: skip
        if resets is not None:
            gone = gone | drop
        _, _, kr, ki = advanced(kr, ki, cr, ci, ur, ui, drop, resets is not None, ADJOINT, COMPLEX)
        pr, pi, e = grown(pr, pi, e, cr.to(tl.float64), ci.to(tl.float64), COMPLEX, WIDE)
    here = place.to(tl.int64) * sequences + lane
    keep(slope, here, pr, pi, there, COMPLEX)
    tl.store(exponent + here, tl.where(gone, DROPPED, e), mask=there)
    keep(reached, here, kr, ki, there, COMPLEX)


@triton.jit(do_not_specialize=INTEGERS)
def cross(
    slope, exponent, reached, h0,
    entering,
    segments, sequences, n1, n2, h0_0, h0_1, h0_2,
    DIMS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, COMPLEX: tl.constexpr,
    STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """The state that enters every segment, one segment after the other."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = lane < sequences
    kr = tl.zeros((BLOCK,), CARRY)
    ki = kr
    if h0 is not None:
        kr, ki = number(h0, offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS, 1), there, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    for place in tl.range(0, segments, num_stages=STAGES):
        here = tl.cast(place, tl.int64) * sequences + lane
        keep(entering, here, kr, ki, there, COMPLEX)
        pr, pi = number(slope, here, there, COMPLEX)
        e = tl.load(exponent + here, mask=there, other=0)
        rr, ri = number(reached, here, there, COMPLEX)
        xr, xi = crossed(pr, pi, e, kr.to(tl.float64), ki.to(tl.float64), COMPLEX, tl.float64 == STATE)
        gone = e == DROPPED
        kr = tl.where(gone, rr, xr + rr).to(CARRY)
        ki = tl.where(gone, ri, xi + ri).to(CARRY)
