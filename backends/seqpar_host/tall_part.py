"""One part of a matrix, block after block: down to its R, back up to its rows of Q, and how parts are merged.

Down, a block of rows is folded into R, which lies on top of it; the first block that has rows enough is factored alone, since
rows of zeros on top of it would take their share of Q where columns are dependent. The reflections are kept in the rows of Q
itself, a block by columns without gaps. Up, Q begins as signs on the diagonal, on top of zeros: so it is upper triangular, and
panels reflect only what is right of them.
"""

from seqpar_host import tall_job as j
from seqpar_host import tall_words as w
from seqpar_host.launch import call, peek
from seqpar_host.memory import (
    LINE,
    clear_bytes,
    copy_bytes,
    get,
    peek_number,
    poke_number,
    poke_short,
    put,
    quotient,
)
from seqpar_host.routines import routine
from seqpar_host.tall_job import LEAD, PANEL, RECORD

ONE = {4: 0x3F800000, 8: 0x3FF0000000000000}
ONE_SHORT, ONE_LONG = ONE[4], ONE[8]


# --- where things lie ---


@routine
def area_of(orders: int, matrix: int, part: int) -> int:
    plan = get(orders, w.PLAN)
    return get(orders, w.AREAS) + (matrix * get(plan, w.PARTS) + part) * get(plan, w.AREA_BYTES)


@routine
def start_of(plan: int, part: int) -> int:
    """The first row of a part, as seqpar.tall.packing has it."""
    if part == get(plan, w.PARTS):
        return get(plan, w.ROWS)
    return quotient(part * get(plan, w.BLOCKS), get(plan, w.PARTS)) * get(plan, w.BLOCK)


@routine
def slot_of(plan: int, slot: int) -> int:
    return plan + 8 * (get(plan, w.SLOT_TABLE) + slot * (w.STRIDES + get(plan, w.DIMS)))


@routine
def address_of(thread: int, slot: int) -> int:
    """Where an operand of the thread's matrix begins; 0 if it is absent."""
    return address_in(get(thread, w.ORDERS), slot, get(thread, w.MATRIX))


@routine
def address_in(orders: int, slot: int, matrix: int) -> int:
    plan, rest = get(orders, w.PLAN), matrix
    entry = slot_of(plan, slot)
    if get(entry, w.POINTER) < 0:
        return 0
    address, dim = get(get(orders, w.CALL), 2 + get(entry, w.POINTER)), get(plan, w.DIMS) - 1
    while dim >= 0:
        size = get(plan, get(plan, w.SIZE_TABLE) + dim)
        above = quotient(rest, size)
        address += (rest - above * size) * get(entry, w.STRIDES + dim)
        rest = above
        dim -= 1
    return address


@routine
def seen_of(plan: int, area: int) -> int:
    return area + get(plan, w.R_BYTES)


@routine
def powers_of(plan: int, area: int) -> int:
    return area + get(plan, w.R_BYTES) + get(plan, w.LINE_BYTES)


@routine
def signs_of(plan: int, area: int) -> int:
    return area + get(plan, w.R_BYTES) + 2 * get(plan, w.LINE_BYTES)


@routine
def records_of(plan: int, area: int, block: int) -> int:
    """The records of a block's panels. Without Q all blocks use the same."""
    at = area + get(plan, w.R_BYTES) + 3 * get(plan, w.LINE_BYTES)
    return at + min(block, get(plan, w.RECORDS) - 1) * get(plan, w.RECORDS_BYTES)


@routine
def merged_of(plan: int, area: int) -> int:
    """The reflections that merge a part into the first."""
    return records_of(plan, area, 0) + get(plan, w.RECORDS) * get(plan, w.RECORDS_BYTES)


@routine
def top_step(plan: int) -> int:
    return get(plan, w.PANELS) * PANEL * get(plan, w.ITEMSIZE)


@routine
def first_rows(thread: int) -> int:
    """Rows of the part's first block."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    return min(get(plan, w.HEAD), get(thread, w.COUNT))


@routine
def alone(thread: int) -> bool:
    """Is the part's first block factored without R on top?"""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    return first_rows(thread) >= get(plan, w.WIDTH) and get(plan, w.SEED_ROWS) == 0


# --- a thread's scratch ---


@routine
def prepare(orders: int, thread: int, job: int, region: int) -> None:
    plan = get(orders, w.PLAN)
    scratch = get(plan, w.SCRATCH_BYTES)
    clear_bytes(region, 2 * scratch)
    put(thread, w.ORDERS, orders)
    put(thread, w.JOB, job)
    put(thread, w.FACTORED, region)
    put(thread, w.TURNED, region + scratch)
    put(thread, w.WEIGHED, region + 2 * scratch)
    put(thread, w.SIZES, region + 2 * scratch + LEAD * PANEL * get(plan, w.ITEMSIZE))


