"""QR of blocks of rows, each held in the registers of one program: Householder reflections, one column after the other.

A block is a block of a matrix, or R factors on top of each other, which are rows like others. A reflection is I - tau u u^T with
u = 1 in the row of its column and 0 above. Where Q is wanted every u is stored as it comes, one after the other in the memory of
the rows themselves, and `tall_apply` multiplies by the reflections in the opposite order.

Every column is first scaled by a power of two to numbers of at most 4, and R scaled back: reflections leave norms as they are,
so no square overflows on the way. In that scale, a column whose norm is below LEAST (1e-15 in float32) is one of zeros: it is far
below rounding, and its square has too few digits for a reflection that is orthogonal.
"""

import triton
import triton.language as tl

INTEGERS = (
    *("units", "unit", "blocks", "columns", "of_a", "n1", "n2"),
    *(f"{name}_{each}" for name in ("a", "b") for each in (0, 1, 2, "row", "column")),
    *(f"weights_{each}" for each in (0, 1, 2, "row")),
    *("r_matrix", "r_first"),
)


@triton.jit(do_not_specialize=INTEGERS)
def tall_factor(
    a,
    b,
    weights,
    r,
    vectors,
    taus,
    signs,
    ran,
    units,
    unit,
    blocks,
    columns,
    of_a,
    n1,
    n2,
    a_0,
    a_1,
    a_2,
    a_row,
    a_column,
    b_0,
    b_1,
    b_2,
    b_row,
    b_column,
    weights_0,
    weights_1,
    weights_2,
    weights_row,
    r_matrix,
    r_first,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FULL: tl.constexpr,
    IN_ROWS: tl.constexpr,
    FAR: tl.constexpr,
    READ: tl.constexpr,
    WRITTEN: tl.constexpr,
    WIDE: tl.constexpr,
    Q: tl.constexpr,
    ROOT: tl.constexpr,
    WHOLE: tl.constexpr,
    CODE: tl.constexpr,
):
    """R of one block, and its reflections if Q is wanted. ROOT: it is the R of the matrix; WHOLE: the block is the matrix, and
    its Q takes the place of the reflections.

    FULL: every lane is a column of `a`. FAR: rows are so far apart that it takes 64 bits. READ and WRITTEN are widths of vectors.
    """
    matrix = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    first, size = part_of(block, blocks, units, unit)
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    there = rows < size
    if IN_ROWS:
        a_column = 1
    start = start_of(matrix, n1, n2, a_0, a_1, a_2, READ) + tl.multiple_of(first * a_row, READ)
    places = start + places_of(rows, lanes, a_row, a_column, FAR, READ)
    if FULL:
        tile = tl.load(a + places, mask=there[:, None], other=0.0)
    else:
        tile = tl.load(a + places, mask=there[:, None] & (lanes < of_a)[None, :], other=0.0)
    if b is not None:
        start = start_of(matrix, n1, n2, b_0, b_1, b_2, 1) + first * b_row
        places = start + places_of(rows, lanes - of_a, b_row, b_column, FAR, 1)
        of_b = (lanes >= of_a) & (lanes < columns)
        tile += tl.load(b + places, mask=there[:, None] & of_b[None, :], other=0.0)
    if weights is not None:
        places = start_of(matrix, n1, n2, weights_0, weights_1, weights_2, 1) + first * weights_row
        if FAR:
            places += rows.to(tl.int64) * weights_row
        else:
            places += rows * weights_row
        tile *= root(tl.load(weights + places, mask=there, other=0.0), WIDE)[:, None]

    # NaN and infinity would come out of this as finite numbers here and there.
    bad = tl.sum(tl.sum(tl.where(tl.abs(tile) < float("inf"), 0, 1), axis=1), axis=0) > 0
    down, up = powers(tl.max(tl.abs(tile), axis=0), WIDE)
    tile *= down[None, :]
    base = tl.multiple_of((matrix * units * unit + first) * columns, WRITTEN)
    kept = tl.zeros([COLUMNS], dtype=tile.dtype)
    for j in range(columns):
        here = lanes == j
        x = tl.sum(tl.where(here[None, :], tile, 0.0), axis=1)
        x = tl.where(rows > j, x, 0.0)
        inner = tl.sum(x[:, None] * tile, axis=0)
        pivot = tl.sum(tl.where((rows == j)[:, None], tile, 0.0), axis=0)
        head = tl.sum(tl.where(here, pivot, 0.0), axis=0)
        square = head * head + tl.sum(tl.where(here, inner, 0.0), axis=0)
        live = square > least(WIDE)
        norm = root(tl.where(live, square, 1.0), WIDE)
        # Away from zero, so that nothing cancels.
        inverse = tl.where(live, 1.0 / (head + tl.where(head < 0, -norm, norm)), 0.0)
        tau = tl.where(live, (norm + tl.abs(head)) / norm, 0.0)
        u = tl.where(rows == j, 1.0, x * inverse)
        tile -= u[:, None] * (tau * (pivot + inner * inverse))[None, :]
        if Q:
            kept = tl.where(here, tau, kept)
            tl.store(vectors + base + j * size + rows, u, mask=there)

    on = rows[:, None] == lanes[None, :]
    diagonal = tl.where(on, tile, 0.0)
    lost = tl.where(bad, float("nan"), 0.0).to(tile.dtype)
    out = tl.where(rows[:, None] <= lanes[None, :], tile * up[None, :] + lost, 0.0)
    start = tl.multiple_of(matrix * r_matrix, WRITTEN)
    if ROOT:
        out *= tl.where(tl.sum(diagonal, axis=1) < 0, -1.0, 1.0).to(tile.dtype)[:, None]
        out = tl.where(on, tl.abs(out), out)
        tl.store(ran + matrix, CODE)
    else:
        start += tl.multiple_of(r_first + block.to(tl.int64) * columns * columns, WRITTEN)
    places = start + places_of(rows, lanes, columns, 1, False, WRITTEN)
    across = (rows < columns)[:, None]
    if not FULL:
        across = across & (lanes < columns)[None, :]
    tl.store(r + places, out, mask=across)
    if Q:
        positive = tl.where(tl.sum(diagonal, axis=0) < 0, -1.0, 1.0).to(tile.dtype) + lost
        signed = tl.where(on, positive[None, :], 0.0)
        if WHOLE:
            tile = reflected(signed, vectors + base, kept, rows, lanes, size, columns)
            stored(vectors, base, tile, rows, lanes, size, columns, FULL, WRITTEN)
        else:
            tl.store(taus + tl.program_id(0).to(tl.int64) * columns + lanes, kept, mask=lanes < columns)
            if ROOT:
                tl.store(signs + places, signed, mask=across)


