"""From the layouts of a walked cell to the launch that computes it."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

from seqpar.cells.operation import CellWalk
from seqpar.dispatch.geometry import ITEMSIZE, Geometry, geometry
from seqpar.dispatch.problem import Layout
from seqpar_triton.cell_kernel import kernel_of
from seqpar_triton.cell_source import Slot, slots
from seqpar_triton.configs import CellConfig
from seqpar_triton.device import Device
from seqpar_triton.limits import AXES, MOST_SEGMENTS, padded
from seqpar_triton.program import Call, Program

Layouts = Mapping[str, Layout]

MOST_ROWS = 16
"""Rows of one tile, where there are more than the GPU has processors."""
MOST_NUMBERS = 256
"""Numbers of one gate in a tile. With one or two to a thread, ptxas has registers for every cell of 64 units."""
MOST_WARPS = 8
LEAST_WARPS = 4
"""With fewer, a thread holds whole columns of the weights: 1,296 bytes of a GRU of 32 units spill."""
STAGES = 2
"""Steps whose inputs are being loaded or used: a step takes longer than memory does."""


class Plan(NamedTuple):
    """A launch, and how often it runs."""

    program: Program
    parts: list[Mapping[str, int]]
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
    tile = config.rows or _tile(rows * models, width, device)
    strides: list[int] = []
    for slot in given:
        strides += _strides(slot, layouts, walk, inner)
    formats = {name: layout.dtype for name, layout in layouts.items()}
    reads = 6 if backward else 4
    call = Call(
        kernel=kernel_of(spec, formats["x"], backward, "resets" in layouts),
        grid=(-(-rows // tile), models, 1),
        reads=tuple(slot.name for slot in given[:reads]),
        writes=tuple(slot.name for slot in given[reads:]),
        integers=(walk.steps, rows, *(1, 1, *(walk.sizes[axis] for axis in inner))[-2:], *strides),
        constants={"ROWS": tile, "STAGES": config.stages or STAGES, "DIMS": len(inner)},
        warps=config.warps or max(LEAST_WARPS, min(MOST_WARPS, tile * width // 32)),
    )
    parts = [
        {
            name: ITEMSIZE.get(formats[name], 4)
            * sum(i * walk.strides[name].others[axis] for i, axis in zip(index, leading, strict=True))
            for name in layouts
        }
        for index in itertools.product(*(range(walk.sizes[axis]) for axis in leading))
    ]
    return Plan(Program(calls=(call,), formats=formats), parts)


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


def _tile(rows: int, width: int, device: Device) -> int:
    """As few rows as leave no processor without a tile."""
    tile = 1
    while tile < min(MOST_ROWS, MOST_NUMBERS // width) and tile * device.processors < rows:
        tile *= 2
    return tile