@routine
def step(thread: int, op: int) -> None:
    job = get(thread, w.JOB)
    put(job, j.OP, op)
    call(peek(get(get(thread, w.ORDERS), w.PLAN)), job)


# --- down ---


@routine
def forward(thread: int) -> None:
    """The part's R, and its reflections if Q is wanted."""
    plan, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.AREA)
    itemsize, width = get(plan, w.ITEMSIZE), get(plan, w.WIDTH)
    clear_bytes(area, get(plan, w.R_BYTES) + get(plan, w.LINE_BYTES))
    for column in range(quotient(get(plan, w.LINE_BYTES), itemsize)):
        one = ONE_SHORT if itemsize == 4 else ONE_LONG
        poke_number(powers_of(plan, area) + column * itemsize, one, itemsize)
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
        factor(thread, rows, inside, records_of(plan, area, block))
        last = at + rows >= count
        if get(plan, w.EXPLICIT) != 0 and (not last or get(plan, w.PARTS) > 1):
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
        factor(thread, some, 0, records_of(plan, get(thread, w.AREA), 0))
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
        pack(thread, begin, get(entry, w.ROW_STEP), get(plan, w.ITEMSIZE), weighed, rows, 1, first)
        scale(thread, rows, target, weighed, 0)


@routine
def pack(
    thread: int,
    source: int,
    row_step: int,
    column_step: int,
    target: int,
    rows: int,
    columns: int,
    first: int,
) -> None:
    plan, job = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB)
    put(job, j.SOURCE, source)
    put(job, j.ROW_STEP, row_step)
    put(job, j.COLUMN_STEP, column_step)
    put(job, j.BLOCK, target)
    put(job, j.ROWS, rows)
    put(job, j.COLUMNS, columns)
    put(job, j.LARGEST, get(thread, w.SIZES) + first * get(plan, w.ITEMSIZE))
    step(thread, j.PACK)


@routine
def chunks_of(plan: int, rows: int) -> int:
    """Vectors of so many rows, up to whole panels."""
    return quotient((rows + PANEL - 1) & -PANEL, get(plan, w.LANES))


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
        top, here = area + first * down, block + first * lead
        put(job, j.FIRST, quotient(first, get(plan, w.LANES)) if inside != 0 else 0)
        put(job, j.BLOCK, here)
        put(job, j.COLUMNS, min(PANEL, width - first))
        put(job, j.RECORD_AT, records + panel * RECORD * itemsize)
        put(job, j.TOP, top + first * itemsize)
        put(job, j.WANTED, 1 if panel + 1 < panels else get(plan, w.EXPLICIT))
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
                unpack(thread, target + first * itemsize, row, down, PANEL, PANEL)


@routine
def unpack(thread: int, block: int, target: int, row_step: int, rows: int, columns: int) -> None:
    job = get(thread, w.JOB)
    put(job, j.BLOCK, block)
    put(job, j.SOURCE, target)
    put(job, j.ROW_STEP, row_step)
    put(job, j.ROWS, rows)
    put(job, j.COLUMNS, columns)
    step(thread, j.UNPACK)


@routine
def keep(thread: int, kept: int, rows: int) -> None:
    """Write the block's reflections down, by columns without gaps."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    size, lead = rows * get(plan, w.ITEMSIZE), LEAD * get(plan, w.ITEMSIZE)
    for column in range(get(plan, w.WIDTH)):
        copy_bytes(get(thread, w.FACTORED) + column * lead, kept + column * size, size)


@routine
def fetch(thread: int, kept: int, rows: int) -> None:
    """Read them again."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    size, lead = rows * get(plan, w.ITEMSIZE), LEAD * get(plan, w.ITEMSIZE)
    rest = ((rows + PANEL - 1) & -PANEL) * get(plan, w.ITEMSIZE) - size
    for column in range(get(plan, w.WIDTH)):
        place = get(thread, w.FACTORED) + column * lead
        copy_bytes(kept + column * size, place, size)
        clear_bytes(place + size, rest)


# --- the whole matrix ---


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
        pack(thread, area, top_step(plan), itemsize, block, width, width, 0)
        fit(thread, width, block, width)
        records = records_of(plan, area, get(plan, w.RECORDS) - 1)
        factor(thread, width, 0, records)
        if get(plan, w.EXPLICIT) != 0:
            keep(thread, merged_of(plan, area), width)


