"""The plan of a tall-skinny QR: from the layouts of a call to the words that its routines read (tall_words.py)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqpar.dispatch.geometry import ITEMSIZE, merge, without_gaps
from seqpar.dispatch.problem import Layout
from seqpar.tall.packing import Packing
from seqpar.tall.ran import TSQR
from seqpar_host import tall_words as w
from seqpar_host.compile import kernel_address, tall_addresses
from seqpar_host.launch import CONDUCTED
from seqpar_host.memory import LINE
from seqpar_host.plan import Plan
from seqpar_host.tall_blocks import blocks_of
from seqpar_host.tall_job import LEAD, PANEL, RECORD

# One core does 50 operations in a nanosecond on numbers of 4 bytes, and reads a row in 2 nanoseconds, however short it is. A
# thread takes 50 microseconds to start and join.
OPERATIONS, ROW_NANOSECONDS, THREAD_NANOSECONDS = 50, 2, 100_000
# Columns that a product turns at once: as much scratch as 64 columns of reflections.
STRIP = 64
ORDER: dict[str, tuple[int | None, ...]] = {
    "qr": (w.A, w.Q, w.R, w.RAN),
    "r_factor": (w.A, w.B, w.WEIGHTS, w.SEED, w.R, w.RAN),
    "qr_packed": (w.A, w.Q, w.T, w.SIGNS, w.R, w.RAN),
    "qr_product": (None, None, w.Q, w.T, w.SIGNS, w.X, w.Y),
}
"""Operands and then results."""
OWN = {w.WEIGHTS: 1, w.RAN: 0, w.T: 4, w.SIGNS: 1}
"""Axes of a matrix's own, if they are not two."""


class _Slot(NamedTuple):
    layout: Layout
    pointer: int
    """Which one of the call it is."""


@dataclass
class _Operand:
    """Strides of one operand, in bytes."""

    others: list[int]
    row: int = 0
    column: int = 0


def make_tall_plan(operation: str, layouts: Sequence[Layout | None]) -> Plan:
    """The plan of a factorisation, over the operands and results of `ORDER`."""
    slots = _slots(operation, layouts)
    r, a = slots[w.R].layout, slots[w.A].layout
    *lead, results, width = r.shape
    rows, matrices, itemsize = a.shape[-2], math.prod(lead), ITEMSIZE[a.dtype]
    explicit, packed = operation == "qr", operation == "qr_packed"
    kept = explicit or packed
    words, packing = _common(rows, width, a.dtype)
    words[w.WORKER], words[w.CREW] = tall_addresses(False)
    words[w.MATRICES], words[w.RESULT_ROWS], words[w.RAN_CODE] = matrices, results, TSQR
    words[w.FROM_A] = a.shape[-1]
    words[w.FROM_B] = slots[w.B].layout.shape[-1] if w.B in slots else 0
    words[w.SEED_ROWS] = slots[w.SEED].layout.shape[-2] if w.SEED in slots else 0
    words[w.EXPLICIT], words[w.KEEPS], words[w.DEEP] = int(explicit), int(kept), results
    words[w.PHASES], words[w.STRIPS] = 2 if explicit else 1, 1
    words[w.RECORDS] = packing.records if kept else 1
    line = (packing.panels + 1) * PANEL * itemsize
    words[w.R_BYTES] = _up((packing.panels * PANEL) ** 2 * itemsize, LINE)
    words[w.LINE_BYTES] = _up(line, LINE)
    words[w.AREA_BYTES] = (
        words[w.R_BYTES]
        + 3 * words[w.LINE_BYTES]
        + (0 if packed else _up(words[w.RECORDS] * words[w.RECORDS_BYTES], LINE))
        + (_up(width * width * itemsize, LINE) if explicit and packing.parts > 1 else 0)
    )
    words[w.SCRATCH_BYTES] = line * LEAD
    words[w.REGION_BYTES] = 2 * words[w.SCRATCH_BYTES] + PANEL * LEAD * itemsize + words[w.LINE_BYTES]
    each = 2 * width * width * (2 if explicit else 1)
    return _plan(words, lead, slots, matrices * packing.parts, matrices * rows, each * itemsize)


