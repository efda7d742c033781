"""A part of a tall matrix, block after block, down to its R; and how the R factors of all parts are merged.

A block of rows is folded into R, which lies on top of it; the first block that has rows enough is factored alone, since rows of
zeros on top of it would take their share of Q where columns are dependent. Where Q is wanted, the reflections of a block are
kept in the place of its rows of Q, by columns without gaps.
"""

from seqpar_host import tall_job as j
from seqpar_host import tall_words as w
from seqpar_host.launch import peek
from seqpar_host.memory import LINE, clear_bytes, get, peek_number, poke_number, poke_short, put, quotient
from seqpar_host.routines import routine
from seqpar_host.tall_job import LEAD, PANEL, RECORD
from seqpar_host.tall_places import (
    address_in,
    address_of,
    area_of,
    chunks_of,
    first_rows,
    keep,
    merge_records_of,
    merged_of,
    pack,
    pack_weights,
    powers_of,
    records_of,
    seen_of,
    signs_of,
    slot_of,
    start_of,
    step,
    top_step,
    unpack,
)

ONE_SHORT, ONE_LONG = 0x3F800000, 0x3FF0000000000000  # the bits of 1.0


@routine
def alone(thread: int) -> bool:
    """Is the part's first block factored without R on top?

    Not where rows lie on top of it. A matrix of fewer rows than columns has to be: a square R of it would have rows beyond its
    last one where the first columns depend on each other.
    """
    plan = get(get(thread, w.ORDERS), w.PLAN)
    few = get(plan, w.ROWS) < get(plan, w.WIDTH)
    return get(plan, w.SEED_ROWS) == 0 and (few or first_rows(thread) >= get(plan, w.WIDTH))


@routine
def forward(thread: int) -> None:
    """The part's R, and its reflections if Q is wanted."""
    plan, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.AREA)
    real, width = get(plan, w.REAL), get(plan, w.WIDTH)
    clear_bytes(area, get(plan, w.R_BYTES) + get(plan, w.LINE_BYTES))
    for column in range(quotient(get(plan, w.LINE_BYTES), real)):
        poke_number(powers_of(plan, area) + column * real, ONE_SHORT if real == 4 else ONE_LONG, real)
    put(thread, w.POWERED, 0)
    if get(plan, w.SEED_ROWS) != 0 and get(thread, w.START) == 0:
        fold_seed(thread)
    at, block, count = 0, 0, get(thread, w.COUNT)
    while at < count:
        rows = min(get(plan, w.BLOCK), count - at)
        if at == 0:
            rows = first_rows(thread)
        inside = 1 if at == 0 and alone(thread) else 0
        load(thread, get(thread, w.START) + at, rows)
        fit(thread, rows, get(thread, w.FACTORED), width)
        look_ahead(thread, at + rows)
        factor(thread, rows, inside, records_of(thread, get(thread, w.INDEX), block))
        last = at + rows >= count
        # The last block is the first that is turned into rows of Q, and may stay where it is.
        stays = last and get(plan, w.EXPLICIT) != 0 and get(plan, w.PARTS) == 1
        if get(plan, w.KEEPS) != 0 and not stays:
            entry = slot_of(plan, w.Q)
            kept = address_of(thread, w.Q) + (get(thread, w.START) + at) * get(entry, w.ROW_STEP)
            keep(thread, kept, rows)
        at += rows
        block += 1


@routine
def look_ahead(thread: int, row: int) -> None:
    """Have the rows fetched that come next while these are factored: of this part, else of the next task that nobody has yet."""
    orders, job = get(thread, w.ORDERS), get(thread, w.JOB)
    plan, matrix, start = get(orders, w.PLAN), get(thread, w.MATRIX), get(thread, w.START)
    count = get(thread, w.COUNT)
    put(job, j.NEXT_LINES, 0)
    entry, width, parts = slot_of(plan, w.A), get(plan, w.WIDTH), get(plan, w.PARTS)
    across = get(entry, w.ROW_STEP)
    if across != get(plan, w.FROM_A) * get(plan, w.ITEMSIZE):
        return
    if row >= count:
        task = peek(orders + 8 * w.NEXT_TASK)
        if task >= get(plan, w.MATRICES) * parts:
            return
        matrix = quotient(task, parts)
        part = task - matrix * parts
        start, row = start_of(plan, part), 0
        count = start_of(plan, part + 1) - start
    rows = min(get(plan, w.BLOCK), count - row)
    put(job, j.NEXT, address_in(orders, w.A, matrix) + (start + row) * across)
    put(job, j.NEXT_LINES, quotient(rows * across + LINE * width - 1, LINE * width))


