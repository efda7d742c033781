"""Where everything lies that a tile reads and writes: its job's words, carries, scratch, the slots of the rows, the weights.

A step reads one carry of a row and writes another, since its blocks all read the state before it: in even steps from the
row's own to the one in its scratch, in odd steps back.
"""

from typing import Any

from seqpar_host.cell_job import (
    CELL_SLOTS,
    ITEMSIZE,
    SCRATCH,
    STEPS,
    WEIGHTS,
    CellSpecialisation,
    kept,
    row_word,
    row_words,
    size_word,
    slot_word,
    spaces,
)
from seqpar_host.cell_stages import Stage, stages
from seqpar_host.cell_weights import vectors
from seqpar_host.formats import FORMATS, Place
from seqpar_host.simd import I64, Int, Lanes, Mask


class TileMemory:
    """Addresses and sizes, in bytes, as a kernel in the making computes them."""

    def __init__(self, builder: Any, of: CellSpecialisation, words: Int) -> None:
        self.builder, self.of, self.words, self.program = builder, of, words, of.walked
        self.lanes, self.itemsize = of.lanes, ITEMSIZE[of.state]
        self.vector = self.lanes * self.itemsize
        formats = zip(CELL_SLOTS[of.kernel], of.formats, of.reaches, strict=True)
        self.slots = {name: (FORMATS[format], reach) for name, format, reach in formats if format}
        self.strides = {name: self._strides(name) for name in self.slots}
        self.steps, self.scratch = self.word(STEPS), self.word(SCRATCH)
        self.units = {
            space: self.word(size_word(of.kernel, self.program, space))
            for space in (*spaces(self.program), "inputs")
        }
        self.blocks = {space: (n + (self.lanes - 1)) // self.lanes for space, n in self.units.items()}
        self._lay_out_rows()
        self._lay_out_weights()

    def _strides(self, name: str) -> tuple[Int, "Int | int"]:
        """Bytes per step and per unit. A known one lets LLVM form plain addresses."""
        first, (format, reach) = slot_word(self.of.kernel, name), self.slots[name]
        known = {"packed": format.itemsize, "splat": 0, "mirrored": -format.itemsize}.get(reach)
        return self.word(first), self.word(first + 1) if known is None else known

    def _lay_out_rows(self) -> None:
        size = {space: n * self.vector for space, n in self.blocks.items()}
        self.part_at, self.part_first = [], []
        at, first = self.number(0), self.number(0)
        for space in self.program.parts:
            self.part_at.append(at)
            self.part_first.append(first)
            at, first = at + size[space], first + self.units[space]
        # A row's scratch: the second carry, the state before a backward step, then nodes.
        self.before_at, at = at, at + at
        self.kept_at = {}
        for i in kept(self.program):
            self.kept_at[i] = at
            at = at + size[self.program.nodes[i].space]
        self.row_size = at
        self.stored_first, first = [], self.number(0)
        for i in self.program.stored:
            self.stored_first.append(first)
            first = first + self.units[self.program.nodes[i].space]

    def _lay_out_weights(self) -> None:
        self.weights_at: dict[Stage, tuple[Int, Int]] = {}
        at = self.word(WEIGHTS)
        for stage in stages(self.program):
            block = (self.number(0) + vectors(stage, self.units)) * self.vector
            self.weights_at[stage] = (at, block)
            at = at + block * self.blocks[stage.space]

    def number(self, value: int) -> Int:
        return Int(self.builder, I64(value))

    def word(self, index: "Int | int") -> Int:
        pointer = self.builder.inttoptr((self.words + index * 8).value, I64.as_pointer())
        return Int(self.builder, self.builder.load(pointer))

    def row_address(self, row: Int, name: str = "") -> Int:
        """What a job says of a row: the address of its carry, or of a slot."""
        first = row_word(self.of.kernel, self.program, 0, name)
        return self.word(row * row_words(self.of.kernel) + first)

    # --- what the tile has for itself: whole vectors in the precision of the carry ---

    def own(self, address: Int) -> Place:
        return Place(FORMATS[self.of.state], "packed", address, address)

    def carry(self, row: Int, step: Int) -> Int:
        """The carry that a step reads; that of the step after it is the one it writes."""
        even = step.mod(2).equals(0)
        return self.row_address(row).where(even, self.row_scratch(row))

    def row_scratch(self, row: Int) -> Int:
        return self.scratch + row * self.row_size

    def state_before(self, row: Int, step: Int) -> Int:
        """The parts of the state that enters a step."""
        if self.of.kernel == "cell":
            return self.carry(row, step)
        return self.row_scratch(row) + self.before_at

    # --- what the caller has: any format, any strides ---

    def place(self, name: str, row: Int, step: Int, unit: "Int | int") -> Place:
        (format, reach), (per_step, per_unit) = self.slots[name], self.strides[name]
        offset = (self.number(0) + unit) * per_unit
        address = self.row_address(row, name) + step * per_step + offset
        return Place(format, reach, address, self.number(0) + per_unit)

    def inside(self, space: str, block: Int) -> Mask | None:
        """Which lanes of a block are units; None where all are."""
        return None if self.of.whole else (self.units[space] - block * self.lanes).first(self.lanes)

    def load(self, name: str, row: Int, step: Int, first: Int, space: str, block: Int) -> Lanes:
        """A block of a space that begins at the unit `first` of a slot; zeros past its end."""
        place = self.place(name, row, step, first + block * self.lanes)
        return place.load(self.of.state, self.lanes, self.inside(space, block))

    def store(self, name: str, row: Int, step: Int, first: Int, space: str, block: Int, value: Lanes) -> None:
        self.place(name, row, step, first + block * self.lanes).store(value, self.inside(space, block))

    def reset(self, row: Int, step: Int) -> Any:
        """Whether a step starts again, as one truth."""
        return self.builder.extract_element(self.place("resets", row, step, 0).truths(1).value, I64(0))
