"""Products with a Q that is kept as reflections: Q x from its n rows down to all rows, Q^H x from all rows up to n.

What is multiplied is cut into strips of columns, and each strip of a part is a task. A part has an area, the n rows that stand
for it: those of x, or what the merges make of them, and for Q^H what the part's rows leave.

    crew        what threads run; tall_conductor.py starts them, twice for Q where there are several parts
"""

from seqpar_host import tall_job as j
from seqpar_host import tall_words as w
from seqpar_host.job import number
from seqpar_host.launch import fence, stack, take
from seqpar_host.memory import clear_bytes, copy_bytes, get, keep_denormals, put, quotient, treat_denormals
from seqpar_host.routines import routine
from seqpar_host.tall_job import LEAD, PANEL, RECORD, TALL_WORDS
from seqpar_host.tall_places import (
    address_of,
    chunks_of,
    clear_rows,
    fetch,
    first_rows,
    merge_records_of,
    merged_of,
    pack,
    prepare,
    records_of,
    slot_of,
    start_of,
    step,
    unpack,
)


def crew(address: int) -> int:
    """Take tasks until none is left."""
    before = keep_denormals()
    take_strips(number(address))
    treat_denormals(before)
    return 0


@routine
def take_strips(orders: int) -> None:
    plan, job, thread = get(orders, w.PLAN), stack(TALL_WORDS), stack(w.THREAD_WORDS)
    region = take(orders + 8 * w.NEXT_REGION, 1)
    prepare(orders, thread, job, get(orders, w.REGIONS) + region * get(plan, w.REGION_BYTES))
    parts, adjoint = get(plan, w.PARTS), get(plan, w.ADJOINT)
    # Before the parts of a product with Q there are the merges, one task for each strip.
    spread = adjoint == 0 and parts > 1 and get(orders, w.PHASE) == w.FORWARD_PHASE
    each = 1 if spread else parts
    while True:
        task = take(orders + 8 * w.NEXT_TASK, 1)
        if task >= get(plan, w.MATRICES) * get(plan, w.STRIPS) * each:
            return
        which = quotient(task, each)
        part = task - which * each
        put(thread, w.WHICH, which)
        put(thread, w.MATRIX, quotient(which, get(plan, w.STRIPS)))
        put(thread, w.INDEX, part)
        put(thread, w.START, start_of(plan, part))
        put(thread, w.COUNT, start_of(plan, part + 1) - start_of(plan, part))
        put(thread, w.AREA, area_of_strip(thread, part))
        if parts == 1:
            put(thread, w.AREA, get(orders, w.AREAS) + region * get(plan, w.AREA_BYTES))
        if adjoint != 0:
            gather(thread)
            if parts > 1:
                # What this thread wrote is seen by whoever counts after it.
                fence()
                done = take(get(orders, w.COUNTERS) + 8 * which, 1)
                fence()
                if done < parts - 1:
                    continue
                merge_up(thread)
            write_top(thread)
            continue
        if spread or parts == 1:
            read_top(thread)
        if spread:
            merge_down(thread)
        else:
            scatter(thread)


# --- strips ---


@routine
def area_of_strip(thread: int, part: int) -> int:
    orders = get(thread, w.ORDERS)
    plan = get(orders, w.PLAN)
    index = get(thread, w.WHICH) * get(plan, w.PARTS) + part
    return get(orders, w.AREAS) + index * get(plan, w.AREA_BYTES)


@routine
def first_column(thread: int) -> int:
    plan = get(get(thread, w.ORDERS), w.PLAN)
    return (get(thread, w.WHICH) - get(thread, w.MATRIX) * get(plan, w.STRIPS)) * get(plan, w.STRIP)


@routine
def columns_of(thread: int) -> int:
    plan = get(get(thread, w.ORDERS), w.PLAN)
    return min(get(plan, w.STRIP), get(plan, w.ACROSS) - first_column(thread))


@routine
def strip_step(plan: int) -> int:
    return get(plan, w.STRIP) * get(plan, w.ITEMSIZE)


@routine
def rows_of(thread: int, slot: int, row: int) -> int:
    """Where a row of x or of y has the thread's strip."""
    entry = slot_of(get(get(thread, w.ORDERS), w.PLAN), slot)
    across = first_column(thread) * get(entry, w.COLUMN_STEP)
    return address_of(thread, slot) + row * get(entry, w.ROW_STEP) + across


@routine
def load_strip(thread: int, row: int, rows: int) -> None:
    """Rows of x into scratch."""
    entry = slot_of(get(get(thread, w.ORDERS), w.PLAN), w.X)
    place, turned = rows_of(thread, w.X, row), get(thread, w.TURNED)
    pack(
        thread, place, get(entry, w.ROW_STEP), get(entry, w.COLUMN_STEP), turned, rows, columns_of(thread), 0
    )


@routine
def unload(thread: int, area: int, rows: int) -> None:
    """Rows of scratch into an area, in whole panels of columns."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    columns = (columns_of(thread) + PANEL - 1) & -PANEL
    unpack(thread, get(thread, w.TURNED), area, strip_step(plan), rows, columns)


@routine
def sign(thread: int) -> None:
    plan, job = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB)
    put(job, j.TOP, get(thread, w.AREA))
    put(job, j.TOP_STEP, strip_step(plan))
    put(job, j.SIGNS, address_of(thread, w.SIGNS))
    put(job, j.ROWS, get(plan, w.WIDTH))
    put(job, j.COLUMNS, columns_of(thread))
    step(thread, j.SIGN)


@routine
def read_top(thread: int) -> None:
    """The strip of x into the area, with the signs of Q."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    clear_bytes(get(thread, w.AREA), get(plan, w.AREA_BYTES))
    load_strip(thread, 0, get(plan, w.WIDTH))
    unload(thread, get(thread, w.AREA), get(plan, w.WIDTH))
    sign(thread)


