"""Where things of a tall matrix lie, and the steps of its blocks: what the routines of tall-skinny QR share."""

from seqpar_host import tall_job as j
from seqpar_host import tall_words as w
from seqpar_host.launch import call, peek
from seqpar_host.memory import clear_bytes, copy_bytes, get, put, quotient
from seqpar_host.routines import routine
from seqpar_host.tall_job import LEAD, PANEL


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
def signs_of(thread: int) -> int:
    """Where the signs of the thread's matrix go: to the result, or into its area."""
    plan, given = get(get(thread, w.ORDERS), w.PLAN), address_of(thread, w.SIGNS)
    return given if given != 0 else get(thread, w.AREA) + get(plan, w.R_BYTES) + 2 * get(plan, w.LINE_BYTES)


@routine
def records_of(thread: int, part: int, block: int) -> int:
    """The records of a block's panels: those of the result, or in the part's area. Without Q all blocks use the same."""
    orders = get(thread, w.ORDERS)
    plan, at = get(orders, w.PLAN), address_of(thread, w.T)
    if at != 0:
        at += part * get(plan, w.RECORDS) * get(plan, w.RECORDS_BYTES)
    else:
        at = get(thread, w.AREA) if get(plan, w.PARTS) == 1 else area_of(orders, get(thread, w.MATRIX), part)
        at += get(plan, w.R_BYTES) + 3 * get(plan, w.LINE_BYTES)
    return at + min(block, get(plan, w.RECORDS) - 1) * get(plan, w.RECORDS_BYTES)


@routine
def merge_records_of(thread: int, part: int) -> int:
    """The records of the block that merges a part into the first."""
    return records_of(thread, part, get(get(get(thread, w.ORDERS), w.PLAN), w.RECORDS) - 1)


@routine
def merged_of(thread: int, part: int) -> int:
    """The reflections that merge a part into the first: after the matrix's own, or in the part's area."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    if address_of(thread, w.T) != 0:
        rows = get(plan, w.ROWS) + (part - 1) * get(plan, w.WIDTH)
        return address_of(thread, w.Q) + rows * get(slot_of(plan, w.Q), w.ROW_STEP)
    return records_of(thread, part, 0) + get(plan, w.RECORDS) * get(plan, w.RECORDS_BYTES)


@routine
def top_step(plan: int) -> int:
    return get(plan, w.PANELS) * PANEL * get(plan, w.ITEMSIZE)


@routine
def first_rows(thread: int) -> int:
    """Rows of the part's first block."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    return min(get(plan, w.HEAD), get(thread, w.COUNT))


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
    """Rows into a block; sizes of its columns are noted from the column `first` on."""
    plan, job = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB)
    put(job, j.LARGEST, get(thread, w.SIZES) + first * get(plan, w.REAL))
    put(job, j.COLUMN_STEP, column_step)
    put(job, j.COLUMNS, columns)
    pack_by(thread, j.PACK, source, row_step, target, rows)


@routine
def pack_weights(thread: int, source: int, row_step: int, target: int, rows: int) -> None:
    """Weights of rows, real numbers, as the one column of a block."""
    plan, job = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB)
    # Sizes are noted anew when the rows are multiplied.
    put(job, j.LARGEST, get(thread, w.SIZES))
    put(job, j.COLUMN_STEP, get(plan, w.REAL))
    put(job, j.COLUMNS, 1)
    op = j.PACK if get(plan, w.REAL) == get(plan, w.ITEMSIZE) else j.PACK_WEIGHTS
    pack_by(thread, op, source, row_step, target, rows)


@routine
def pack_by(thread: int, op: int, source: int, row_step: int, target: int, rows: int) -> None:
    job = get(thread, w.JOB)
    put(job, j.SOURCE, source)
    put(job, j.ROW_STEP, row_step)
    put(job, j.BLOCK, target)
    put(job, j.ROWS, rows)
    step(thread, op)


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
def chunks_of(plan: int, rows: int) -> int:
    """Vectors of so many rows, up to whole panels."""
    return quotient((rows + PANEL - 1) & -PANEL, get(plan, w.LANES))


@routine
def planes_of(plan: int, columns: int) -> int:
    """Columns of real numbers that a block has for so many columns."""
    return columns if get(plan, w.REAL) == get(plan, w.ITEMSIZE) else 2 * columns


@routine
def clear_rows(thread: int, rows: int, columns: int) -> None:
    """Zeros in what is turned, in rows of whole panels."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    size, lead = ((rows + PANEL - 1) & -PANEL) * get(plan, w.REAL), LEAD * get(plan, w.REAL)
    for column in range(planes_of(plan, columns)):
        clear_bytes(get(thread, w.TURNED) + column * lead, size)


@routine
def keep(thread: int, kept: int, rows: int) -> None:
    """Write the block's reflections down, by columns without gaps."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    size, lead = rows * get(plan, w.REAL), LEAD * get(plan, w.REAL)
    for column in range(planes_of(plan, get(plan, w.WIDTH))):
        copy_bytes(get(thread, w.FACTORED) + column * lead, kept + column * size, size)


@routine
def fetch(thread: int, kept: int, rows: int) -> None:
    """Read them again."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    size, lead = rows * get(plan, w.REAL), LEAD * get(plan, w.REAL)
    rest = ((rows + PANEL - 1) & -PANEL) * get(plan, w.REAL) - size
    for column in range(planes_of(plan, get(plan, w.WIDTH))):
        place = get(thread, w.FACTORED) + column * lead
        copy_bytes(kept + column * size, place, size)
        clear_bytes(place + size, rest)