def make_product_plan(adjoint: bool, rows: int, layouts: Sequence[Layout | None]) -> Plan:
    """The plan of a product with Q or with Q^H."""
    slots = _slots("qr_product", layouts)
    if not all(without_gaps(slots[slot].layout, OWN.get(slot, 2)) for slot in (w.Q, w.T, w.SIGNS)):
        raise ValueError("packed Householder vectors are read row-major, and these have other strides")
    v, y = slots[w.Q].layout, slots[w.Y].layout
    *lead, _, across = y.shape
    width, matrices, itemsize = v.shape[-1], math.prod(lead), ITEMSIZE[v.dtype]
    words, packing = _common(rows, width, v.dtype)
    words[w.WORKER], words[w.CREW] = tall_addresses(True)
    words[w.MATRICES], words[w.ADJOINT], words[w.ACROSS] = matrices, int(adjoint), across
    words[w.KEEPS], words[w.PHASES], words[w.RECORDS] = 1, 1 if adjoint else 2, packing.records
    # All that is turned at once: a strip of columns, in vectors of whole panels.
    strip = min(STRIP, _up(across, PANEL))
    words[w.STRIP], words[w.STRIPS] = strip, -(-across // strip)
    line = (max(packing.panels, strip // PANEL) + 1) * PANEL * itemsize
    words[w.LINE_BYTES] = _up(line, LINE)
    words[w.R_BYTES] = words[w.AREA_BYTES] = _up(packing.panels * PANEL * strip * itemsize, LINE)
    words[w.SCRATCH_BYTES] = line * LEAD
    words[w.REGION_BYTES] = 2 * words[w.SCRATCH_BYTES] + PANEL * LEAD * itemsize + words[w.LINE_BYTES]
    tasks = matrices * packing.parts * words[w.STRIPS]
    return _plan(words, lead, slots, tasks, matrices * rows, 4 * width * across * itemsize)


def _common(rows: int, width: int, dtype: str) -> tuple[list[int], Packing]:
    """Words that say how a matrix is cut."""
    of = blocks_of(dtype)
    packing = Packing(rows, width, of.state)
    words = [0] * w.PLAN_WORDS
    words[w.REAL] = of.itemsize
    words[w.KERNEL] = kernel_address(of)
    words[w.TASKS], words[w.ITEMSIZE], words[w.LANES] = CONDUCTED, ITEMSIZE[dtype], of.lanes
    words[w.ROWS], words[w.WIDTH], words[w.PANELS] = rows, width, packing.panels
    words[w.BLOCKS], words[w.PARTS] = rows // packing.block, packing.parts
    # A head holds R; of wider matrices nothing but R is wanted, and their first block is like the others.
    words[w.BLOCK], words[w.HEAD] = packing.block, min(packing.head, packing.block if width > LEAD else LEAD)
    words[w.RECORDS_BYTES] = packing.panels * RECORD * ITEMSIZE[dtype]
    return words, packing


def _plan(
    words: list[int], lead: Sequence[int], slots: Mapping[int, "_Slot"], tasks: int, rows: int, work: int
) -> Plan:
    """`work` is operations of a row times the bytes of a number."""
    operands = [
        _Operand([0] * len(lead)) if slot not in slots else _operand(slot, slots[slot].layout)
        for slot in range(w.SLOTS)
    ]
    sizes = merge(list(lead), operands)
    words[w.DIMS], words[w.SIZE_TABLE] = len(sizes), len(words)
    words += sizes
    words[w.SLOT_TABLE] = len(words)
    for slot, operand in enumerate(operands):
        pointer = slots[slot].pointer if slot in slots else -1
        words += [pointer, operand.row, operand.column, *operand.others]
    array = np.array(words, dtype=np.int64)
    nanoseconds = rows * (ROW_NANOSECONDS + work // (4 * OPERATIONS))
    threads = max(1, min(tasks, nanoseconds // THREAD_NANOSECONDS))
    return Plan(array, array.ctypes.data, threads, None)


def _slots(operation: str, layouts: Sequence[Layout | None]) -> dict[int, "_Slot"]:
    given = zip(ORDER[operation], layouts, strict=True)
    return {
        slot: _Slot(layout, pointer)
        for pointer, (slot, layout) in enumerate(given)
        if slot is not None and layout is not None
    }


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _operand(slot: int, layout: Layout) -> _Operand:
    own = OWN.get(slot, 2)
    strides = [0 if n == 1 else stride for n, stride in zip(layout.shape, layout.strides, strict=True)]
    others = strides[: len(strides) - own]
    inner = strides[len(strides) - own :]
    if slot in (w.A, w.B, w.SEED, w.X) and layout.shape[-1] == 1:
        # Wherever a second column would lie: rows that are read whole are read faster.
        inner[1] = ITEMSIZE[layout.dtype]
    return _Operand(others, inner[0] if own else 0, inner[1] if own > 1 else 0)