@routine
def write_top(thread: int) -> None:
    """The first part's area into y, with the signs of Q."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    if get(plan, w.PARTS) > 1:
        put(thread, w.AREA, area_of_strip(thread, 0))
    sign(thread)
    size = columns_of(thread) * get(plan, w.ITEMSIZE)
    for row in range(get(plan, w.WIDTH)):
        copy_bytes(get(thread, w.AREA) + row * strip_step(plan), rows_of(thread, w.Y, row), size)


# --- reflections ---


@routine
def reflect_strip(thread: int, rows: int, inside: int, records: int, backward: int) -> None:
    """Reflect a block of the strip, and the area on top of it; backward it is zeros and gets Q, else Q^H."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize, width, panels = get(plan, w.ITEMSIZE), get(plan, w.WIDTH), get(plan, w.PANELS)
    lead, down, columns = LEAD * itemsize, strip_step(plan), columns_of(thread)
    put(job, j.CHUNKS, chunks_of(plan, rows))
    put(job, j.TOP_STEP, down)
    put(job, j.BACKWARD, backward)
    for index in range(panels):
        panel = panels - 1 - index if backward != 0 else index
        first = panel * PANEL
        put(job, j.FIRST, quotient(first, get(plan, w.LANES)) if inside != 0 else 0)
        put(job, j.BLOCK, get(thread, w.FACTORED) + first * lead)
        put(job, j.RECORD_AT, records + panel * RECORD * itemsize)
        put(job, j.HIGH, min(PANEL, width - first))
        put(job, j.FRESH, 1 if backward != 0 and index == 0 and inside == 0 else 0)
        for column in range(0, columns, PANEL):
            put(job, j.TARGET, get(thread, w.TURNED) + column * lead)
            put(job, j.TOP, 0 if inside != 0 else area + first * down + column * itemsize)
            put(job, j.WIDE, min(PANEL, columns - column))
            step(thread, j.REFLECT)


@routine
def kept_rows(thread: int, row: int) -> int:
    """Where the reflections of a block begin."""
    entry = slot_of(get(get(thread, w.ORDERS), w.PLAN), w.Q)
    return address_of(thread, w.Q) + (get(thread, w.START) + row) * get(entry, w.ROW_STEP)


@routine
def gather(thread: int) -> None:
    """Q^H of a part: its rows of x, block after block, into its area."""
    plan, at, block = get(get(thread, w.ORDERS), w.PLAN), 0, 0
    area, width, part = get(thread, w.AREA), get(plan, w.WIDTH), get(thread, w.INDEX)
    clear_bytes(area, get(plan, w.AREA_BYTES))
    while at < get(thread, w.COUNT):
        rows = first_rows(thread) if block == 0 else min(get(plan, w.BLOCK), get(thread, w.COUNT) - at)
        fetch(thread, kept_rows(thread, at), rows)
        load_strip(thread, get(thread, w.START) + at, rows)
        reflect_strip(thread, rows, 1 if block == 0 else 0, records_of(thread, part, block), 0)
        if block == 0:
            unload(thread, area, width)
        at += rows
        block += 1


@routine
def merge_up(thread: int) -> None:
    """The areas of all parts into the first one, in order."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    width, across = get(plan, w.WIDTH), strip_step(plan)
    put(thread, w.AREA, area_of_strip(thread, 0))
    for part in range(1, get(plan, w.PARTS)):
        fetch(thread, merged_of(thread, part), width)
        source, turned = area_of_strip(thread, part), get(thread, w.TURNED)
        pack(thread, source, across, get(plan, w.ITEMSIZE), turned, width, columns_of(thread), 0)
        reflect_strip(thread, width, 0, merge_records_of(thread, part), 0)


@routine
def merge_down(thread: int) -> None:
    """The first part's area shared out to all."""
    plan = get(get(thread, w.ORDERS), w.PLAN)
    part = get(plan, w.PARTS) - 1
    while part >= 1:
        fetch(thread, merged_of(thread, part), get(plan, w.WIDTH))
        reflect_strip(thread, get(plan, w.WIDTH), 0, merge_records_of(thread, part), 1)
        clear_bytes(area_of_strip(thread, part), get(plan, w.AREA_BYTES))
        unload(thread, area_of_strip(thread, part), get(plan, w.WIDTH))
        part -= 1


@routine
def scatter(thread: int) -> None:
    """Q of a part: from its area its rows of y, the last block first."""
    plan, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.AREA)
    itemsize, width, count = get(plan, w.ITEMSIZE), get(plan, w.WIDTH), get(thread, w.COUNT)
    head, size, turned = first_rows(thread), get(plan, w.BLOCK), get(thread, w.TURNED)
    columns = columns_of(thread)
    block = quotient(count - head + size - 1, size)
    while block >= 0:
        at = head + (block - 1) * size if block > 0 else 0
        rows = min(size, count - at) if block > 0 else head
        fetch(thread, kept_rows(thread, at), rows)
        inside = 1 if block == 0 else 0
        if inside != 0:
            clear_rows(thread, rows, columns)
            pack(thread, area, strip_step(plan), itemsize, turned, width, columns, 0)
        reflect_strip(thread, rows, inside, records_of(thread, get(thread, w.INDEX), block), 1)
        target = rows_of(thread, w.Y, get(thread, w.START) + at)
        unpack(thread, turned, target, get(slot_of(plan, w.Y), w.ROW_STEP), rows, columns)
        block -= 1
