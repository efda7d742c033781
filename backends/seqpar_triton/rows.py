"""The linear recurrence where time lies contiguous in memory: a warp takes a block of steps of a row, as coalesced vectors.

A block is GROUPS groups of ITEMS neighbouring steps. Each lane folds its groups into what they do to the state k that enters
them, slope * k + reached; a scan over the groups (rows_groups.py) finds the states between them; from those every group walks its
steps as the definition does. What enters the next block is the last state so walked, in the precision of the state. Slopes
cannot overflow before states do, as everywhere; with several segments of time, `reduce_rows` finds what each segment does, and
`cross` in walk.py carries the state across them. A walk against time keeps the order of memory and turns that of steps.
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import product
from seqpar_triton.rows_groups import (
    composed,
    entering_groups,
    folded,
    in_walk_order,
    items_of,
    last_group,
    scanned,
    tile_of,
)
from seqpar_triton.rows_memory import alive, block_of, coefficients_of, put_block, row_offsets, still_value
from seqpar_triton.walk import INTEGERS, advanced, keep, number


@triton.jit
def drops_of(
    resets, rows, low, step, steps, there, UNIT: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, DOWN: tl.constexpr,
):  # fmt: skip
    """Where the state is dropped, in items."""
    x, _ = block_of(
        resets, rows, low, step, steps, there, DOWN, ROWS == 1, GROUPS * ITEMS, False, UNIT, WIDTH
    )
    marks = items_of(x, ROWS, GROUPS, ITEMS, DOWN)
    drop = ()
    for j in tl.static_range(ITEMS):
        drop = drop + (marks[j] != 0,)
    return drop


@triton.jit
def steps_of(
    a, b, resets, oa, ob, orr, low, a_step, b_step, r_step, steps, there, stillr, stilli,
    UNITS: tl.constexpr, WIDTHS: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr, STILL: tl.constexpr,
    STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """(c re, im, u re, im, drop) of a block, in items; where there are no steps, c is 1 and u is 0."""
    SPAN: tl.constexpr = GROUPS * ITEMS
    SINGLE: tl.constexpr = ROWS == 1
    live = alive(low, steps, there, DOWN, SINGLE, SPAN, 1, 1)
    cr, ci, dr, di = coefficients_of(
        a, oa, low, a_step, steps, there, stillr, stilli, live, DOWN, SINGLE, SPAN, COMPLEX, UNITS[0], WIDTHS[0],
        GATE, STILL, STATE, CARRY,
    )  # fmt: skip
    ur, ui = block_of(b, ob, low, b_step, steps, there, DOWN, SINGLE, SPAN, COMPLEX, UNITS[1], WIDTHS[1])
    ur, ui = ur.to(STATE).to(CARRY), ui.to(STATE).to(CARRY)
    if CONVEX:
        ur, ui = product(dr, di, ur, ui, COMPLEX)
    cr, ci = items_of(cr, ROWS, GROUPS, ITEMS, DOWN), items_of(ci, ROWS, GROUPS, ITEMS, DOWN)
    ur, ui = items_of(ur, ROWS, GROUPS, ITEMS, DOWN), items_of(ui, ROWS, GROUPS, ITEMS, DOWN)
    drop = cr
    if resets is not None:
        drop = drops_of(
            resets, orr, low, r_step, steps, there, UNITS[2], WIDTHS[2], ROWS, GROUPS, ITEMS, DOWN
        )  # fmt: skip
    return cr, ci, ur, ui, drop


@triton.jit(do_not_specialize=INTEGERS)
def walk_rows(
    a, b, h0, resets, entering,
    h, final,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, h0_0, h0_1, h0_2, r_step, r0, r1, r2, h_step, h_0, h_1, h_2, f0, f1, f2,
    DIMS: tl.constexpr, UNITS: tl.constexpr, WIDTHS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """h, and at the end of the last segment the final state."""
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
    kr = tl.zeros((ROWS,), CARRY)
    ki = kr
    place = tl.program_id(1)
    if entering is not None:
        kr, ki = number(entering, place.to(tl.int64) * sequences + lane, present, COMPLEX)
    elif h0 is not None:
        kr, ki = number(h0, row_offsets(lane, n1, n2, h0_0, h0_1, h0_2, DIMS), present, COMPLEX)
        kr, ki = kr.to(STATE).to(CARRY), ki.to(STATE).to(CARRY)
    sr, si = kr, ki
    if STILL:
        sr, si = still_value(a, row_offsets(lane, n1, n2, a0, a1, a2, DIMS), present, COMPLEX)
    begin = tl.multiple_of(tl.cast(place, steps.dtype) * segment, WIDTH)
    end = begin + tl.minimum(segment, steps - begin)
    for first in tl.range(begin, end, SPAN, num_stages=STAGES):
        low = first
        if DOWN:
            low = tl.multiple_of(steps - SPAN - first, WIDTH)
        cr, ci, ur, ui, drop = steps_of(
            a, b, resets, oa, ob, orr, low, a_step, b_step, r_step, steps, there, sr, si, UNITS, WIDTHS, ROWS, GROUPS,
            ITEMS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
        )  # fmt: skip
        pr, pi, e, rr, ri = folded(cr, ci, ur, ui, drop, ITEMS, RESETS, ADJOINT, COMPLEX, WIDE)
        er, ei = entering_groups(pr, pi, e, rr, ri, kr, ki, GROUPS, COMPLEX, WIDE, RESETS, DOWN)
        hr, hi = (), ()
        for j in tl.static_range(ITEMS):
            xr, xi, er, ei = advanced(er, ei, cr[j], ci[j], ur[j], ui[j], drop[j], RESETS, ADJOINT, COMPLEX)
            hr, hi = hr + (xr.to(STATE),), hi + (xi.to(STATE),)
        kr, ki = last_group(er, GROUPS, DOWN), last_group(ei, GROUPS, DOWN)
        put_block(
            h, oh, low, h_step, steps, there, tile_of(hr, ROWS, GROUPS, ITEMS, DOWN),
            tile_of(hi, ROWS, GROUPS, ITEMS, DOWN), DOWN, SINGLE, SPAN, COMPLEX, UNITS[3], WIDTHS[3],
        )  # fmt: skip
    last = present & (end == steps)
    keep(final, row_offsets(lane, n1, n2, f0, f1, f2, DIMS), kr.to(STATE), ki.to(STATE), last, COMPLEX)


@triton.jit(do_not_specialize=INTEGERS)
def reduce_rows(
    a, b, resets,
    slope, exponent, reached,
    steps, sequences, segment, n1, n2,
    a_step, a0, a1, a2, b_step, b0, b1, b2, r_step, r0, r1, r2,
    DIMS: tl.constexpr, UNITS: tl.constexpr, WIDTHS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, STAGES: tl.constexpr,
    GATE: tl.constexpr, CONVEX: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr, DOWN: tl.constexpr,
    STILL: tl.constexpr, STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """What a segment does to the state k that enters it: slope * k + reached."""
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
    kr = tl.zeros((ROWS,), tl.float64)
    ki = kr
    gr = tl.full((ROWS,), 1.0, tl.float64)
    gi = kr
    k = tl.zeros((ROWS,), tl.int32)
    sr, si = kr, ki
    if STILL:
        sr, si = still_value(a, row_offsets(lane, n1, n2, a0, a1, a2, DIMS), present, COMPLEX)
    place = tl.program_id(1)
    begin = tl.multiple_of(tl.cast(place, steps.dtype) * segment, WIDTH)
    end = begin + tl.minimum(segment, steps - begin)
    for first in tl.range(begin, end, SPAN, num_stages=STAGES):
        low = first
        if DOWN:
            low = tl.multiple_of(steps - SPAN - first, WIDTH)
        cr, ci, ur, ui, drop = steps_of(
            a, b, resets, oa, ob, orr, low, a_step, b_step, r_step, steps, there, sr, si, UNITS, WIDTHS, ROWS, GROUPS,
            ITEMS, GATE, CONVEX, COMPLEX, DOWN, STILL, STATE, CARRY,
        )  # fmt: skip
        pr, pi, e, rr, ri = folded(cr, ci, ur, ui, drop, ITEMS, RESETS, ADJOINT, COMPLEX, WIDE)
        pr, pi, e, rr, ri = in_walk_order(pr, pi, e, rr, ri, GROUPS, COMPLEX, WIDE, RESETS, DOWN)
        pr, pi, e, rr, ri = scanned(pr, pi, e, rr, ri, COMPLEX, WIDE, RESETS)
        pr, pi, e = last_group(pr, GROUPS, False), last_group(pi, GROUPS, False), last_group(e, GROUPS, False)
        rr, ri = last_group(rr, GROUPS, False), last_group(ri, GROUPS, False)
        gr, gi, k, kr, ki = composed(gr, gi, k, kr, ki, pr, pi, e, rr, ri, COMPLEX, WIDE, RESETS)
    here = place.to(tl.int64) * sequences + lane
    keep(slope, here, gr, gi, present, COMPLEX)
    tl.store(exponent + here, k, mask=present)
    keep(reached, here, kr, ki, present, COMPLEX)