@routine
def fold_seed(thread: int) -> None:
    """The rows that lie on top of the matrix."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    entry, rows, at = slot_of(plan, w.SEED), get(plan, w.SEED_ROWS), 0
    source = address_of(thread, w.SEED)
    while at < rows:
        some = min(get(plan, w.BLOCK), rows - at)
        begin = source + at * get(entry, w.ROW_STEP)
        target = get(thread, w.FACTORED)
        pack(
            thread,
            begin,
            get(entry, w.ROW_STEP),
            get(entry, w.COLUMN_STEP),
            target,
            some,
            get(plan, w.WIDTH),
            0,
        )
        fit(thread, some, target, get(plan, w.WIDTH))
        put(get(thread, w.JOB), j.NEXT_LINES, 0)
        factor(thread, some, 0, records_of(thread, 0, 0))
        at += some


@routine
def load(thread: int, row: int, rows: int) -> None:
    """Rows of the matrix, and of what stands right of it, times the square roots of their weights."""
    plan, target = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.FACTORED)
    first = 0
    for slot in range(w.A, w.B + 1):
        entry, columns = slot_of(plan, slot), get(plan, w.FROM_A + slot)
        if columns != 0:
            begin = address_of(thread, slot) + row * get(entry, w.ROW_STEP)
            place = target + first * LEAD * get(plan, w.ITEMSIZE)
            pack(
                thread, begin, get(entry, w.ROW_STEP), get(entry, w.COLUMN_STEP), place, rows, columns, first
            )
            first += columns
    weights = address_of(thread, w.WEIGHTS)
    if weights != 0:
        entry = slot_of(plan, w.WEIGHTS)
        begin, weighed = weights + row * get(entry, w.ROW_STEP), get(thread, w.WEIGHED)
        pack_weights(thread, begin, get(entry, w.ROW_STEP), weighed, rows)
        scale(thread, rows, target, weighed, 0)


@routine
def scale(thread: int, rows: int, target: int, weights: int, powers: int) -> None:
    plan, job = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB)
    put(job, j.BLOCK, target)
    put(job, j.CHUNKS, chunks_of(plan, rows))
    put(job, j.COLUMNS, get(plan, w.WIDTH))
    put(job, j.WEIGHTS, weights)
    put(job, j.POWERS, powers)
    put(job, j.LARGEST, get(thread, w.SIZES))
    step(thread, j.SCALE)


@routine
def fit(thread: int, rows: int, target: int, width: int) -> None:
    """Bring columns of a block, and of R, into the range of squares."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    put(job, j.SEEN, seen_of(plan, area))
    put(job, j.LARGEST, get(thread, w.SIZES))
    put(job, j.POWERS, powers_of(plan, area))
    put(job, j.COLUMNS, width)
    step(thread, j.CHECK)
    if get(job, j.FOUND) != 0:
        put(thread, w.POWERED, 1)
        rescale(thread, 0)
    if get(thread, w.POWERED) != 0:
        scale(thread, rows, target, 0, powers_of(plan, area))


@routine
def rescale(thread: int, fresh: int) -> None:
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    put(job, j.SEEN, seen_of(plan, area))
    put(job, j.POWERS, powers_of(plan, area))
    put(job, j.COLUMNS, get(plan, w.WIDTH))
    put(job, j.TOP, area)
    put(job, j.TOP_ROWS, get(plan, w.WIDTH))
    put(job, j.TOP_STEP, top_step(plan))
    put(job, j.FRESH, fresh)
    step(thread, j.RESCALE)


