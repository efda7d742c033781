"""Rows of Q from the reflections that tall_down.py kept: the merges backwards, then each part from its last block to its first.

Q begins as signs on the diagonal, on top of zeros: so it is upper triangular, and panels reflect only what is right of them.
"""

from seqpar_host import tall_job as j
from seqpar_host import tall_words as w
from seqpar_host.memory import get, put, quotient
from seqpar_host.routines import routine
from seqpar_host.tall_job import LEAD, PANEL, RECORD
from seqpar_host.tall_places import (
    address_of,
    area_of,
    chunks_of,
    clear_rows,
    fetch,
    first_rows,
    merge_records_of,
    merged_of,
    pack,
    records_of,
    slot_of,
    step,
    top_step,
    unpack,
)


@routine
def fold_back(thread: int) -> None:
    """Share Q's start out to the parts, in the place of their R factors: the merges, backwards."""
    orders = get(thread, w.ORDERS)
    plan, matrix, part = get(orders, w.PLAN), get(thread, w.MATRIX), get(get(orders, w.PLAN), w.PARTS) - 1
    width = get(plan, w.WIDTH)
    while part >= 1:
        area = area_of(orders, matrix, part)
        fetch(thread, merged_of(thread, part), width)
        reflect_back(thread, width, 0, merge_records_of(thread, part))
        columns = get(plan, w.PANELS) * PANEL
        unpack(thread, get(thread, w.TURNED), area, top_step(plan), width, columns)
        part -= 1


@routine
def backward(thread: int) -> None:
    """The part's rows of Q, from the last block to the first."""
    plan, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.AREA)
    itemsize, width, count = get(plan, w.ITEMSIZE), get(plan, w.DEEP), get(thread, w.COUNT)
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
            clear_rows(thread, rows, width)
            pack(thread, area, top_step(plan), itemsize, turned, width, width, 0)
        reflect_back(thread, rows, inside, records_of(thread, get(thread, w.INDEX), block))
        unpack(thread, turned, begin + at * across, across, rows, width)
        block -= 1


@routine
def reflect_back(thread: int, rows: int, inside: int, records: int) -> None:
    """Reflect zeros below the area's rows (inside: the block that holds them) by all panels, the last one first."""
    plan, job, area = get(get(thread, w.ORDERS), w.PLAN), get(thread, w.JOB), get(thread, w.AREA)
    itemsize, width = get(plan, w.ITEMSIZE), get(plan, w.DEEP)
    lead, down, panels = LEAD * itemsize, top_step(plan), quotient(width + PANEL - 1, PANEL)
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
