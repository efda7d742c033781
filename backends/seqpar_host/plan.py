"""From the shapes of a call to the words that launch it: everything but the pointers, made once per signature."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seqpar.dispatch.geometry import merge
from seqpar.dispatch.problem import Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar_host.body import TIMELESS
from seqpar_host.compile import kernel_address, worker_address
from seqpar_host.formats import FORMATS, reach_of
from seqpar_host.job import SLOTS, MatrixSpecialisation, Specialisation
from seqpar_host.threads import thread_limit
from seqpar_host.walk import TILE_ROWS, WIDEST_BLOCK, lanes_of

# A thread takes 50 microseconds to start and join, in which one core moves 3 MB out of its caches (two threads broke even
# at 9 MB).
BYTES_PER_THREAD = 4 << 20
TASK_BYTES = 1 << 16
# From here on results would push everything else out of the last cache, themselves included.
STREAMED_BYTES = 1 << 25
LONG_PART = 8192  # columns


class Part(NamedTuple):
    """Some of the steps, in the direction of the walk: `chunks` neighbouring chunks, each walked on its own.

    Operands without time then have a first axis more, over the chunks.
    """

    first: int
    steps: int
    chunks: int


@dataclass(frozen=True)
class Plan:
    """Words for `launch`, and how many threads they are worth."""

    words: npt.NDArray[np.int64]
    address: int
    threads: int
    specialisation: Specialisation | MatrixSpecialisation | None


@dataclass
class _Slot:
    """Strides of one operand over the shape of the result."""

    layout: Layout
    offset: int
    step: int  # bytes per step
    others: list[int]  # bytes per index of the dims beside time


def make_plan(
    kernel: str,
    walk: Walk,
    layouts: Sequence[Layout | None],
    shape: tuple[int, ...] | None = None,
    part: Part | None = None,
) -> Plan:
    """The plan of one kernel over operands and results; over some steps only with `part` (and then h may be absent)."""
    names = SLOTS[kernel]
    by_name = {name: layout for name, layout in zip(names, layouts, strict=True) if layout is not None}
    shape = by_name["h"].shape if shape is None else shape
    axis, steps = walk.axis, shape[walk.axis]
    sizes = [size for dim, size in enumerate(shape) if dim != axis]
    # A backward walk goes against the direction of the walk it belongs to.
    descending = walk.reverse != (kernel == "backward")
    slots = {name: _slot(name, layout, shape, axis, descending, part) for name, layout in by_name.items()}
    if part is not None:
        steps = part.steps
        sizes.insert(axis, part.chunks)
    along = math.prod(shape[axis + 1 :]) <= 1
    sizes = merge(sizes, list(slots.values()))
    main = by_name["b" if kernel == "walk" else "g"].dtype
    lanes = lanes_of(main)
    if not sizes:
        sizes = [1]
        for slot in slots.values():
            slot.others = [0]
    summed = kernel == "backward" and steps != 1 and by_name["da"].shape[axis] == 1
    mode = "along" if along else "narrow" if sizes[-1] <= lanes else "rows"
    # A tile of one or two rows turns four: 9 cycles a step, where the latency of multiply-add is 4.
    if along and math.prod(sizes) <= 2 and walk.gate == "value" and not summed:
        mode = "single"
        sizes.append(1)
        for slot in slots.values():
            slot.others.append(0)
    extent = sizes[-1]
    formats, reaches = [], []
    for name in names:
        found = slots.get(name)
        formats.append("" if found is None else found.layout.dtype)
        reaches.append("" if found is None else _reach(name, found, mode))
    specialisation = Specialisation(
        kernel=kernel,
        mode=mode,
        gate=walk.gate,
        convex=walk.convex,
        adjoint=walk.adjoint,
        formats=tuple(formats),
        reaches=tuple(reaches),
        summed=summed,
        descending=descending and mode == "rows",
    )
    column = sum(FORMATS[slot.layout.dtype].itemsize for name, slot in slots.items() if name not in TIMELESS)
    column *= max(1, steps)
    block = _block(extent, math.prod(sizes[:-1]), column, mode, thread_limit())
    tasks = math.prod(sizes[:-1]) * -(-extent // block)
    size = column * extent * math.prod(sizes[:-1])
    grain = max(1, min(TASK_BYTES // max(1, column * block), -(-tasks // 64)))
    empty = math.prod(sizes) == 0
    words = [
        0 if empty else kernel_address(specialisation),
        worker_address(),
        0 if empty else tasks,
        grain,
        steps,
        extent,
        block,
        int(size < STREAMED_BYTES),
        0,
        0,
        len(names),
        len(sizes) - 1,
        *sizes[:-1],
    ]
    for name in names:
        found = slots.get(name)
        if found is None:
            words += [0] * (4 + len(sizes))
        else:
            words += [found.offset, found.step, found.others[-1], 0, 0, *found.others[:-1]]
    array = np.array(words, dtype=np.int64)
    threads = max(1, min(-(-tasks // grain), size // BYTES_PER_THREAD))
    return Plan(array, array.ctypes.data, 1 if empty else threads, None if empty else specialisation)


def _slot(
    name: str, layout: Layout, shape: tuple[int, ...], axis: int, descending: bool, part: Part | None
) -> _Slot:
    strides = list(layout.strides)
    sizes = list(layout.shape)
    per_chunk = 0
    if name in TIMELESS:
        if part is not None:
            per_chunk = 0 if sizes.pop(0) == 1 else strides[0]
            del strides[0]
        sizes.insert(axis, 1)
        strides.insert(axis, 0)
    strides = [0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True)]
    step, offset = strides.pop(axis), 0
    if descending:
        step, offset = -step, step * max(0, shape[axis] - 1)
    if part is not None:
        offset += part.first * step
        strides.insert(axis, per_chunk if name in TIMELESS else part.steps * step)
    return _Slot(layout, offset, step, strides)


def _reach(name: str, slot: _Slot, mode: str) -> str:
    if mode == "along":
        return "packed" if name in TIMELESS else reach_of(slot.step, FORMATS[slot.layout.dtype].itemsize)
    return reach_of(slot.others[-1], FORMATS[slot.layout.dtype].itemsize)


def _block(extent: int, others: int, column: int, mode: str, threads: int) -> int:
    """Columns (rows, along) of one task. How a task is cut changes no bit of the result."""
    if mode in ("narrow", "single"):
        return max(1, extent)
    if mode == "along":
        wanted = -(-TASK_BYTES // max(1, column))
        return -(-max(1, min(wanted, extent)) // TILE_ROWS) * TILE_ROWS
    # Parts of rows walk at half the speed of whole ones: two threads gain nothing by them, unless the parts are long.
    pieces = -(-threads // max(1, others))
    if pieces == 2 and extent < 2 * LONG_PART:
        pieces = 1
    return -(-min(WIDEST_BLOCK, -(-extent // pieces)) // 64) * 64