@routine
def factor(thread: int, rows: int, inside: int, records: int) -> None:
    """Fold the block that lies in scratch into R; the block becomes its reflections."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize, width, panels = get(plan, w.ITEMSIZE), get(plan, w.WIDTH), get(plan, w.PANELS)
    lead, down, block = LEAD * itemsize, top_step(plan), get(thread, w.FACTORED)
    put(job, j.CHUNKS, chunks_of(plan, rows))
    put(job, j.TOP_STEP, down)
    put(job, j.INSIDE, inside)
    for panel in range(panels):
        first = panel * PANEL
        if inside != 0 and first >= rows:
            break
        top, here = area + first * down, block + first * lead
        put(job, j.FIRST, quotient(first, get(plan, w.LANES)) if inside != 0 else 0)
        put(job, j.BLOCK, here)
        put(job, j.COLUMNS, min(PANEL, width - first))
        put(job, j.RECORD_AT, records + panel * RECORD * itemsize)
        put(job, j.TOP, top + first * itemsize)
        put(job, j.WANTED, 1 if panel + 1 < panels else get(plan, w.KEEPS))
        step(thread, j.FACTOR)
        put(job, j.NEXT, get(job, j.NEXT) + PANEL * LINE * get(job, j.NEXT_LINES))
        for right in range(panel + 1, panels):
            target = block + right * PANEL * lead
            row = top + right * PANEL * itemsize
            put(job, j.BLOCK, here)
            put(job, j.TARGET, target)
            put(job, j.TOP, 0 if inside != 0 else row)
            put(job, j.HIGH, PANEL)
            put(job, j.WIDE, min(PANEL, width - right * PANEL))
            put(job, j.BACKWARD, 0)
            put(job, j.FRESH, 0)
            step(thread, j.REFLECT)
            if inside != 0:
                unpack(thread, target + first * get(plan, w.REAL), row, down, PANEL, PANEL)


@routine
def merge(thread: int) -> None:
    """Fold the R factors of all parts into the first one, in order."""
    orders = get(thread, w.ORDERS)
    plan, matrix = get(orders, w.PLAN), get(thread, w.MATRIX)
    width, block, itemsize = get(plan, w.WIDTH), get(thread, w.FACTORED), get(plan, w.ITEMSIZE)
    put(get(thread, w.JOB), j.NEXT_LINES, 0)
    # Whether columns of a part have powers is not known here any more.
    put(thread, w.POWERED, 1)
    for part in range(1, get(plan, w.PARTS)):
        area = area_of(orders, matrix, part)
        put(thread, w.AREA, area)
        rescale(thread, 1)
        put(thread, w.AREA, area_of(orders, matrix, 0))
        for at in range(0, width, get(plan, w.BLOCK)):
            rows = min(get(plan, w.BLOCK), width - at)
            pack(thread, area + at * top_step(plan), top_step(plan), itemsize, block, rows, width, 0)
            fit(thread, rows, block, width)
            factor(thread, rows, 0, merge_records_of(thread, part))
        # Then it is one block: so wide are matrices whose Q is wanted.
        if get(plan, w.KEEPS) != 0:
            keep(thread, merged_of(thread, part), width)


@routine
def finish(thread: int) -> None:
    """Write R and what was run; leave signs on the diagonal where R was, if Q is wanted."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize, real = get(plan, w.ITEMSIZE), get(plan, w.REAL)
    put(job, j.TOP, area)
    put(job, j.TOP_STEP, top_step(plan))
    put(job, j.ROWS, get(plan, w.RESULT_ROWS))
    put(job, j.COLUMNS, get(plan, w.WIDTH))
    put(job, j.POWERS, powers_of(plan, area))
    put(job, j.SIGNS, signs_of(thread))
    put(job, j.SOURCE, address_of(thread, w.R))
    put(job, j.ROW_STEP, get(slot_of(plan, w.R), w.ROW_STEP))
    step(thread, j.FINISH)
    poke_short(address_of(thread, w.RAN), get(plan, w.RAN_CODE))
    if get(plan, w.EXPLICIT) != 0:
        clear_bytes(area, get(plan, w.R_BYTES))
        for column in range(get(plan, w.DEEP)):
            sign = peek_number(signs_of(thread) + column * real, real)
            poke_number(area + column * (top_step(plan) + itemsize), sign, real)
