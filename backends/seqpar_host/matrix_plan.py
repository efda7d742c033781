"""The plan of a kernel of the matrix recurrence: what plan.py does for the linear recurrence, with rows and columns.

Matrices keep the strides they came with. Whether M or its transpose is multiplied, whether the user gave a transposed view:
each only swaps two strides, and the kernel loads whichever lines of the product's matrix lie contiguous.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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

UNROLLED = 16  # rows of the largest state that is kept in registers
WIDEST = 16  # numbers of one vector
MATRICES = ("A", "dA")
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

    name: str
    layout: Layout
    offset: int
    step: int
    others: list[int]  # bytes per index of the leading axes beside time
    row: int
    column: int

    @property
    def format(self) -> str:
        return self.layout.dtype

    @property
    def itemsize(self) -> int:
        return FORMATS[self.format].itemsize


def make_matrix_plan(kernel: str, walk: MatrixWalk, layouts: Sequence[Layout | None]) -> Plan:
    names = SLOTS[kernel]
    by_name = {name: layout for name, layout in zip(names, layouts, strict=True) if layout is not None}
    *lead, n, k = by_name["h"].shape
    if n == 1 and kernel == "matrix":
        return make_plan("walk", Walk(walk.axis, walk.reverse, adjoint=walk.adjoint), layouts)
    steps, sizes = lead[walk.axis], [size for dim, size in enumerate(lead) if dim != walk.axis]
    backward = kernel == "matrix_backward"
    slots = {name: _slot(name, layout, lead, walk, backward) for name, layout in by_name.items()}
    sizes = plan.merge(sizes, list(slots.values())) or [1]
    for slot in slots.values():
        slot.others = slot.others or [0]
    if k != 1 and not backward:
        specialisation = _columns(kernel, walk, slots, sizes, n, k)
    else:
        specialisation = _vector(kernel, walk, slots, sizes, n, k)
    if backward and steps != 1 and by_name["dA"].shape[walk.axis] == 1:
        specialisation = replace(specialisation, summed=True)
    extent = sizes[-1]
    traffic = _traffic(slots, n, k) * max(1, steps)
    position = traffic // (k if specialisation.mode == "columns" else 1)
    width = specialisation.abreast * (specialisation.lanes if specialisation.mode == "columns" else 1)
    states = (
        FORMATS[by_name["final" if not backward else "dh0"].dtype].itemsize * n if specialisation.swept else 0
    )
    line = position // max(1, steps)
    block = _block(extent, math.prod(sizes[:-1]), width, position, states, line)
    tasks = math.prod(sizes[:-1]) * -(-extent // block)
    size = position * extent * math.prod(sizes[:-1])
    grain = max(1, min(plan.TASK_BYTES // max(1, position * block), -(-tasks // 64)))
    empty = math.prod(sizes) == 0 or n == 0
    words = [
        0 if empty else kernel_address(specialisation),
        worker_address(),
        0 if empty else tasks,
        grain,
        steps,
        extent,
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
    return Plan(array, array.ctypes.data, 1 if empty else threads, None if empty else specialisation)


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
    return _Slot(name, layout, offset, step, strides, row if rows > 1 else 0, column if columns > 1 else 0)


def _vector(
    kernel: str, walk: MatrixWalk, slots: dict[str, _Slot], sizes: list[int], n: int, k: int
) -> MatrixSpecialisation:
    """Lanes over the rows of a state."""
    A, lanes = slots["A"], 1
    while lanes < n:
        lanes *= 2
    _extent_last(slots, sizes)
    extent, shared = sizes[-1], A.others[-1] == 0
    abreast, swept = 1, False
    if n > UNROLLED:
        n, lanes = 0, lanes_of(slots["h"].format)
    else:
        if k == 1:
            abreast = ABREAST[kernel, A.step == 0][lanes]
        while abreast // 2 >= extent:
            abreast //= 2
        swept = extent > abreast and _positions_closer(slots)
    still = n > 0 and A.step == 0 and (shared or not swept)
    lines = "rows" if A.column == A.itemsize and not still else "columns"
    dA = slots.get("dA")
    written = "" if dA is None else "rows" if dA.column == dA.itemsize else "columns"
    reaches, dense = {}, []
    for name, slot in slots.items():
        by_rows = {"A": lines, "dA": written}.get(name) == "rows"
        per_line, per_lane = (slot.row, slot.column) if by_rows else (slot.column, slot.row)
        reaches[name] = reach_of(per_lane, slot.itemsize)
        if name in MATRICES and (per_line, per_lane) == (n * slot.itemsize, slot.itemsize):
            dense.append(name)
    return MatrixSpecialisation(
        kernel=kernel,
        mode="vector",
        size=n,
        lanes=lanes,
        adjoint=walk.adjoint,
        lines=lines,
        formats=_of_slots(kernel, {name: slot.format for name, slot in slots.items()}),
        reaches=_of_slots(kernel, reaches),
        dense=tuple(dense),
        abreast=abreast,
        swept=swept,
        still=still,
        shared=shared,
        several=k != 1,
        written=written,
        descending=A.step < 0,
    )


def _columns(
    kernel: str, walk: MatrixWalk, slots: dict[str, _Slot], sizes: list[int], n: int, k: int
) -> MatrixSpecialisation:
    """Lanes over the columns of a state, which become the extent."""
    A, lanes = slots["A"], 2
    while lanes < min(k, WIDEST):
        lanes *= 2
    sizes.append(k)
    for slot in slots.values():
        slot.others.append(0 if slot.name in MATRICES else slot.column)
    abreast = max(1, min(WIDEST // max(1, n), 4))
    while abreast > 1 and (abreast // 2) * lanes >= k:
        abreast //= 2
    if n > UNROLLED:
        n, lanes = 0, lanes_of(slots["h"].format)
    reaches = {name: reach_of(slot.others[-1], slot.itemsize) for name, slot in slots.items()}
    return MatrixSpecialisation(
        kernel=kernel,
        mode="columns",
        size=n,
        lanes=lanes,
        adjoint=walk.adjoint,
        lines="rows",
        formats=_of_slots(kernel, {name: slot.format for name, slot in slots.items()}),
        reaches=_of_slots(kernel, reaches),
        dense=("A",) if (A.row, A.column) == (n * A.itemsize, A.itemsize) else (),
        abreast=abreast,
        swept=n > 0 and k > lanes * abreast,
        ragged=n > 0 and k % (lanes * abreast) != 0,
    )


def _of_slots(kernel: str, known: dict[str, str]) -> tuple[str, ...]:
    return tuple(known.get(name, "") for name in SLOTS[kernel])


def _extent_last(slots: dict[str, _Slot], sizes: list[int]) -> None:
    """Make the extent the leading axis with the most positions; of two alike the one that lies closest."""
    best = max(range(len(sizes)), key=lambda dim: (sizes[dim], dim))
    sizes.append(sizes.pop(best))
    for slot in slots.values():
        slot.others.append(slot.others.pop(best))


def _positions_closer(slots: dict[str, _Slot]) -> bool:
    """Does the next position of the extent lie closer in memory than the next step, in the operand with the most bytes?"""
    for name in ("A", "dA", "b", "g", "h"):
        slot = slots.get(name)
        if slot is not None and slot.step and slot.others[-1]:
            return abs(slot.others[-1]) < abs(slot.step)
    return False


def _traffic(slots: dict[str, _Slot], n: int, k: int) -> int:
    """Bytes that one position moves in a step."""
    size = 0
    for name, slot in slots.items():
        if slot.step:
            size += slot.itemsize * (n * n if name in MATRICES else 1 if name == "resets" else n * k)
    return size


def _block(extent: int, others: int, width: int, position: int, states: int, line: int) -> int:
    """Positions of one task, a multiple of `width`. How a task is cut changes no bit of the result."""
    pieces = -(-thread_limit() // max(1, others))
    if not states:
        wanted = min(-(-extent // pieces), -(-plan.TASK_BYTES // max(1, position)))
    else:
        # As rows of the linear recurrence: parts of what lies together walk at half the speed of the whole.
        if pieces == 2 and extent * line < 2 * LONG_PART:
            pieces = 1
        wanted = min(-(-extent // pieces), SWEPT_BYTES // states)
    return -(-max(1, wanted) // width) * width
