"""A block of steps as groups of neighbours: each lane holds all ITEMS steps of a group, and groups meet in a scan.

A block is a tile [ROWS, GROUPS * ITEMS] in the order of memory; `items_of` takes it apart, without a shuffle where ITEMS
neighbours are one lane's, into ITEMS tensors [ROWS, GROUPS], the first step of the walk first. DOWN says that the walk comes
from the end: then the first step is the last of a group, and the first group the last of the block.

What steps do to a state that enters them is slope * k + reached, in double precision: the slope clamped for single-precision
states (NaN where a coefficient is not finite, which overflow must not hide), and with an exponent for double-precision ones.
Where there are resets an exponent of DROPPED says that nothing crosses. Two slopes are multiplied here, or one and four
coefficients, so that they are clamped far below what one coefficient may multiply: of a complex overflow only NaN would remain.
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import DROPPED, crossed, grown, product, rescaled
from seqpar_triton.walk import advanced

LIMIT = tl.constexpr(2.0**480)


@triton.jit
def items_of(x, ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, DOWN: tl.constexpr):
    """A tile as one tensor per step of a group, in the order of the walk."""
    if ITEMS == 1:
        return (tl.reshape(x, (ROWS, GROUPS)),)
    else:
        even, odd = tl.split(tl.reshape(x, (ROWS, GROUPS, ITEMS // 2, 2)))
        first = items_of(even, ROWS, GROUPS, ITEMS // 2, DOWN)
        second = items_of(odd, ROWS, GROUPS, ITEMS // 2, DOWN)
        items = ()
        for i in tl.static_range(ITEMS // 2):
            if DOWN:
                items = items + (second[i], first[i])
            else:
                items = items + (first[i], second[i])
        return items


@triton.jit
def tile_of(items, ROWS: tl.constexpr, GROUPS: tl.constexpr, ITEMS: tl.constexpr, DOWN: tl.constexpr):
    """The tile that `items_of` takes apart."""
    return tl.reshape(joined(items, 0, 1, ITEMS, DOWN), (ROWS, GROUPS * ITEMS))


@triton.jit
def joined(items, FIRST: tl.constexpr, STRIDE: tl.constexpr, ITEMS: tl.constexpr, DOWN: tl.constexpr):
    """Items FIRST, FIRST + STRIDE, ... of the order of memory, along new last axes."""
    if STRIDE == ITEMS:
        if DOWN:
            return items[ITEMS - 1 - FIRST]
        else:
            return items[FIRST]
    else:
        even = joined(items, FIRST, 2 * STRIDE, ITEMS, DOWN)
        odd = joined(items, FIRST + STRIDE, 2 * STRIDE, ITEMS, DOWN)
        return tl.join(even, odd)


@triton.jit
def taken(x, index):
    """x[row, index] for an index [1, GROUPS]."""
    return tl.gather(x, tl.broadcast_to(index, x.shape), 1)


@triton.jit
def last_group(x, GROUPS: tl.constexpr, DOWN: tl.constexpr):
    """What the group that the walk comes to last holds, per row."""
    n = tl.arange(0, GROUPS)[None, :]
    if DOWN:
        chosen = n == 0
    else:
        chosen = n == GROUPS - 1
    return tl.sum(tl.where(chosen, x, tl.zeros_like(x)), 1)


@triton.jit
def limited(pr, pi, COMPLEX: tl.constexpr):
    """A slope that no single-precision state but zero survives, if it was larger; NaN stays."""
    pr = tl.where(pr > LIMIT, LIMIT, tl.where(pr < -LIMIT, -LIMIT, pr))
    if COMPLEX:
        pi = tl.where(pi > LIMIT, LIMIT, tl.where(pi < -LIMIT, -LIMIT, pi))
        return pr, pi
    else:
        return pr, pr


@triton.jit
def folded(
    cr, ci, ur, ui, drop, ITEMS: tl.constexpr, RESETS: tl.constexpr, ADJOINT: tl.constexpr, COMPLEX: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """What each group does to a state that enters it: (slope re, im, exponent, reached re, im)."""
    e = tl.zeros(cr[0].shape, tl.int32)
    pr, pi = cr[0].to(tl.float64), ci[0].to(tl.float64)
    rr, ri = ur[0].to(tl.float64), ui[0].to(tl.float64)
    if ADJOINT:
        rr, ri = product(pr, pi, rr, ri, COMPLEX)
        if RESETS:
            rr, ri = tl.where(drop[0], 0.0, rr), tl.where(drop[0], 0.0, ri)
    gone = e != 0
    if RESETS:
        gone = drop[0]
    if WIDE:
        pr, pi, e = grown(
            tl.full(pr.shape, 1.0, tl.float64), tl.zeros(pr.shape, tl.float64), e, pr, pi, COMPLEX, True
        )
    else:
        nothing = cr[0] * 0.0
        if COMPLEX:
            nothing += ci[0] * 0.0
    for j in tl.static_range(1, ITEMS):
        xr, xi, yr, yi = (
            cr[j].to(tl.float64),
            ci[j].to(tl.float64),
            ur[j].to(tl.float64),
            ui[j].to(tl.float64),
        )
        _, _, rr, ri = advanced(rr, ri, xr, xi, yr, yi, drop[j] if RESETS else gone, RESETS, ADJOINT, COMPLEX)
        if RESETS:
            gone = gone | drop[j]
        if WIDE:
            pr, pi, e = grown(pr, pi, e, xr, xi, COMPLEX, True)
        else:
            pr, pi = product(pr, pi, xr, xi, COMPLEX)
            nothing += cr[j] * 0.0
            if COMPLEX:
                nothing += ci[j] * 0.0
            # Four coefficients of single precision are below 2**520.
            if j % 4 == 3 or j == ITEMS - 1:
                pr, pi = limited(pr, pi, COMPLEX)
    if not WIDE:
        pr, pi = pr + nothing.to(tl.float64), pi + nothing.to(tl.float64)
    if RESETS:
        e = tl.where(gone, DROPPED, e)
    return pr, pi, e, rr, ri


@triton.jit
def composed(
    pr, pi, e, rr, ri, qr, qi, f, sr, si, COMPLEX: tl.constexpr, WIDE: tl.constexpr, RESETS: tl.constexpr
):  # fmt: skip
    """What two groups do, the first (p, e, r), then (q, f, s)."""
    xr, xi = crossed(qr, qi, f, rr, ri, COMPLEX, WIDE)
    xr, xi = xr + sr, xi + si
    pr, pi = product(pr, pi, qr, qi, COMPLEX)
    both = e
    if WIDE:
        pr, pi, both = rescaled(pr, pi, e + f, COMPLEX)
    else:
        pr, pi = limited(pr, pi, COMPLEX)
    if RESETS:
        gone = f == DROPPED
        xr, xi = tl.where(gone, sr, xr), tl.where(gone, si, xi)
        both = tl.where(gone | (e == DROPPED), DROPPED, both)
    return pr, pi, both, xr, xi


@triton.jit
def _real(p, r, q, s):
    p, _, _, r, _ = composed(p, p, 0, r, r, q, q, 0, s, s, False, False, False)
    return p, r


@triton.jit
def _real_resets(p, e, r, q, f, s):
    p, _, e, r, _ = composed(p, p, e, r, r, q, q, f, s, s, False, False, True)
    return p, e, r


@triton.jit
def _real_wide(p, e, r, q, f, s):
    p, _, e, r, _ = composed(p, p, e, r, r, q, q, f, s, s, False, True, True)
    return p, e, r


@triton.jit
def _complex(pr, pi, rr, ri, qr, qi, sr, si):
    pr, pi, _, rr, ri = composed(pr, pi, 0, rr, ri, qr, qi, 0, sr, si, True, False, False)
    return pr, pi, rr, ri


@triton.jit
def _complex_resets(pr, pi, e, rr, ri, qr, qi, f, sr, si):
    return composed(pr, pi, e, rr, ri, qr, qi, f, sr, si, True, False, True)


@triton.jit
def _complex_wide(pr, pi, e, rr, ri, qr, qi, f, sr, si):
    return composed(pr, pi, e, rr, ri, qr, qi, f, sr, si, True, True, True)


@triton.jit
def scanned(pr, pi, e, rr, ri, COMPLEX: tl.constexpr, WIDE: tl.constexpr, RESETS: tl.constexpr):
    """What all groups up to each do, in the order of the tensors."""
    if COMPLEX:
        if WIDE:
            pr, pi, e, rr, ri = tl.associative_scan((pr, pi, e, rr, ri), 1, _complex_wide)
        elif RESETS:
            pr, pi, e, rr, ri = tl.associative_scan((pr, pi, e, rr, ri), 1, _complex_resets)
        else:
            pr, pi, rr, ri = tl.associative_scan((pr, pi, rr, ri), 1, _complex)
        return pr, pi, e, rr, ri
    else:
        if WIDE:
            pr, e, rr = tl.associative_scan((pr, e, rr), 1, _real_wide)
        elif RESETS:
            pr, e, rr = tl.associative_scan((pr, e, rr), 1, _real_resets)
        else:
            pr, rr = tl.associative_scan((pr, rr), 1, _real)
        return pr, pr, e, rr, rr


@triton.jit
def in_walk_order(
    pr, pi, e, rr, ri, GROUPS: tl.constexpr, COMPLEX: tl.constexpr, WIDE: tl.constexpr, RESETS: tl.constexpr,
    DOWN: tl.constexpr,
):  # fmt: skip
    """Groups in the order in which the walk comes to them. (A scan in reverse is not what Triton is best tested for.)"""
    if DOWN:
        turned = GROUPS - 1 - tl.arange(0, GROUPS)[None, :]
        pr, rr = taken(pr, turned), taken(rr, turned)
        if COMPLEX:
            pi, ri = taken(pi, turned), taken(ri, turned)
        if WIDE or RESETS:
            e = taken(e, turned)
    return pr, pi, e, rr, ri


@triton.jit
def entering_groups(
    pr, pi, e, rr, ri, kr, ki, GROUPS: tl.constexpr, COMPLEX: tl.constexpr, WIDE: tl.constexpr,
    RESETS: tl.constexpr, DOWN: tl.constexpr,
):  # fmt: skip
    """The state that enters each group, from what groups do (`folded`) and from k, which enters the block."""
    pr, pi, e, rr, ri = in_walk_order(pr, pi, e, rr, ri, GROUPS, COMPLEX, WIDE, RESETS, DOWN)
    n = tl.arange(0, GROUPS)[None, :]
    # The first group starts from k: then what is reached is the state itself.
    wr, wi = kr[:, None].to(tl.float64), ki[:, None].to(tl.float64)
    xr, xi = crossed(pr, pi, e, wr, wi, COMPLEX, WIDE)
    first = n == 0
    if RESETS:
        first = first & (e != DROPPED)
    rr, ri = tl.where(first, xr + rr, rr), tl.where(first, xi + ri, ri)
    _, _, _, rr, ri = scanned(pr, pi, e, rr, ri, COMPLEX, WIDE, RESETS)
    if DOWN:
        before = tl.maximum(GROUPS - 2 - n, 0)
        first = n == GROUPS - 1
    else:
        before = tl.maximum(n - 1, 0)
        first = n == 0
    er = tl.where(first, kr[:, None], taken(rr.to(kr.dtype), before))
    ei = er
    if COMPLEX:
        ei = tl.where(first, ki[:, None], taken(ri.to(ki.dtype), before))
    return er, ei
