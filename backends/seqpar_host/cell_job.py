"""What a compiled tile is for, and the words of its job.

A tile walks a few rows (chunks of sequences) through some steps of a cell, forward or backward. It is a C function of one
integer, the address of its job, an array of 64-bit words:

    STEPS       steps to walk
    WEIGHTS     address of the weights as cell_weights.py packs them
    SCRATCH     address of memory for the tile alone, `scratch_bytes` of it, at a multiple of 64
    then        of each slot bytes per step and bytes per unit (`slot_word`)
    then        the units of each space of `spaces`, and the numbers of an input (`size_word`)
    then        of each row the address of its carry, and of each slot at the row's first step (`row_word`)

A carry is what goes from step to step: forward the state, backward the gradient of the state before the step. In memory each
of its parts has zeros up to a multiple of `lanes` numbers, and it lies at a multiple of 64; the tile reads it first and
leaves it there. Walks down in time have negative bytes per step, and the addresses of their last steps.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from seqpar.cells.adjoint import adjoint
from seqpar.cells.program import INPUT, Program, read

STEPS, WEIGHTS, SCRATCH, SLOT_WORDS = range(4)
PER_SLOT = 2  # bytes per step, bytes per unit

CELL_SLOTS = {
    # h0: the state that enters after a reset; absent without resets.
    "cell": ("x", "states", "resets", "h0"),
    # before: the states that enter the steps. given: gradients of their results. stored: see `adjoint`. entered: the gradients
    # of the states that enter; absent without resets.
    "cell_backward": ("x", "before", "given", "stored", "resets", "h0", "entered"),
}
ITEMSIZE = {"float32": 4, "float64": 8}
ALIGNMENT = 64


@dataclass(frozen=True)
class CellSpecialisation:
    """All that is fixed when a tile is compiled. Sizes are not: one tile serves every number of units."""

    kernel: str  # "cell" or "cell_backward"
    program: str  # the cell's, as text
    state: str  # "float32" or "float64": what is computed with
    lanes: int  # units of one vector
    rows: int
    formats: tuple[str, ...]  # per slot, "" where absent
    reaches: tuple[str, ...]  # per slot, along its units: see formats.py
    # Every space is a multiple of `lanes`: no masks, which cost nothing with AVX-512 and 5 to 20 % with AVX2.
    whole: bool = False

    def __str__(self) -> str:
        # Of what is walked: a reverse may change where the cell does not.
        digest = hashlib.sha1(self.walked.text.encode(), usedforsecurity=False).hexdigest()[:20]
        slots = [
            f"{name}:{format}/{reach}"
            for name, format, reach in zip(CELL_SLOTS[self.kernel], self.formats, self.reaches, strict=True)
            if format
        ]
        shape = f"{self.rows}x{self.lanes}" + (" whole" if self.whole else "")
        return " ".join([self.kernel, digest, self.state, shape, *slots])

    @property
    def walked(self) -> Program:
        """The program of one step of this walk."""
        return walked(self.kernel, self.program)


@cache
def walked(kernel: str, text: str) -> Program:
    """The program of one step: the cell's, or its reverse."""
    program = read(text)
    return adjoint(program) if kernel == "cell_backward" else program


@cache
def spaces(program: Program) -> tuple[str, ...]:
    """Spaces of which a program has nodes, in the order in which their sizes stand in a job."""
    return tuple(dict.fromkeys(node.space for node in program.nodes))


def slot_word(kernel: str, name: str) -> int:
    """Where a job says the bytes per step of a slot; those per unit are in the next word."""
    return SLOT_WORDS + PER_SLOT * CELL_SLOTS[kernel].index(name)


def size_word(kernel: str, program: Program, space: str) -> int:
    """Where a job says the units of a space; "inputs" come last, even if it is a space that has nodes."""
    names = spaces(program)
    at = len(names) if space == "inputs" else names.index(space)
    return SLOT_WORDS + PER_SLOT * len(CELL_SLOTS[kernel]) + at


def row_words(kernel: str) -> int:
    """Words of each row: its carry, then its slots."""
    return 1 + len(CELL_SLOTS[kernel])


def row_word(kernel: str, program: Program, row: int, name: str = "") -> int:
    """Where a job says the address of a row's slot, or of its carry."""
    first = size_word(kernel, program, "inputs") + 1 + row * row_words(kernel)
    return first + (1 + CELL_SLOTS[kernel].index(name) if name else 0)


def job_words(kernel: str, program: Program, rows: int) -> int:
    """Words of a job."""
    return row_word(kernel, program, rows)


def lanes_for(units: int, state: str) -> int:
    """Units of one vector, for states of which the widest part has so many: as a rule a line of memory."""
    widest, lanes = ALIGNMENT // ITEMSIZE[state], 4
    while lanes < min(units, widest):
        lanes *= 2
    return min(lanes, widest)


def padded(units: int, lanes: int) -> int:
    """Numbers that so many units take in a carry."""
    return -(-units // lanes) * lanes


def carry_bytes(kernel: str, program: Program, sizes: Mapping[str, int], lanes: int, state: str) -> int:
    """Size of a row's carry; a multiple of `ALIGNMENT`."""
    numbers = sum(padded(sizes[space], lanes) for space in program.parts)
    return padded(numbers * ITEMSIZE[state], ALIGNMENT)


def scratch_bytes(
    kernel: str, program: Program, sizes: Mapping[str, int], lanes: int, state: str, rows: int
) -> int:
    """Size of the memory that a tile needs for itself: per row a second carry, the state before a step, kept nodes."""
    walks = walked(kernel, program.text)
    numbers = 2 * sum(padded(sizes[space], lanes) for space in program.parts)
    numbers += sum(padded(sizes[walks.nodes[i].space], lanes) for i in kept(walks))
    return padded(rows * numbers * ITEMSIZE[state], ALIGNMENT)


@cache
def kept(program: Program) -> tuple[int, ...]:
    """Nodes that a tile keeps in its scratch: the program's own, and vectors that matrices multiply."""
    multiplied = {p.operand for made in program.sums for p in made.products if p.operand != INPUT}
    return tuple(sorted({*program.kept, *(i for i in multiplied if program.nodes[i].op == "vector")}))
