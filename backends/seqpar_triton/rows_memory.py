"""Blocks of steps of rows between memory and registers, in vectors along time where rows allow it.

`rows` are the offsets of a block of rows, a column [ROWS, 1], or a number where a program has a SINGLE row. Hints of what
offsets and masks are multiples of go on the results of operations that are not simplified away, such as a product with 1 is.
"""

import triton
import triton.language as tl

from seqpar_triton.walk import coefficient_of, number


@triton.jit
def row_offsets(row, n1, n2, s0, s1, s2, DIMS: tl.constexpr):
    """Elements from the first row to others: of a block of rows as a column, of a single one as a number."""
    row = tl.cast(row, tl.int64)
    if DIMS == 1:
        return row * s2
    elif DIMS == 2:
        return (row % n2) * s2 + (row // n2) * s1
    else:
        outer = row // n2
        return (row % n2) * s2 + (outer % n1) * s1 + (outer // n1) * s0


@triton.jit
def alive(
    low, steps, there, DOWN: tl.constexpr, SINGLE: tl.constexpr, SPAN: tl.constexpr, PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """Which steps of a block are there; WIDTH neighbours are so together."""
    t = low + tl.arange(0, SPAN * PARTS)[None, :] // PARTS
    if DOWN:
        live = t >= 0
    else:
        live = t < steps
    if not SINGLE:
        live = live & there
    if WIDTH > 1:
        live = tl.max_constancy(live, [1, WIDTH * PARTS])
    return live


@triton.jit
def places(rows, low, step, SPAN: tl.constexpr, PARTS: tl.constexpr, UNIT: tl.constexpr, WIDTH: tl.constexpr):
    """Offsets of a block of SPAN steps from `low` on, in numbers of which an element has PARTS."""
    i = tl.arange(0, SPAN * PARTS)[None, :]
    if UNIT:
        # Triton forgets a hint on what it simplifies away, such as a product with 1.
        if PARTS == 1:
            start = rows + low
        else:
            start = (rows + low) * PARTS
        return tl.multiple_of(start, [1, WIDTH * PARTS] if len(rows.shape) == 2 else WIDTH * PARTS) + i
    else:
        return (
            (rows + tl.cast(low, tl.int64) * step) * PARTS
            + (i // PARTS).to(tl.int64) * (step * PARTS)
            + i % PARTS
        )


@triton.jit
def block_of(
    pointer, rows, low, step, steps, there,
    DOWN: tl.constexpr, SINGLE: tl.constexpr, SPAN: tl.constexpr, COMPLEX: tl.constexpr,
    UNIT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A block of numbers as (re, im), 0 where there are none."""
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    live = alive(low, steps, there, DOWN, SINGLE, SPAN, PARTS, WIDTH)
    x = tl.load(pointer + places(rows, low, step, SPAN, PARTS, UNIT, WIDTH), mask=live, other=0)
    if COMPLEX:
        re, im = tl.split(tl.reshape(x, (x.shape[0], SPAN, 2)))
        return re, im
    else:
        return x, x


@triton.jit
def put_block(
    pointer, rows, low, step, steps, there, xr, xi,
    DOWN: tl.constexpr, SINGLE: tl.constexpr, SPAN: tl.constexpr, COMPLEX: tl.constexpr,
    UNIT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A block of numbers into memory, rounded to its format."""
    PARTS: tl.constexpr = 2 if COMPLEX else 1
    x = xr.to(pointer.dtype.element_ty)
    if COMPLEX:
        x = tl.reshape(tl.join(x, xi.to(pointer.dtype.element_ty)), (x.shape[0], SPAN * 2))
    live = alive(low, steps, there, DOWN, SINGLE, SPAN, PARTS, WIDTH)
    tl.store(pointer + places(rows, low, step, SPAN, PARTS, UNIT, WIDTH), x, mask=live)


@triton.jit
def still_value(a, off, there, COMPLEX: tl.constexpr):
    """A coefficient for all of time, one per row."""
    ar, ai = number(a, off, there, COMPLEX)
    return ar[:, None], ai[:, None]


@triton.jit
def coefficients_of(
    a, rows, low, step, steps, there, stillr, stilli, live,
    DOWN: tl.constexpr, SINGLE: tl.constexpr, SPAN: tl.constexpr, COMPLEX: tl.constexpr,
    UNIT: tl.constexpr, WIDTH: tl.constexpr, GATE: tl.constexpr, STILL: tl.constexpr,
    STATE: tl.constexpr, CARRY: tl.constexpr,
):  # fmt: skip
    """(c, 1 - c) of a block; c is 1 where there are no steps. Where `a` is STILL it was loaded before."""
    if STILL:
        ar, ai = stillr, stilli
    else:
        ar, ai = block_of(a, rows, low, step, steps, there, DOWN, SINGLE, SPAN, COMPLEX, UNIT, WIDTH)
    cr, ci, dr, di = coefficient_of(ar, ai, GATE, COMPLEX, STATE, CARRY)
    return tl.where(live, cr, 1.0), tl.where(live, ci, 0.0), tl.where(live, dr, 0.0), tl.where(live, di, 0.0)