@routine
def finish(thread: int) -> None:
    """Write R and what was run; leave signs on the diagonal where R was, if Q is wanted."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize = get(plan, w.ITEMSIZE)
    put(job, j.TOP, area)
    put(job, j.TOP_STEP, top_step(plan))
    put(job, j.ROWS, get(plan, w.RESULT_ROWS))
    put(job, j.COLUMNS, get(plan, w.WIDTH))
    put(job, j.POWERS, powers_of(plan, area))
    put(job, j.SIGNS, signs_of(plan, area))
    put(job, j.SOURCE, address_of(thread, w.R))
    put(job, j.ROW_STEP, get(slot_of(plan, w.R), w.ROW_STEP))
    step(thread, j.FINISH)
    poke_short(address_of(thread, w.RAN), get(plan, w.RAN_CODE))
    if get(plan, w.EXPLICIT) != 0:
        clear_bytes(area, get(plan, w.R_BYTES))
        for column in range(get(plan, w.WIDTH)):
            sign = peek_number(signs_of(plan, area) + column * itemsize, itemsize)
            poke_number(area + column * (top_step(plan) + itemsize), sign, itemsize)


# --- up ---


@routine
def fold_back(thread: int) -> None:
    """Share Q's start out to the parts, in the place of their R factors: the merges, backwards."""
    orders = get(thread, w.ORDERS)
    plan, matrix, part = get(orders, w.PLAN), get(thread, w.MATRIX), get(get(orders, w.PLAN), w.PARTS) - 1
    width = get(plan, w.WIDTH)
    while part >= 1:
        area = area_of(orders, matrix, part)
        fetch(thread, merged_of(plan, area), width)
        reflect_back(thread, width, 0, records_of(plan, area, get(plan, w.RECORDS) - 1))
        columns = get(plan, w.PANELS) * PANEL
        unpack(thread, get(thread, w.TURNED), area, top_step(plan), width, columns)
        part -= 1


@routine
def backward(thread: int) -> None:
    """The part's rows of Q, from the last block to the first."""
    plan, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.AREA)
    itemsize, width, count = get(plan, w.ITEMSIZE), get(plan, w.WIDTH), get(thread, w.COUNT)
    head, size, turned = first_rows(thread), get(plan, w.BLOCK), get(thread, w.TURNED)
    across = get(slot_of(plan, w.Q), w.ROW_STEP)
    begin = address_of(thread, w.Q) + get(thread, w.START) * across
    blocks = 1 + quotient(count - head + size - 1, size)
    block = blocks - 1
    while block >= 0:
        at = head + (block - 1) * size if block > 0 else 0
        rows = min(size, count - at) if block > 0 else head
        if block < blocks - 1 or get(plan, w.PARTS) > 1:
            fetch(thread, begin + at * across, rows)
        inside = 1 if block == 0 else 0
        if inside != 0:
            for column in range(width):
                clear_bytes(turned + column * LEAD * itemsize, ((rows + PANEL - 1) & -PANEL) * itemsize)
            pack(thread, area, top_step(plan), itemsize, turned, width, width, 0)
        reflect_back(thread, rows, inside, records_of(plan, area, block))
        unpack(thread, turned, begin + at * across, across, rows, width)
        block -= 1


@routine
def reflect_back(thread: int, rows: int, inside: int, records: int) -> None:
    """Reflect zeros below the area's rows (inside: the block that holds them) by all panels, the last one first."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize, width, panels = get(plan, w.ITEMSIZE), get(plan, w.WIDTH), get(plan, w.PANELS)
    lead, down = LEAD * itemsize, top_step(plan)
    put(job, j.CHUNKS, chunks_of(plan, rows))
    put(job, j.TOP_STEP, down)
    put(job, j.BACKWARD, 1)
    panel = panels - 1
    while panel >= 0:
        first = panel * PANEL
        put(job, j.FIRST, quotient(first, get(plan, w.LANES)) if inside != 0 else 0)
        put(job, j.BLOCK, get(thread, w.FACTORED) + first * lead)
        put(job, j.RECORD_AT, records + panel * RECORD * itemsize)
        put(job, j.HIGH, min(PANEL, width - first))
        for right in range(panel, panels):
            put(job, j.TARGET, get(thread, w.TURNED) + right * PANEL * lead)
            put(job, j.TOP, 0 if inside != 0 else area + first * down + right * PANEL * itemsize)
            put(job, j.WIDE, min(PANEL, width - right * PANEL))
            put(job, j.FRESH, 1 if right == panel and inside == 0 else 0)
            step(thread, j.REFLECT)
        panel -= 1
