"""The plan of a kernel of the matrix recurrence: what plan.py does for the linear recurrence, with rows and columns.

Matrices keep the strides they came with. Whether M or its transpose is multiplied, whether the user gave a transposed view:
each only swaps two strides, and the kernel loads whichever lines of the product's matrix lie contiguous.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqpar.dispatch.geometry import merge
from seqpar.dispatch.problem import Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_host import plan
from seqpar_host.body import TIMELESS
from seqpar_host.compile import kernel_address, worker_address
from seqpar_host.formats import FORMATS, reach_of
from seqpar_host.job import SLOTS, MatrixSpecialisation
from seqpar_host.plan import Plan, make_plan
from seqpar_host.threads import thread_limit
from seqpar_host.walk import lanes_of

MATRICES = ("A", "dA")
UNROLLED = 16  # rows of the largest state that is kept in registers
WIDEST = 16  # columns in one vector
# States of one task that is walked step by step: they stay in the first cache. And bytes of a step that lie together from
# which on two halves are as fast as the whole (at 2 KB 3.0 ms for 1.2, n = 4, on one thread).
SWEPT_BYTES, LONG_PART = 1 << 14, 1 << 16
# Positions walked at once, by the kernel, whether the matrix stays the same, and the lanes of a state: enough to hide the sums
# of one behind the others, few enough for the matrices to stay in 32 registers. Half as many are slower by a third or more
# where there is a choice (n = 4, forward: 0.42, 0.31, 0.43 ms for 2, 4, 8), twice as many by as much or more.
ABREAST = {
    ("matrix", False): {1: 8, 2: 4, 4: 4, 8: 2, 16: 1},
    ("matrix", True): {1: 8, 2: 8, 4: 4, 8: 4, 16: 2},
    ("matrix_backward", False): {1: 4, 2: 2, 4: 2, 8: 1, 16: 1},
    ("matrix_backward", True): {1: 4, 2: 4, 4: 2, 8: 2, 16: 1},
}


@dataclass
class _Slot:
    """Strides of one operand over the shape of the states."""

    layout: Layout
    offset: int
    step: int
    others: list[int]  # bytes per index of the leading axes beside time
    row: int
    column: int

    @property
    def itemsize(self) -> int:
        return FORMATS[self.layout.dtype].itemsize


Slots = dict[str, _Slot]


def make_matrix_plan(kernel: str, walk: MatrixWalk, layouts: Sequence[Layout | None]) -> Plan:
    """The plan of one kernel ("matrix" or "matrix_backward") over operands and results."""
    names = SLOTS[kernel]
    by_name = {name: layout for name, layout in zip(names, layouts, strict=True) if layout is not None}
    *lead, n, k = by_name["h"].shape
    if n == 1 and kernel == "matrix":
        return make_plan("walk", Walk(walk.axis, walk.reverse, adjoint=walk.adjoint), layouts)
    steps, sizes = lead[walk.axis], [size for dim, size in enumerate(lead) if dim != walk.axis]
    backward = kernel == "matrix_backward"
    slots = {name: _slot(name, layout, lead, walk, backward) for name, layout in by_name.items()}
    sizes = merge(sizes, list(slots.values())) or [1]
    for slot in slots.values():
        slot.others = slot.others or [0]
    summed = backward and steps != 1 and by_name["dA"].shape[walk.axis] == 1
    # Beyond the registers the backward kernel takes column after column.
    in_columns = k != 1 and (n <= UNROLLED or not backward)
    _extent_last(slots, sizes, k if in_columns else None)
    of = (_columns if in_columns else _vector)(kernel, walk, slots, sizes[-1], n, summed)
    # Bytes of one position of the extent: a column, or a whole state with its matrices.
    line = sum(_bytes(name, slot, n, k) for name, slot in slots.items() if slot.step)
    line = -(-line // max(1, k)) if in_columns else line
    position, others = line * max(1, steps), math.prod(sizes[:-1])
    state = n * slots["dh0" if backward else "final"].itemsize if of.swept else 0
    # A matrix of gradients has terms from every column of a state: they stay in one task.
    block = (
        max(1, sizes[-1])
        if backward and in_columns
        else _block(sizes[-1], others, _width(of), position, state, line)
    )
    tasks = others * max(1, -(-sizes[-1] // block))
    size = position * sizes[-1] * others
    grain = max(1, min(plan.TASK_BYTES // max(1, position * block), -(-tasks // 64)))
    empty = n == 0 or others == 0 or (sizes[-1] == 0 and not (backward and in_columns))
    words = [
        0 if empty else kernel_address(of),
        worker_address(),
        0 if empty else tasks,
        grain,
        steps,
        sizes[-1],
        block,
        int(size < plan.STREAMED_BYTES),
        n,
        k,
        len(names),
        len(sizes) - 1,
        *sizes[:-1],
    ]
    for name in names:
        found = slots.get(name)
        if found is None:
            words += [0] * (4 + len(sizes))
        else:
            words += [found.offset, found.step, found.others[-1], found.row, found.column, *found.others[:-1]]
    array = np.array(words, dtype=np.int64)
    threads = max(1, min(-(-tasks // grain), size // plan.BYTES_PER_THREAD))
    return Plan(array, array.ctypes.data, 1 if empty else threads, None if empty else of)


def _slot(name: str, layout: Layout, lead: Sequence[int], walk: MatrixWalk, backward: bool) -> _Slot:
    *strides, row, column = layout.strides
    *sizes, rows, columns = layout.shape
    if name in TIMELESS:
        sizes.insert(walk.axis, 1)
        strides.insert(walk.axis, 0)
    strides = [0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True)]
    step, offset = strides.pop(walk.axis), 0
    # A backward walk goes against the direction of the walk it belongs to.
    if walk.reverse != backward:
        step, offset = -step, step * max(0, lead[walk.axis] - 1)
    # The backward walk multiplies by the transpose of M, and writes dM.
    if name in MATRICES and walk.transposed != (backward and name == "A"):
        row, column = column, row
    return _Slot(layout, offset, step, strides, row if rows > 1 else 0, column if columns > 1 else 0)


def _extent_last(slots: Slots, sizes: list[int], columns: int | None) -> None:
    """Make the extent the last axis: columns, or the leading axis with the most positions, of two alike the closer one."""
    if columns is not None:
        sizes.append(columns)
        for name, slot in slots.items():
            slot.others.append(0 if name in MATRICES else slot.column)
        return
    best = max(range(len(sizes)), key=lambda dim: (sizes[dim], dim))
    sizes.append(sizes.pop(best))
    for slot in slots.values():
        slot.others.append(slot.others.pop(best))


def _vector(
    kernel: str, walk: MatrixWalk, slots: Slots, extent: int, n: int, summed: bool
) -> MatrixSpecialisation:
    """Lanes over the rows of a state."""
    A, in_registers = slots["A"], n <= UNROLLED
    lanes = _power_of_two(n) if in_registers else lanes_of(slots["h"].layout.dtype)
    shared = A.others[-1] == 0
    if in_registers:
        abreast = ABREAST[kernel, A.step == 0][lanes]
        while abreast // 2 >= extent > 0:
            abreast //= 2
    else:
        # Vectors of rows: four or less, as evenly as they go.
        vectors = -(-n // lanes)
        abreast = -(-vectors // -(-vectors // 4))
    swept = in_registers and extent > abreast and _positions_closer(slots)
    still = in_registers and A.step == 0 and (shared or not swept)
    # A matrix that is loaded once is held by columns, in whichever order it lies.
    lines = "columns" if still else _contiguous(A)
    reaches = {name: reach_of(slot.row, slot.itemsize) for name, slot in slots.items()}
    return _specialisation(
        kernel, "vector", walk, slots, n, lanes, lines, reaches, abreast, swept, still, shared, False, summed
    )


def _columns(
    kernel: str, walk: MatrixWalk, slots: Slots, extent: int, n: int, summed: bool
) -> MatrixSpecialisation:
    """Lanes over the columns of a state, which are the extent."""
    lanes, abreast = min(WIDEST, _power_of_two(max(2, extent))), 1
    if n > UNROLLED:
        lanes = lanes_of(slots["h"].layout.dtype)
    elif kernel == "matrix_backward":
        # Vectors of columns are turned into columns: no shorter than those.
        lanes = max(lanes, _power_of_two(n))
    else:
        # Sixteen vectors of state leave as many registers for sums.
        while 2 * abreast * n <= 16 and abreast * lanes < extent and abreast < 4:
            abreast *= 2
    # The backward walk has gradients of the matrices to write even if there is no column.
    swept = n <= UNROLLED and (extent > lanes * abreast or extent == 0)
    ragged = n <= UNROLLED and extent % (lanes * abreast) != 0
    reaches = {name: reach_of(slot.others[-1], slot.itemsize) for name, slot in slots.items()}
    lines = _contiguous(slots["A"])
    return _specialisation(
        kernel, "columns", walk, slots, n, lanes, lines, reaches, abreast, swept, False, True, ragged, summed
    )


def _specialisation(
    kernel: str,
    mode: str,
    walk: MatrixWalk,
    slots: Slots,
    n: int,
    lanes: int,
    lines: str,
    reaches: dict[str, str],
    abreast: int,
    swept: bool,
    still: bool,
    shared: bool,
    ragged: bool,
    summed: bool,
) -> MatrixSpecialisation:
    written = _contiguous(slots["dA"]) if "dA" in slots else ""
    dense = []
    for name, of_lines in (("A", lines), ("dA", written)):
        if name in slots:
            slot = slots[name]
            line, lane = (slot.row, slot.column) if of_lines == "rows" else (slot.column, slot.row)
            reaches[name] = reach_of(lane, slot.itemsize)
            if (line, lane) == (n * slot.itemsize, slot.itemsize):
                dense.append(name)
    names = SLOTS[kernel]
    return MatrixSpecialisation(
        kernel=kernel,
        mode=mode,
        size=n if n <= UNROLLED else 0,
        lanes=lanes,
        adjoint=walk.adjoint,
        lines=lines,
        formats=tuple(slots[name].layout.dtype if name in slots else "" for name in names),
        reaches=tuple(reaches[name] if name in slots else "" for name in names),
        dense=tuple(dense) if n <= UNROLLED else (),
        abreast=abreast,
        swept=swept,
        still=still,
        shared=shared,
        ragged=ragged,
        summed=summed,
        written=written,
        descending=slots["A"].step < 0,
    )


def _power_of_two(n: int) -> int:
    """The smallest one that is not less."""
    power = 1
    while power < n:
        power *= 2
    return power


def _contiguous(matrix: _Slot) -> str:
    """Which lines of a matrix lie contiguous; columns where none do, and in doubt."""
    return "rows" if matrix.column == matrix.itemsize else "columns"


def _positions_closer(slots: Slots) -> bool:
    """Does the next position of the extent lie closer in memory than the next step, in the operand with the most bytes?"""
    for name in ("A", "dA", "b", "g", "h"):
        slot = slots.get(name)
        if slot is not None and slot.step and slot.others[-1]:
            return abs(slot.others[-1]) < abs(slot.step)
    return False


def _bytes(name: str, slot: _Slot, n: int, k: int) -> int:
    """What one state with its matrices moves of an operand in a step."""
    return slot.itemsize * (n * n if name in MATRICES else 1 if name == "resets" else n * k)


def _width(of: MatrixSpecialisation) -> int:
    """Positions of one group."""
    return of.abreast * (of.lanes if of.mode == "columns" else 1)


def _block(extent: int, others: int, width: int, position: int, state: int, line: int) -> int:
    """Positions of one task, a multiple of `width`. How a task is cut changes no bit of the result."""
    pieces = -(-thread_limit() // max(1, others))
    if not state:
        wanted = min(-(-extent // pieces), -(-plan.TASK_BYTES // max(1, position)))
    else:
        # As rows of the linear recurrence: parts of what lies together walk at half the speed of the whole.
        if pieces == 2 and extent * line < 2 * LONG_PART:
            pieces = 1
        wanted = min(-(-extent // pieces), SWEPT_BYTES // state)
    return -(-max(1, wanted) // width) * width