@triton.jit(do_not_specialize=INTEGERS)
def tall_apply(
    taus,
    entering,
    memory,
    units,
    unit,
    blocks,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FULL: tl.constexpr,
    WRITTEN: tl.constexpr,
):
    """The rows of Q of one block from those that `entering` has for it, over its reflections; at the root those are signs."""
    matrix = (tl.program_id(0) // blocks).to(tl.int64)
    first, size = part_of(tl.program_id(0) % blocks, blocks, units, unit)
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    kept = tl.load(taus + program * columns + lanes, mask=lanes < columns, other=0.0)
    start = tl.multiple_of(program * columns * columns, WRITTEN)
    across = (rows < columns)[:, None]
    if not FULL:
        across = across & (lanes < columns)[None, :]
    places = start + places_of(rows, lanes, columns, 1, False, WRITTEN)
    tile = tl.load(entering + places, mask=across, other=0.0)
    base = tl.multiple_of((matrix * units * unit + first) * columns, WRITTEN)
    tile = reflected(tile, memory + base, kept, rows, lanes, size, columns)
    stored(memory, base, tile, rows, lanes, size, columns, FULL, WRITTEN)


@triton.jit
def reflected(tile, vectors, kept, rows, lanes, size, columns):
    """A tile multiplied by a block's reflections, the last first; nothing of the program reads the vectors afterwards."""
    # What other threads of the program have stored.
    tl.debug_barrier()
    there = rows < size
    following = tl.load(vectors + (columns - 1) * size + rows, mask=there, other=0.0)
    for i in range(columns):
        j = columns - 1 - i
        u = following
        # One step ahead: in flight while this one is used.
        following = tl.load(vectors + (j - 1) * size + rows, mask=there & (j > 0), other=0.0)
        tau = tl.sum(tl.where(lanes == j, kept, 0.0), axis=0)
        tile -= u[:, None] * (tau * tl.sum(u[:, None] * tile, axis=0))[None, :]
    tl.debug_barrier()
    return tile


@triton.jit
def stored(memory, base, tile, rows, lanes, size, columns, FULL: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of Q into memory without gaps."""
    there = (rows < size)[:, None]
    if not FULL:
        there = there & (lanes < columns)[None, :]
    places = base + places_of(rows, lanes, columns, 1, False, WIDTH)
    tl.store(memory + places, tile, mask=there)


@triton.jit
def places_of(rows, lanes, row, column, FAR: tl.constexpr, WIDTH: tl.constexpr):
    """Elements from the first of a block to each of a tile."""
    if FAR:
        rows = rows.to(tl.int64)
        lanes = lanes.to(tl.int64)
    return tl.multiple_of(rows * row, WIDTH)[:, None] + (lanes * column)[None, :]


@triton.jit
def part_of(block, blocks, units, unit):
    """First row and number of rows of a block: shares that differ by one unit at most, so that none is shorter than the rest."""
    share, more = units // blocks, units % blocks
    first = block.to(tl.int64) * share + tl.minimum(block, more)
    return first * unit, (share + tl.where(block < more, 1, 0)) * unit


@triton.jit
def start_of(matrix, n1, n2, s0, s1, s2, WIDTH: tl.constexpr):
    """Elements from an operand's first to those of one matrix of up to three leading axes."""
    outer = matrix // n2
    # Said of each part: a sum with a zero that is known falls away, and with it what was said of the sum.
    off = tl.multiple_of((matrix % n2) * s2, WIDTH)
    off += tl.multiple_of((outer % n1) * s1, WIDTH)
    return off + tl.multiple_of((outer // n1) * s0, WIDTH)


@triton.jit
def powers(x, WIDE: tl.constexpr):
    """A power of two that takes numbers, unless they are denormal, to 0.5 up to 4, and its inverse; both are normal numbers."""
    if WIDE:
        exponent = (x.to(tl.int64, bitcast=True) >> 52) & 2047
        down = tl.maximum(2045 - exponent, 1)
        return (down << 52).to(tl.float64, bitcast=True), ((2046 - down) << 52).to(tl.float64, bitcast=True)
    else:
        exponent = (x.to(tl.int32, bitcast=True) >> 23) & 255
        down = tl.maximum(253 - exponent, 1)
        return (down << 23).to(tl.float32, bitcast=True), ((254 - down) << 23).to(tl.float32, bitcast=True)


@triton.jit
def root(x, WIDE: tl.constexpr):
    """The square root, rounded as it should be."""
    if WIDE:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def least(WIDE: tl.constexpr):
    """The smallest square of a norm that a reflection is made of: normal, and with room for the squares of parts below it."""
    if WIDE:
        return 1e-280
    else:
        return 1e-30
