"""A cell walked in memory: the kernel that takes a few rows through some steps, forward or backward, whatever the program.

Vectors hold neighbouring units. A block is one vector of units of a stage (cell_stages.py): its sums are made for all rows at
once, so that each vector of weights is loaded once for them; then, row by row, everything else of those units. What a row
computes, in which order and with which multiply-adds, does not depend on the rows and blocks that are made beside it.

A GRU of 32 units and inputs, float32, on one core of Zen 4: a step takes 173 ns for one row, 151 and 146 a row for two and
four at once, backward 332, 232 and 220. Its 384 multiply-adds of whole vectors alone are 104, at one each cycle.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

from seqpar.cells.program import INPUT, Node
from seqpar_host.activations import above, relu, sigmoid, tanh
from seqpar_host.cell_job import CellSpecialisation
from seqpar_host.cell_memory import TileMemory
from seqpar_host.cell_stages import Loop, Stage, stages
from seqpar_host.formats import Place
from seqpar_host.job import Job
from seqpar_host.simd import FLOATS, I64, Int, Lanes, Variable, constant, either, loop
from seqpar_host.untyped import cgutils, intrinsic

ARITHMETIC: dict[str, Callable[..., Lanes]] = {
    "add": lambda _, x, y: x + y,
    "subtract": lambda _, x, y: x - y,
    "multiply": lambda _, x, y: x * y,
    "negative": lambda _, x: -x,
    "scale": lambda node, x: x * node.number,
    "shift": lambda node, x: x + node.number,
    "sigmoid": lambda _, x: sigmoid(x),
    "tanh": lambda _, x: tanh(x),
    "relu": lambda _, x: relu(x),
    "step": lambda _, x: above(x),
}


def kernel(job: int) -> int:
    """Compiled once per type of `job`."""
    return _emit(job)


@intrinsic
def _emit(typing: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # Loops stay as they are written: unrolled once more they are no faster and take a third longer to compile.
        builder.function.attributes.add("optsize")
        _Tile(builder, signature.args[0].specialisation, Int(builder, args[0])).walk()
        return I64(0)

    if not isinstance(job, Job):
        return None
    return types.int64(job), generate


class _Tile:
    """The code of one kernel while it is emitted."""

    def __init__(self, builder: Any, of: CellSpecialisation, words: Int) -> None:
        self.builder, self.of, self.program = builder, of, of.walked
        self.memory = TileMemory(builder, of, words)
        self.stages = stages(self.program)
        # The sums of a block, of all rows, on the stack, so that one piece of code serves for what comes of them.
        most = max(1, *(len(stage.sums) for stage in self.stages))
        kind = ir.VectorType(FLOATS[of.state], of.lanes)
        room = cgutils.alloca_once(builder, kind, size=most * of.rows)
        self.totals = Int(builder, builder.ptrtoint(room, I64))

    @property
    def nothing(self) -> Lanes:
        return constant(self.builder, self.of.state, self.of.lanes)

    def walk(self) -> None:
        memory = self.memory
        with loop(self.builder, memory.steps) as step:
            with loop(self.builder, memory.number(self.of.rows)) as row:
                self.enter(row, step)
            for stage in self.stages:
                self.stage(stage, step)
        # After an odd number of steps the last carry is the one in the scratch.
        with (
            self.builder.if_then(memory.steps.mod(2).equals(1)),
            loop(self.builder, memory.number(self.of.rows)) as row,
        ):
            source, target = memory.row_scratch(row), memory.row_address(row)
            with loop(self.builder, memory.before_at // memory.vector) as index:
                value = memory.own(source + index * memory.vector).load(self.of.state, self.of.lanes)
                memory.own(target + index * memory.vector).store(value)

    def enter(self, row: Int, step: Int) -> None:
        """Forward: h0 instead of the state, after a reset. Backward: the state that entered, out of the caller's memory."""
        if self.of.kernel == "cell":
            if "resets" in self.memory.slots:
                with self.builder.if_then(self.memory.reset(row, step)):
                    self.take("h0", row, step)
        elif "resets" not in self.memory.slots:
            self.take("before", row, step)
        else:
            with self.builder.if_else(self.memory.reset(row, step)) as (again, on):
                with again:
                    self.take("h0", row, step)
                with on:
                    self.take("before", row, step)

    def take(self, name: str, row: Int, step: Int) -> None:
        """A state from the caller's memory to where the step reads it."""
        memory, target = self.memory, self.memory.state_before(row, step)
        for part, space in enumerate(self.program.parts):
            with loop(self.builder, memory.blocks[space]) as block:
                value = memory.load(name, row, step, memory.part_first[part], space, block)
                memory.own(target + memory.part_at[part] + block * memory.vector).store(value)

    def stage(self, stage: Stage, step: Int) -> None:
        """Block after block."""
        builder, rows = self.builder, self.memory.number(self.of.rows)
        together = self.together(stage)
        with loop(builder, self.memory.blocks[stage.space]) as block:
            with loop(builder, rows // together) as group:
                self.sums(stage, step, block, [group * together + i for i in range(together)])
            with loop(builder, rows) as row:
                _Units(self, stage, step, block, row).make()

    # --- sums ---

    def together(self, stage: Stage) -> int:
        """Rows of which sums are made at once: as many as stay in registers beside the weights."""
        size = self.memory.vector * max([len(part.terms) * part.strands for part in stage.loops], default=1)
        # On AVX2 four rows of a GRU take 160 ns by twos and 219 at once, of an LSTM 268 one by one and 310 at once.
        most = max(1, register_bytes() * 3 // 4 // size)
        return max(rows for rows in (1, 2, 4) if rows <= min(most, self.of.rows))

    def total(self, stage: Stage, row: Int, sum: int) -> Place:
        """Where a sum of the block is handed on."""
        return self.memory.own(self.totals + (row * len(stage.sums) + sum) * self.memory.vector)

    def sums(self, stage: Stage, step: Int, block: Int, rows: list[Int]) -> None:
        """The sums of a block, of these rows, to the stack."""
        memory = self.memory
        start, size = memory.weights_at[stage]
        at = start + block * size
        totals: list[list[Variable]] = [[] for _ in rows]
        for biases in stage.biases:
            for sums in totals:
                sums.append(Variable(self.bias(at, len(biases))))
            at = at + len(biases) * memory.vector
        at = at + len(stage.vectors) * memory.vector
        for part in stage.loops:
            self.products(part, step, at, rows, totals)
            at = at + memory.units[part.space or "inputs"] * (len(part.terms) * memory.vector)
        for row, sums in zip(rows, totals, strict=True):
            for number, total in enumerate(sums):
                self.total(stage, row, number).store(total.get())

    def bias(self, address: Int, count: int) -> Lanes:
        """So many vectors of weights, added up."""
        total = self.weight(address) if count else self.nothing
        for number in range(1, count):
            total = total + self.weight(address + number * self.memory.vector)
        return total

    def products(
        self, part: Loop, step: Int, weights: Int, rows: list[Int], totals: list[list[Variable]]
    ) -> None:
        """One loop: add its terms to the sums of all rows."""
        strands = range(part.strands)
        # In place of the sum itself, a term has a sum of its own if it is not the first there, and in further strands.
        own = [(strand, i) for strand in strands for i, term in enumerate(part.terms) if strand or term.fresh]
        apart = [{key: Variable(self.nothing) for key in own} for _ in rows]
        operands = dict.fromkeys(term.product.operand for term in part.terms)
        read = [{i: self.operand(i, row, step) for i in operands} for row in rows]
        size = len(part.terms) * self.memory.vector

        def add(unit: Int, strand: int) -> None:
            numbers = [{i: number(unit) for i, number in of_row.items()} for of_row in read]
            for i, term in enumerate(part.terms):
                weight = self.weight(weights + unit * size + i * self.memory.vector)
                for row, sums in enumerate(totals):
                    total = apart[row].get((strand, i), sums[term.total])
                    total.set(weight.fma(numbers[row][term.product.operand], total.get()))

        units = self.memory.units[part.space or "inputs"]
        whole = units // part.strands
        with loop(self.builder, whole) as index:
            for strand in strands:
                add(index * part.strands + strand, strand)
        if part.strands > 1:
            with loop(self.builder, units - whole * part.strands) as index:
                add(whole * part.strands + index, 0)
        for sums, others in zip(totals, apart, strict=True):
            for (_, i), other in others.items():
                total = sums[part.terms[i].total]
                total.set(total.get() + other.get())

    def operand(self, i: int, row: Int, step: Int) -> Callable[[Int], Lanes]:
        """Reads one unit of what is multiplied, for all lanes."""
        memory, stride = self.memory, Int(self.builder, I64(self.memory.itemsize))
        if i == INPUT:
            start, stride = memory.place("x", row, step, 0), memory.number(0) + memory.strides["x"][1]
        elif self.program.nodes[i].op == "state":
            part = self.program.nodes[i].which
            start = memory.own(memory.state_before(row, step) + memory.part_at[part])
        else:
            start = memory.own(memory.row_scratch(row) + memory.kept_at[i])

        def number(unit: Int) -> Lanes:
            place = Place(start.format, "packed", start.address + unit * stride, stride)
            return place.load(self.of.state, 1).pick([0] * self.of.lanes)

        return number

    def weight(self, address: Int) -> Lanes:
        return self.memory.own(address).load(self.of.state, self.of.lanes)


def register_bytes() -> int:
    """What all vector registers of the processor hold that is compiled for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    if not str(triple).startswith(("x86", "i386", "i686")):
        return 32 * 16
    return 32 * 64 if "+avx512f" in features else 16 * 32 if "+avx" in features else 16 * 16


class _Units:
    """Everything but the sums, for one row and one block of a stage."""

    def __init__(self, tile: _Tile, stage: Stage, step: Int, block: Int, row: Int) -> None:
        self.tile, self.stage, self.step, self.block, self.row = tile, stage, step, block, row
        self.memory, self.program = tile.memory, tile.program
        self.values: dict[int, Lanes] = {}

    def make(self) -> None:
        """Compute what leaves the stage and put it where it belongs."""
        for i in self.stage.made:
            self.value(i)
        for i in self.stage.made:
            if i in self.memory.kept_at:
                address = self.memory.row_scratch(self.row) + self.memory.kept_at[i]
                self.own(address).store(self.value(i))
            for part, node in enumerate(self.program.next):
                if node == i:
                    self.leave(part, self.value(i))
            if self.tile.of.kernel == "cell_backward":
                for position, node in enumerate(self.program.stored):
                    if node == i:
                        self.store("stored", self.memory.stored_first[position], self.value(i))

    def leave(self, part: int, value: Lanes) -> None:
        """A part of the carry after the step."""
        first = self.memory.part_first[part]
        if self.tile.of.kernel == "cell":
            self.store("states", first, value)
        elif "entered" in self.memory.slots:
            self.store("entered", first, value)
            # What comes before a reset has no part in what comes after.
            value = either(self.memory.reset(self.row, self.step), self.tile.nothing, value)
        # Zeros past the last unit: they would differ between walks that began at different steps.
        inside = self.memory.inside(self.stage.space, self.block)
        value = value if inside is None else inside.select(value, self.tile.nothing)
        carry = self.memory.carry(self.row, self.step + 1)
        self.own(carry + self.memory.part_at[part]).store(value)

    def value(self, i: int) -> Lanes:
        if i not in self.values:
            self.values[i] = self.found(i, self.program.nodes[i])
        return self.values[i]

    def found(self, i: int, node: Node) -> Lanes:
        state, lanes = self.tile.of.state, self.tile.of.lanes
        match node.op:
            case "state":
                at = self.memory.state_before(self.row, self.step) + self.memory.part_at[node.which]
                return self.own(at).load(state, lanes)
            case "carry":
                at = self.memory.carry(self.row, self.step) + self.memory.part_at[node.which]
                return self.own(at).load(state, lanes)
            case "given":
                first = self.memory.part_first[node.which]
                return self.memory.load("given", self.row, self.step, first, node.space, self.block)
            case "vector":
                start, size = self.memory.weights_at[self.stage]
                before = sum(len(biases) for biases in self.stage.biases) + self.stage.vectors.index(i)
                return self.tile.weight(start + self.block * size + before * self.memory.vector)
        if self.program.layer_of[i] < self.stage.layer:
            return self.own(self.memory.row_scratch(self.row) + self.memory.kept_at[i]).load(state, lanes)
        if node.op == "sum":
            number = self.stage.sums.index(node.which)
            return self.tile.total(self.stage, self.row, number).load(state, lanes)
        return ARITHMETIC[node.op](node, *[self.value(j) for j in node.arguments])

    def own(self, start: Int) -> Place:
        """The block's place in a space that begins at an address of the tile's own."""
        return self.memory.own(start + self.block * self.memory.vector)

    def store(self, name: str, first: Int, value: Lanes) -> None:
        self.memory.store(name, self.row, self.step, first, self.stage.space, self.block, value)
