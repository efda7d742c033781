"""The plan of a tall-skinny QR: from the layouts of a call to the words that its routines read (tall_words.py)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqpar.dispatch.geometry import ITEMSIZE, merge
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

# One core does about 30 operations in a nanosecond on numbers of 4 bytes, and a thread takes 50 microseconds to start and join.
OPERATIONS, THREAD_NANOSECONDS = 30, 100_000
ORDER = {
    "qr": (w.A, w.Q, w.R, w.RAN),
    "r_factor": (w.A, w.B, w.WEIGHTS, w.SEED, w.R, w.RAN),
    "qr_packed": (w.A, w.Q, w.T, w.SIGNS, w.R, w.RAN),
    "qr_product": (None, None, w.Q, w.T, w.SIGNS, w.X, w.Y),
}
"""Operands and then results."""
OWN = {w.WEIGHTS: 1, w.RAN: 0, w.T: 4, w.SIGNS: 1}
"""Axes of a matrix's own, if they are not two."""


@dataclass
class _Operand:
    """Strides of one operand, in bytes."""

    others: list[int]
    row: int = 0
    column: int = 0


def make_tall_plan(operation: str, layouts: Sequence[Layout | None]) -> Plan:
    """The plan of a factorisation, over the operands and results of `ORDER`."""
    slots: dict[int, Layout] = {}
    pointers: dict[int, int] = {}
    for pointer, (slot, layout) in enumerate(zip(ORDER[operation], layouts, strict=True)):
        if layout is not None:
            slots[slot], pointers[slot] = layout, pointer
    *lead, results, width = slots[w.R].shape
    a, dtype = slots[w.A], slots[w.A].dtype
    operands = [_operand(slot, slots.get(slot), lead) for slot in range(w.SLOTS)]
    sizes = merge(list(lead), operands)
    rows, itemsize, matrices = a.shape[-2], ITEMSIZE[dtype], math.prod(lead)
    explicit, packed = operation == "qr", operation == "qr_packed"
    kept = explicit or packed
    packing = Packing(rows, width, dtype)
    parts, panels = packing.parts, packing.panels
    of = blocks_of(dtype)
    words = [0] * w.PLAN_WORDS
    words[w.KERNEL] = kernel_address(of)
    words[w.WORKER], words[w.CREW] = tall_addresses()
    words[w.TASKS], words[w.ITEMSIZE], words[w.LANES] = CONDUCTED, itemsize, of.lanes
    words[w.MATRICES], words[w.DIMS] = matrices, len(sizes)
    words[w.ROWS], words[w.WIDTH], words[w.PANELS], words[w.RESULT_ROWS] = rows, width, panels, results
    words[w.FROM_A] = a.shape[-1]
    words[w.FROM_B] = slots[w.B].shape[-1] if w.B in slots else 0
    words[w.SEED_ROWS] = slots[w.SEED].shape[-2] if w.SEED in slots else 0
    words[w.BLOCKS], words[w.PARTS] = rows // packing.block, packing.parts
    words[w.BLOCK], words[w.HEAD] = packing.block, packing.head
    words[w.EXPLICIT], words[w.RAN_CODE] = int(explicit), TSQR
    words[w.KEEPS], words[w.PHASES] = int(kept), 2 if explicit else 1
    words[w.RECORDS] = packing.records if kept else 1
    words[w.R_BYTES] = _up(panels * PANEL * panels * PANEL * itemsize, LINE)
    words[w.LINE_BYTES] = _up((panels + 1) * PANEL * itemsize, LINE)
    words[w.RECORDS_BYTES] = panels * RECORD * itemsize
    words[w.AREA_BYTES] = (
        words[w.R_BYTES]
        + 3 * words[w.LINE_BYTES]
        + (0 if packed else _up(words[w.RECORDS] * words[w.RECORDS_BYTES], LINE))
        + (_up(width * width * itemsize, LINE) if explicit and parts > 1 else 0)
    )
    words[w.SCRATCH_BYTES] = (panels + 1) * PANEL * LEAD * itemsize
    words[w.REGION_BYTES] = 2 * words[w.SCRATCH_BYTES] + PANEL * LEAD * itemsize + 2 * words[w.LINE_BYTES]
    for table, content in (
        (w.SIZE_TABLE, sizes),
        (
            w.SLOT_TABLE,
            [
                word
                for slot, x in enumerate(operands)
                for word in (pointers.get(slot, -1), x.row, x.column, *x.others)
            ],
        ),
    ):
        words[table] = len(words)
        words += content
    array = np.array(words, dtype=np.int64)
    work = 2 * matrices * rows * width * width * (2 if explicit else 1)
    nanoseconds = work * itemsize // (4 * OPERATIONS)
    threads = max(1, min(matrices * parts, nanoseconds // THREAD_NANOSECONDS))
    return Plan(array, array.ctypes.data, threads, None)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _operand(slot: int, layout: Layout | None, lead: Sequence[int]) -> _Operand:
    if layout is None:
        return _Operand([0] * len(lead))
    own = OWN.get(slot, 2)
    strides = [0 if n == 1 else stride for n, stride in zip(layout.shape, layout.strides, strict=True)]
    others = strides[: len(strides) - own]
    inner = strides[len(strides) - own :]
    if slot in (w.A, w.B, w.SEED) and layout.shape[-1] == 1:
        # Wherever a second column would lie: rows that are read whole are read faster.
        inner[1] = ITEMSIZE[layout.dtype]
    return _Operand(others, inner[0] if own else 0, inner[1] if own > 1 else 0)
