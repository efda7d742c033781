"""The plan of a cell's gradients: from the layouts of a call to the words that gatherers read (cell_gatherer.py)."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqpar.cells.gradients import places_of, uses
from seqpar.cells.program import INPUT
from seqpar.cells.walk import CellWalk
from seqpar.dispatch.geometry import ITEMSIZE, merge
from seqpar.dispatch.problem import Layout
from seqpar_host import cell_gatherer as g
from seqpar_host.cell_products import products_of
from seqpar_host.compile import gatherer_addresses, kernel_address
from seqpar_host.launch import CONDUCTED
from seqpar_host.plan import Plan

# Steps of a task, of one sequence or of several; more where there would be more tasks than these, each with gradients of its own.
BLOCK, MOST_TASKS = 1024, 64
# One core does about 60 operations in a nanosecond on numbers of 4 bytes, and a thread takes 50 microseconds to start and join.
OPERATIONS, THREAD_NANOSECONDS = 60, 100_000


@dataclass
class _Operand:
    """Strides of one operand, in bytes."""

    others: list[int]
    step: int = 0
    unit: int = 0


def operations(spec: CellWalk, steps: int) -> int:
    """Multiplications and additions over so many steps of all sequences."""
    products, _, _ = _products(spec)
    each = (
        entry[g.HIGH] * (spec.sizes["inputs"] if entry[g.OF_INPUT] else entry[g.WIDE]) for entry in products
    )
    return 2 * steps * sum(each)


def make_gather_plan(spec: CellWalk, layouts: Sequence[Layout | None]) -> Plan:
    """The plan over x, h0, resets, weights, states, what was stored, and the gradients of x and weights."""
    stored = layouts[g.WRITTEN]
    assert stored is not None
    *lead, steps, _ = stored.shape
    operands = [_operand(slot, layout, lead) for slot, layout in enumerate(layouts)]
    sizes, state, dtype = merge(lead, operands), spec.state, stored.dtype
    sequences = math.prod(lead)
    block, group = _shares(steps, sequences)
    blocks = -(-steps // block)
    products, turns, turned = _products(spec)
    words = [0] * g.PLAN_WORDS
    words[g.KERNEL] = kernel_address(products_of(dtype))
    words[g.WORKER], words[g.CREW] = gatherer_addresses()
    words[g.TASKS], words[g.ITEMSIZE], words[g.TIME] = CONDUCTED, ITEMSIZE[dtype], steps
    words[g.SEQUENCES], words[g.BLOCK], words[g.GROUP], words[g.BLOCKS] = sequences, block, group, blocks
    words[g.COUNT] = blocks * -(-sequences // group)
    words[g.WEIGHTS], words[g.INPUTS] = spec.weights, spec.sizes["inputs"]
    words[g.STATE], words[g.STORED], words[g.TURNED] = state, spec.stored, turned
    words[g.RESETS] = int(layouts[g.RESET_MASK] is not None)
    one = struct.pack("=f" if dtype == "float32" else "=d", 1.0)
    words[g.ONE] = int(np.frombuffer(one.ljust(8, b"\0"), np.int64)[0])
    words[g.DIMS], words[g.PRODUCTS], words[g.TURNS] = len(sizes), len(products), len(turns)
    for table, content in (
        (g.SIZE_TABLE, sizes),
        (g.SLOT_TABLE, [word for x in operands for word in (x.step, x.unit, *x.others)]),
        (g.PRODUCT_TABLE, [word for entry in products for word in entry]),
        (g.TURN_TABLE, [word for entry in turns for word in entry]),
    ):
        words[table] = len(words)
        words += content
    array = np.array(words, dtype=np.int64)
    nanoseconds = operations(spec, sequences * steps) * ITEMSIZE[dtype] // (4 * OPERATIONS)
    return Plan(array, array.ctypes.data, max(1, nanoseconds // THREAD_NANOSECONDS), None)


def _shares(steps: int, sequences: int) -> tuple[int, int]:
    """Steps of a task, and how many sequences: by the shapes alone, since the order of sums hangs on it."""
    share = max(BLOCK, -(-steps * sequences // MOST_TASKS))
    if share < 2 * steps:
        # A multiple of the steps that are added up at once.
        return -(-share // g.SUB) * g.SUB, 1
    return steps, share // steps


def _operand(slot: int, layout: Layout | None, lead: Sequence[int]) -> _Operand:
    if layout is None:
        return _Operand([0] * len(lead))
    sizes, strides = list(layout.shape), list(layout.strides)
    unit = step = 0
    if slot != g.RESET_MASK:
        sizes.pop()
        unit = strides.pop()
    if slot not in (g.H0, g.WEIGHT_ROW, g.DWEIGHTS):
        sizes.pop()
        step = strides.pop()
    if slot in (g.WEIGHT_ROW, g.DWEIGHTS):
        return _Operand([0] * len(lead), 0, unit)
    return _Operand([0 if n == 1 else s for n, s in zip(sizes, strides, strict=True)], step, unit)


def _products(spec: CellWalk) -> tuple[list[list[int]], list[list[int]], int]:
    """The table of products, that of matrices to turn, and how many numbers those are."""
    program, sizes = spec.cell, spec.sizes
    starts, parts, places = program.starts(sizes), program.part_starts(sizes), places_of(program, sizes)
    products, turns, turned = list[list[int]](), list[list[int]](), 0
    for parameter, multiplied, runs in uses(program, sizes):
        start, total = starts[parameter.name], parameter.shape(sizes)[-1]
        if parameter.rows and multiplied is None:
            continue
        source, first, high = g.FROM_ONE, 0, 1
        if multiplied == INPUT:
            source, first, high = g.FROM_INPUT, 0, sizes["inputs"]
        elif multiplied is not None:
            node = program.nodes[multiplied]
            source, high = g.FROM_STORED, sizes[node.space]
            if node.op == "state":
                source, first = g.FROM_STATE, parts[node.which]
            else:
                first = places[multiplied][0]
        for run in runs:
            width = run.last - run.first
            for column, _ in run.places:
                products.append([0, source, first, high, column, width, start + run.first, total])
                if multiplied == INPUT:
                    products.append([1, 0, column, width, turned, 0, 0, int(not turns)])
                    turns.append([start + run.first, total, width, turned])
                    turned += width * sizes["inputs"]
    return products, turns, turned
