"""From the layouts of a walked cell to the launch that computes it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqpar.cells.walk import CellWalk
from seqpar.dispatch.geometry import ITEMSIZE, Geometry, geometry
from seqpar.dispatch.problem import Layout
from seqpar_triton.cell_kernel import inputs_kernel_of, kernel_of
from seqpar_triton.cell_source import LAST_PHASE, SCRATCH, Slot, slots
from seqpar_triton.cell_step import starts_ahead
from seqpar_triton.configs import CellConfig, CellShootingConfig
from seqpar_triton.device import Device
from seqpar_triton.limits import AXES, MOST_SEGMENTS, padded
from seqpar_triton.program import Call, Program

Layouts = Mapping[str, Layout]

MOST_ROWS = 16
"""Rows of one tile, where there are more than the GPU has processors."""
MOST_NUMBERS = 256
"""Numbers of one gate in a tile. With one or two to a thread, ptxas has registers for every cell of 64 units."""
WARPS = 4
"""With fewer, a thread holds whole columns of the weights: 1,296 bytes of a GRU of 32 units spill."""
WARPS_OF_MANY = 8
"""For the largest tiles of more than 32 units, and on the way back: a thread has not registers for two numbers of each gate."""
BLOCK = 16
"""Steps after which a chunk is compared with what it was."""
SHORTEST_CHUNK = 256
"""Two walks of a GRU or LSTM meet, to the bit, after 40 to 90 steps; what is walked twice is at most so much of a chunk."""
STEPS_AHEAD = 32
"""Steps whose inputs one program multiplies, where that is done ahead of the walk."""


class Plan(NamedTuple):
    """A launch, and how often it runs."""

    program: Program
    parts: Sequence[Mapping[str, int]]
    """Bytes to each part of memory that it serves, by operand: a single part for up to three leading axes."""


def plan(spec: CellWalk, layouts: Layouts, config: CellConfig, device: Device, backward: bool) -> Plan:
    """The walk over x, h0, resets, weights into states, sweeps, or against it, into stored, entered."""
    given = slots(backward, "resets" in layouts)
    walk = _walk(layouts, given)
    order = _order(walk)
    leading, inner = order[:-AXES], order[-AXES:]
    models = math.prod([walk.sizes[axis] for axis in inner if walk.strides["weights"].others[axis]])
    if models > MOST_SEGMENTS:
        raise NotImplementedError(
            f"{models} models are more than the {MOST_SEGMENTS} that one launch can have"
        )
    rows = math.prod([walk.sizes[axis] for axis in inner]) // models
    width = max(padded(size) for space, size in spec.sizes.items() if space != "inputs")
    chunk = _chunk(walk.steps, rows * models, width, config, device)
    chunks = -(-walk.steps // chunk)
    tile = config.rows or _tile(rows * models * chunks, width, device)
    many = tile * width >= MOST_NUMBERS and (backward or width > 32)
    strides: list[int] = []
    for slot in given:
        strides += _strides(slot, layouts, walk, inner)
    formats = {name: layout.dtype for name, layout in layouts.items()}
    state, sequences = formats["x"], rows * models
    scratch: dict[str, tuple[tuple[int, ...], str]] = {}
    if chunks > 1:
        scratch["marks"] = (chunks, sequences, -(-chunk // BLOCK), spec.state), state
        scratch["ends"] = (LAST_PHASE + 1, chunks, sequences, spec.state), state
        scratch["flags"] = (LAST_PHASE + 1,), "int32"
    reads = 6 if backward else 4
    calls = []
    inner_sizes = (1, 1, *(walk.sizes[axis] for axis in inner))[-2:]
    _, ahead = starts_ahead(spec.cell, spec.sizes)
    if ahead:
        scratch["products"] = (sequences, walk.steps, ahead), state
        calls.append(
            Call(
                kernel=inputs_kernel_of(spec, state),
                grid=(rows * -(-walk.steps // STEPS_AHEAD), models, 1),
                reads=("x", "weights"),
                writes=("products",),
                integers=(
                    *(walk.steps, rows, *inner_sizes),
                    *_strides(given[0], layouts, walk, inner),
                    *_strides(given[3], layouts, walk, inner),
                ),
                constants={"STEPS": STEPS_AHEAD, "DIMS": len(inner)},
                warps=WARPS_OF_MANY,
            )
        )
    for phase in range(LAST_PHASE + 1 if chunks > 1 else 1):
        together = 1 if phase == LAST_PHASE else chunks
        block = BLOCK if chunks > 1 else chunk
        sizes = (*inner_sizes, -rows * together, chunk, block, chunks)
        calls.append(
            Call(
                kernel=kernel_of(spec, state, backward, "resets" in layouts),
                grid=(-(-rows * together // tile), models, 1),
                reads=(*(slot.name for slot in given[:reads]), "products"),
                writes=(*(slot.name for slot in given[reads:]), *SCRATCH),
                integers=(walk.steps, rows, *sizes, -(chunks // together), -phase, *strides),
                constants={"ROWS": tile, "DIMS": len(inner)},
                warps=config.warps or (WARPS_OF_MANY if many else WARPS),
            )
        )
    parts = [
        {
            name: ITEMSIZE.get(formats[name], 4)
            * sum(i * walk.strides[name].others[axis] for i, axis in zip(index, leading, strict=True))
            for name in layouts
        }
        for index in itertools.product(*(range(walk.sizes[axis]) for axis in leading))
    ]
    formats |= {name: dtype for name, (_, dtype) in scratch.items()}
    return Plan(Program(calls=tuple(calls), formats=formats, scratch=scratch, segments=chunks), parts)


def _walk(layouts: Layouts, given: tuple[Slot, ...]) -> Geometry:
    """The walk of all operands, without their last axis where that is of units."""
    there = [slot for slot in given if slot.name in layouts]
    bare = {}
    for slot in there:
        shape, strides, dtype = layouts[slot.name]
        # Of the format only the size counts here, and that of counts is not among those of numbers.
        size = "float32" if dtype == "int32" else dtype
        last = -1 if slot.units else None
        bare[slot.name] = Layout(shape[:last], strides[:last], size)
    *lead, steps = bare["states"].shape
    return geometry((*lead, steps), len(lead), bare, [slot.name for slot in there if not slot.timed])


def _order(walk: Geometry) -> list[int]:
    """Axes beside time, those first along which the weights differ: a tile of rows shares its weights."""
    apart = walk.strides["weights"].others
    axes = range(len(walk.sizes))
    return [axis for axis in axes if apart[axis]] + [axis for axis in axes if not apart[axis]]


def _strides(slot: Slot, layouts: Layouts, walk: Geometry, inner: list[int]) -> list[int]:
    if slot.name not in layouts:
        return [0] * len(slot.strides)
    step, others = walk.strides[slot.name]
    found = [step] if slot.timed else []
    found += [0] * (AXES - len(inner)) + [others[axis] for axis in inner]
    if slot.units:
        layout = layouts[slot.name]
        found.append(0 if layout.shape[-1] == 1 else layout.strides[-1] // ITEMSIZE[layout.dtype])
    return found


def _chunk(steps: int, sequences: int, width: int, config: CellConfig, device: Device) -> int:
    """Steps of a chunk: all of them, unless chunks were asked for, or pay."""
    if not isinstance(config, CellShootingConfig):
        return steps
    if config.chunk is not None:
        return min(steps, -(-config.chunk // BLOCK) * BLOCK)
    # Walkers that the GPU has room for at once.
    room = device.processors * min(MOST_ROWS, MOST_NUMBERS // width)
    chunk = max(SHORTEST_CHUNK, -(-steps * sequences // (room * BLOCK)) * BLOCK)
    return chunk if 2 * chunk <= steps else steps


def _tile(rows: int, width: int, device: Device) -> int:
    """As few rows as leave no processor without a tile."""
    tile = 1
    while tile < min(MOST_ROWS, MOST_NUMBERS // width) and tile * device.processors < rows:
        tile *= 2
    return tile
