"""The plan of a cell's walk: from the layouts of a call to the words that the conductor and its crews read (cell_words.py)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqpar.cells.walk import CellWalk
from seqpar.dispatch.geometry import ITEMSIZE, merge
from seqpar.dispatch.problem import Layout
from seqpar.errors import BackendError
from seqpar_host import cell_job
from seqpar_host import cell_words as w
from seqpar_host.cell_job import CELL_SLOTS, PER_SLOT, CellSpecialisation, padded
from seqpar_host.cell_weights import layout as packing
from seqpar_host.compile import conductor_addresses, kernel_address
from seqpar_host.formats import LINE, reach_of
from seqpar_host.launch import CONDUCTED
from seqpar_host.plan import Plan

OPERANDS = {
    "cell": ("x", "h0", "resets", "weights", "states", "sweeps"),
    "cell_backward": ("x", "h0", "resets", "weights", "states", "given", "stored", "entered"),
}
TIMELESS, UNITLESS, WRITTEN = (
    ("h0", "weights", "sweeps"),
    ("resets", "sweeps"),
    ("states", "stored", "entered"),
)
# Of a step of a row. A GRU of 32 units and inputs has 25 KB of weights and takes 140 to 240.
NANOSECONDS, BYTES_PER_NANOSECOND = 40, 160
# A thread takes 50 microseconds to start and join.
THREAD_NANOSECONDS = 100_000
# Probing and correcting take about as long as 250 steps of a row, and starting threads twice 100 microseconds.
FEWEST_STEPS, LEAST_NANOSECONDS = 512, 300_000
# Bytes of weights that are read for each step of a tile and stay close to the core. Rows of a GRU take, one, two or four at once:
# 168, 153 and 147 nanoseconds (32 units), 877, 541, 507 (64), 19,700, 10,400, 7,900 (256 units, 1.5 MB).
CLOSE = 1 << 20
# Fewer chunks have less to correct. Forward, with so many bytes of weights, two rows of each thread are ahead of four (17,984
# steps of 32 units, 2 threads: GRU 1.59 ms for 1.69, LSTM 2.1 for 2.2); with less work in a step four are (8 units, 100,000
# steps: 1.65 for 1.53), and backward (GRU 2.55 for 2.46, LSTM 3.6 for 3.3).
TWO_ROWS = range(8 << 10, 64 << 10)


@dataclass
class _Operand:
    """Strides of one operand, in bytes."""

    pointer: int
    dtype: str
    others: list[int]  # per index of the leading axes
    step: int  # from one step to the next in memory, 0 without time
    unit: int
    units: int


Operands = Mapping[str, _Operand]


def make_cell_plan(
    kernel: str, spec: CellWalk, method: int, chunk: int, layouts: Sequence[Layout | None]
) -> Plan:
    """The plan of one kernel, "cell" or "cell_backward", over operands and results. `chunk`: of method IN_CHUNKS."""
    operands, lead, steps = _operands(kernel, layouts)
    program, sizes, state = spec.cell, spec.sizes, operands["x"].dtype
    models, sequences = _dims(operands, lead)
    count = math.prod(sequences)
    lanes = cell_job.lanes_for(max(sizes[space] for space in program.parts), state)
    packed, copies = packing(kernel, program, sizes, lanes, state)
    nanoseconds = NANOSECONDS + packed // BYTES_PER_NANOSECOND
    if method == w.AUTO and (steps < FEWEST_STEPS or steps * nanoseconds < LEAST_NANOSECONDS):
        method = w.IN_ORDER
    tallest = min(w.HEIGHT, max(1, count)) if method == w.IN_ORDER else w.HEIGHT
    entries, ghost = _entries(kernel, operands, steps, len(models) + len(sequences))
    words = [0] * w.PLAN_WORDS
    words[w.CONDUCTOR], words[w.CREW], words[w.MODELLER] = conductor_addresses()
    words[w.TASKS] = CONDUCTED
    for height, word in ((1, w.TILE_1), (2, w.TILE_2), (4, w.TILE_4)):
        if height <= tallest and math.prod(lead) * steps:
            words[word] = kernel_address(_specialisation(kernel, spec, operands, lanes, height))
    words[w.TALLEST], words[w.METHOD], words[w.CHUNK] = tallest, method, min(chunk, max(1, steps))
    words[w.BACKWARD], words[w.TIME] = int(kernel == "cell_backward"), steps
    words[w.NANOSECONDS], words[w.WORTH], words[w.PACKED] = nanoseconds, THREAD_NANOSECONDS, packed
    words[w.MODELS], words[w.SEQUENCES] = math.prod(models), count
    words[w.MODEL_DIMS], words[w.SEQUENCE_DIMS] = len(models), len(sequences)
    words[w.ITEMSIZE], words[w.STATE] = ITEMSIZE[state], spec.state
    words[w.PARTS], words[w.WEIGHTS] = len(program.parts), spec.weights
    words[w.FULL] = 2 if packed <= CLOSE else w.HEIGHT
    words[w.EACH] = 2 if kernel == "cell" and packed in TWO_ROWS else w.HEIGHT
    _units(words, kernel, operands)
    _region(words, kernel, spec, operands, lanes, ghost)
    parts = [word for space in program.parts for word in (sizes[space], padded(sizes[space], lanes))]
    for table, content in (
        (w.PART_TABLE, parts),
        (w.ENTRY_TABLE, entries),
        (w.SIZE_TABLE, [*models, *sequences]),
        (w.JOB_TABLE, _job(kernel, spec, operands)),
        (w.LAYOUT_TABLE, copies),
    ):
        words[table] = len(words)
        words += content
    array = np.array(words, dtype=np.int64)
    threads = math.prod(lead) * steps * nanoseconds // THREAD_NANOSECONDS
    return Plan(array, array.ctypes.data, max(1, threads), None)


def _operands(kernel: str, layouts: Sequence[Layout | None]) -> tuple[dict[str, _Operand], list[int], int]:
    """Every operand that is there, the leading axes, and the steps."""
    found, names = {}, OPERANDS[kernel]
    given = dict(zip(names, layouts, strict=True))
    whole = given["states" if kernel == "cell" else "stored"]
    assert whole is not None
    *lead, steps, _ = whole.shape
    for pointer, (name, layout) in enumerate(given.items()):
        if layout is None:
            continue
        sizes, strides, size = list(layout.shape), list(layout.strides), ITEMSIZE[layout.dtype]
        units, unit = (1, 0) if name in UNITLESS else (sizes.pop(), strides.pop())
        step = 0
        if len(sizes) > len(lead):
            step = strides.pop()
            sizes.pop()
        others = [0 if n == 1 else stride for n, stride in zip(sizes, strides, strict=True)]
        found[name] = _Operand(pointer, layout.dtype, others, step, size if units == 1 else unit, units)
    if kernel == "cell_backward" and found["states"].unit == 0 and 0 not in whole.shape:
        # No start of a sequence can be laid out like that (see `remember` in cell_crew.py).
        raise BackendError("cell_backward: the numbers of each state all lie in one place. Copy the states.")
    return found, lead, steps


def _dims(operands: Operands, lead: Sequence[int]) -> tuple[list[int], list[int]]:
    """Leading axes along which weights differ, and the others, joined where they can be; operands follow."""
    weights = operands["weights"].others
    kinds = [[i for i, stride in enumerate(weights) if (stride != 0) == differ] for differ in (True, False)]
    strides = [operand.others for operand in operands.values()]
    joined, sizes = [list[int]() for _ in operands], []
    for axes in kinds:
        for operand, others in zip(operands.values(), strides, strict=True):
            operand.others = [others[i] for i in axes]
        sizes.append(merge([lead[i] for i in axes], list(operands.values())))
        for row, operand in zip(joined, operands.values(), strict=True):
            row += operand.others
    for row, operand in zip(joined, operands.values(), strict=True):
        operand.others = row
    return sizes[0], sizes[1]


def _source(name: str, operands: Operands) -> _Operand | None:
    """The operand that is a slot of the tile. The states that enter each step are those written a step before."""
    if name in ("h0", "entered") and "resets" not in operands:
        return None
    return operands.get("states" if name == "before" else name)


def _specialisation(
    kernel: str, spec: CellWalk, operands: Operands, lanes: int, rows: int
) -> CellSpecialisation:
    found = [_source(name, operands) for name in CELL_SLOTS[kernel]]
    spaces = cell_job.spaces(cell_job.walked(kernel, spec.program))
    return CellSpecialisation(
        kernel=kernel,
        program=spec.program,
        state=operands["x"].dtype,
        lanes=lanes,
        rows=rows,
        formats=tuple("" if x is None else x.dtype for x in found),
        reaches=tuple("" if x is None else reach_of(x.unit, ITEMSIZE[x.dtype]) for x in found),
        whole=all(spec.sizes[space] % lanes == 0 for space in spaces),
    )


def _job(kernel: str, spec: CellWalk, operands: Operands) -> list[int]:
    """A job up to its rows."""
    program = cell_job.walked(kernel, spec.program)
    words = [0] * cell_job.row_word(kernel, program, 0)
    for space in (*cell_job.spaces(program), "inputs"):
        words[cell_job.size_word(kernel, program, space)] = spec.sizes[space]
    for name in CELL_SLOTS[kernel]:
        found, at = _source(name, operands), cell_job.slot_word(kernel, name)
        if found is not None:
            step = found.step if kernel == "cell" else -found.step
            words[at : at + PER_SLOT] = [step, found.unit]
    return words


def _entries(kernel: str, operands: Operands, steps: int, dims: int) -> tuple[list[int], int]:
    """The table of entries, and the bytes that a ghost writes."""
    words, size, backward = list[int](), 0, kernel == "cell_backward"

    def add(found: _Operand | None, step: int = 0, place: int = -1) -> None:
        if found is None:
            words.extend([-1, 0, -1, *[0] * dims])
        else:
            words.extend([found.pointer, found.step * step, place, *found.others])

    for name in CELL_SLOTS[kernel]:
        found, place = _source(name, operands), -1
        first = steps - (2 if name == "before" else 1) if backward else 0
        if found is not None and name in WRITTEN:
            # Up to MARK steps, then over the same again.
            time, row = (w.MARK - 1) * abs(found.step), (found.units - 1) * abs(found.unit)
            place = size + (time if (found.step < 0) != backward else 0) + (row if found.unit < 0 else 0)
            size += padded(time + row + ITEMSIZE[found.dtype], LINE)
        add(found, first, place)
    add(operands["h0"])
    add(operands["weights"])
    add(operands["given" if backward else "h0"], steps - 1 if backward else 0)
    add(_last(kernel, operands))
    return words, size


def _last(kernel: str, operands: Operands) -> _Operand | None:
    """What is written when a sequence is walked. With resets every step writes what enters it."""
    if kernel == "cell":
        return operands["sweeps"]
    return None if "resets" in operands else operands["entered"]


def _units(words: list[int], kernel: str, operands: Operands) -> None:
    """Bytes from one number to the next, of what the conductor copies itself."""
    last = _last(kernel, operands)
    words[w.H0_UNIT], words[w.WEIGHTS_UNIT] = operands["h0"].unit, operands["weights"].unit
    words[w.BEFORE_UNIT] = operands["states"].unit
    words[w.SEED_UNIT] = operands["h0" if kernel == "cell" else "given"].unit
    words[w.LAST_UNIT] = 0 if last is None else last.unit


def _region(
    words: list[int], kernel: str, spec: CellWalk, operands: Operands, lanes: int, ghost: int
) -> None:
    """What lies where in the memory of a crew."""
    slots, program, sizes, state = CELL_SLOTS[kernel], spec.cell, spec.sizes, operands["x"].dtype
    words[w.SLOTS], words[w.JOB_ROW] = len(slots), cell_job.row_words(kernel)
    words[w.JOB_HEADER] = cell_job.row_word(kernel, cell_job.walked(kernel, spec.program), 0)
    words[w.CARRY] = cell_job.carry_bytes(kernel, program, sizes, lanes, state)
    if kernel == "cell_backward":
        words[w.BEFORE], unit = slots.index("before"), operands["states"].unit
        words[w.PAST] = padded((spec.state - 1) * abs(unit) + ITEMSIZE[state], LINE)
        words[w.PAST_SHIFT] = (spec.state - 1) * -unit if unit < 0 else 0
    words[w.AT_ROWS] = padded(8 * (words[w.JOB_HEADER] + w.HEIGHT * words[w.JOB_ROW]), LINE)
    words[w.AT_CARRIES] = words[w.AT_ROWS] + 8 * w.HEIGHT * w.ROW_WORDS
    words[w.AT_SCRATCH] = words[w.AT_CARRIES] + w.HEIGHT * words[w.CARRY]
    scratch = cell_job.scratch_bytes(kernel, program, sizes, lanes, state, w.HEIGHT)
    words[w.AT_PASTS] = words[w.AT_SCRATCH] + scratch
    words[w.AT_GHOST] = words[w.AT_PASTS] + w.HEIGHT * words[w.PAST]
    words[w.REGION] = words[w.AT_GHOST] + ghost
