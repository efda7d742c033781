"""From a cell's program to the text of its kernel: one line of Triton for each node, in the order of the program.

Every program of the grid has a tile of rows: sequences that share their weights, at most ROWS. It loads the weights once, and
walks time with the states of its rows in registers. A matrix product is `tl.dot` in plain float32 (or float64); what follows from
the input alone is added up first, so that the products of the state are all that a step waits for.

Sizes of spaces and the places of weights are written into the text. Strides and the numbers of steps and rows are parameters.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from seqpar.cells.adjoint import adjoint
from seqpar.cells.operation import CellWalk
from seqpar.cells.program import INPUT, Product, Program
from seqpar_triton.limits import AXES, padded


class Slot(NamedTuple):
    """An operand or result, with one stride for each thing it has."""

    name: str
    timed: bool = True
    units: bool = True

    @property
    def strides(self) -> tuple[str, ...]:
        """Parameters of the kernel, in order."""
        axes = [f"{self.name}_{axis}" for axis in range(AXES)]
        return (
            *([f"{self.name}_step"] if self.timed else []),
            *axes,
            *([f"{self.name}_unit"] if self.units else []),
        )


SIZES = ("steps", "rows", "n1", "n2")
CONSTANTS = ("ROWS", "STAGES", "DIMS")


def slots(backward: bool, resets: bool) -> tuple[Slot, ...]:
    """What the kernel reads and writes, resets among it even where there are none."""
    given = (Slot("x"), Slot("h0", timed=False), Slot("resets", units=False), Slot("weights", timed=False))
    if backward:
        return (*given, Slot("states"), Slot("g"), Slot("stored"), Slot("entered", timed=resets))
    return (*given, Slot("states"), Slot("sweeps", timed=False, units=False))


def source_of(walk: CellWalk, dtype: str, backward: bool, resets: bool) -> str:
    """The kernel of a cell."""
    return _Text(walk, dtype, backward, resets).text()


def name_of(backward: bool) -> str:
    return "cell_backward" if backward else "cell_forward"


class _Text:
    """A kernel while it is written."""

    def __init__(self, walk: CellWalk, dtype: str, backward: bool, resets: bool) -> None:
        self.of, self.sizes = walk.cell, walk.sizes
        self.program: Program = adjoint(self.of) if backward else self.of
        self.backward, self.resets = backward, resets
        self.state, self.wide = f"tl.{dtype}", dtype == "float64"
        self.lines: list[str] = []
        self.bare: set[str] = set()
        """Tiles whose padding was made zero in this step."""

    def line(self, text: str, depth: int = 1) -> None:
        self.lines.append("    " * depth + text)

    def text(self) -> str:
        given = slots(self.backward, self.resets)
        parameters = [slot.name for slot in given]
        parameters += [*SIZES, *(stride for slot in given for stride in slot.strides)]
        parameters += [f"{name}: tl.constexpr" for name in CONSTANTS]
        self.line(f"def {name_of(self.backward)}({', '.join(parameters)}):", 0)
        self.places(given)
        self.weights()
        self.walk()
        return "\n".join(self.lines) + "\n"

    # --- before the walk ------------------------------------------------------------------------------------------------

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first number of each part in a state."""
        return _starts([self.sizes[space] for space in self.of.parts])

    def places(self, given: Sequence[Slot]) -> None:
        self.line("row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)")
        self.line("there = (row < rows)[:, None]")
        # Rows of one model are neighbours in this order of all sequences.
        self.line("model = tl.program_id(1).to(tl.int64) * rows")
        self.line("index = model + row")
        for slot in given:
            if slot.name == "resets" and not self.resets:
                continue
            what = "model" if slot.name == "weights" else "index"
            axes = ", ".join(f"{slot.name}_{axis}" for axis in range(AXES))
            place = f"{slot.name} + offsets({what}, n1, n2, {axes}, DIMS, 1)"
            self.line(f"{slot.name}_at = {place}" + ("" if slot.name == "weights" else "[:, None]"))
        for space, size in self.sizes.items():
            self.line(f"{space}_units = tl.arange(0, {padded(size)})[None, :]")
            self.line(f"in_{space} = there & ({space}_units < {size})")
        for part in range(len(self.of.parts)):
            self.line(f"start_{part} = {self.loaded('h0', self.of.parts[part], self.starts[part])}")

    def at(self, slot: str, space: str, start: int) -> str:
        """Addresses of a tile of a slot."""
        shift = f"({start} + {space}_units)" if start else f"{space}_units"
        return f"{slot}_at + {shift}.to(tl.int64) * {slot}_unit"

    def loaded(self, slot: str, space: str, start: int, step: str = "", mask: str = "") -> str:
        """A tile, as text."""
        when = f" + ({step}).to(tl.int64) * {slot}_step" if step else ""
        inside = f"in_{space} & {mask}" if mask else f"in_{space}"
        return f"tl.load({self.at(slot, space, start)}{when}, mask={inside}, other=0.0).to({self.state})"

    def kept(self, slot: str, space: str, start: int, value: str, step: str, depth: int) -> None:
        """Store a tile."""
        when = f" + ({step}).to(tl.int64) * {slot}_step" if step else ""
        self.line(f"tl.store({self.at(slot, space, start)}{when}, {value}, mask=in_{space})", depth)

    def weights(self) -> None:
        """Every gate that is used, in a tile of its own."""
        parameters = {p.name: p for p in self.of.parameters}
        starts = dict(
            zip(parameters, _starts([_count(p.shape(self.sizes)) for p in parameters.values()]), strict=True)
        )
        for p in sorted({(p.name, p.gate, p.transposed) for s in self.program.sums for p in s.products}):
            name, gate, transposed = p
            parameter = parameters[name]
            rows, columns = self.sizes[parameter.rows], self.sizes[parameter.columns]
            line, lane = parameter.gates * columns, 1
            if transposed:
                rows, columns, line, lane = columns, rows, lane, line
            start = starts[name] + gate * self.sizes[parameter.columns]
            self.line(
                f"{_gate(*p)} = gate_of(weights_at, weights_unit, {start}, {line}, {lane}, {rows}, {columns}, "
                f"{padded(rows)}, {padded(columns)}, {self.state})"
            )
        vectors = {(b.name, b.gate) for s in self.program.sums for b in s.biases}
        vectors |= {(node.name, node.which) for node in self.program.vectors()}
        for name, gate in sorted(vectors):
            columns = self.sizes[parameters[name].columns]
            self.line(
                f"{_gate(name, gate)} = gate_of(weights_at, weights_unit, {starts[name] + gate * columns}, 0, 1, 1, "
                f"{columns}, 1, {padded(columns)}, {self.state})"
            )

    # --- a step ---------------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        parts = range(len(self.of.parts))
        for part, space in enumerate(self.of.parts):
            nothing = f"tl.zeros((ROWS, {padded(self.sizes[space])}), {self.state})"
            self.line(f"carry_{part} = {nothing if self.backward else f'start_{part}'}")
        self.line("for step in tl.range(0, steps, num_stages=STAGES):")
        self.line("at = steps - 1 - step" if self.backward else "at = step", 2)
        if self.uses_input:
            self.line(f"x_tile = {self.loaded('x', 'inputs', 0, 'at')}", 2)
        if self.resets:
            self.line(
                "drop = tl.load(resets_at + at.to(tl.int64) * resets_step, mask=there, other=0) != 0", 2
            )
        for part in parts:
            self.enter(part)
        for i in range(len(self.program.nodes)):
            self.line(f"v{i} = {self.value(i)}", 2)
        for part, space in enumerate(self.of.parts):
            self.line(f"next_{part} = {self.masked(self.program.next[part], space)}", 2)
        if self.backward:
            self.leave_backward()
        else:
            for part, space in enumerate(self.of.parts):
                self.kept("states", space, self.starts[part], f"next_{part}", "at", 2)
        for part in parts:
            self.line(f"carry_{part} = next_{part}", 2)
        if not self.backward:
            self.line("tl.store(sweeps_at, 1, mask=there)")
        elif not self.resets:
            for part, space in enumerate(self.of.parts):
                self.kept("entered", space, self.starts[part], f"carry_{part}", "", 1)

    @property
    def uses_input(self) -> bool:
        return any(p.operand == INPUT for s in self.program.sums for p in s.products)

    def enter(self, part: int) -> None:
        """The state before the step, and on the way back the two gradients of the state after it."""
        space, start = self.of.parts[part], self.starts[part]
        if self.backward:
            self.line(f"state_{part} = {self.loaded('states', space, start, 'at - 1', '(at > 0)')}", 2)
            self.line(f"state_{part} = tl.where(at > 0, state_{part}, start_{part})", 2)
            self.line(f"given_{part} = {self.loaded('g', space, start, 'at')}", 2)
        else:
            self.line(f"state_{part} = carry_{part}", 2)
        if self.resets:
            self.line(f"state_{part} = tl.where(drop, start_{part}, state_{part})", 2)

    def leave_backward(self) -> None:
        starts = _starts([self.sizes[self.program.nodes[i].space] for i in self.program.stored])
        for i, start in zip(self.program.stored, starts, strict=True):
            space = self.program.nodes[i].space
            self.kept("stored", space, start, self.tile(i), "at", 2)
        if self.resets:
            for part, space in enumerate(self.of.parts):
                self.kept("entered", space, self.starts[part], f"next_{part}", "at", 2)
                # Nothing passes a reset, whatever it is.
                self.line(f"next_{part} = tl.where(drop, 0.0, next_{part})", 2)

    def value(self, i: int) -> str:
        """What computes a node."""
        node = self.program.nodes[i]
        a, b = (*(f"v{j}" for j in node.arguments), "", "")[:2]
        match node.op:
            case "state" | "carry" | "given":
                return f"{node.op}_{node.which}"
            case "vector":
                return _gate(node.name, node.which)
            case "sum":
                return self.sum(node.which)
            case "add":
                return f"{a} + {b}"
            case "subtract":
                return f"{a} - {b}"
            case "multiply":
                return f"{a} * {b}"
            case "negative":
                return f"-{a}"
            case "scale":
                return f"{a} * {_literal(node.number)}"
            case "shift":
                return f"{a} + {_literal(node.number)}"
            case "sigmoid" | "tanh":
                return f"{node.op}({a}, {self.wide})"
            case "relu":
                # By selection: NaN stays NaN.
                return f"tl.where({a} < 0.0, 0.0, {a})"
            case "step":
                return f"({a} > 0.0).to({self.state})"
            case op:
                raise NotImplementedError(f"{op} in a cell's kernel")

    def sum(self, which: int) -> str:
        """Biases first, then products of the input, then those of what the step computes."""
        made = self.program.sums[which]
        shape = f"(ROWS, {padded(self.sizes[made.space])})"
        total = " + ".join(_gate(bias.name, bias.gate) for bias in made.biases)
        text = f"tl.broadcast_to({total}, {shape})" if total else f"tl.zeros({shape}, {self.state})"
        for product in sorted(made.products, key=lambda p: p.operand != INPUT):
            text = f"times({text}, {self.operand(product)}, {_gate(*_key(product))})"
        return text

    def operand(self, product: Product) -> str:
        if product.operand == INPUT:
            return "x_tile"
        node = self.program.nodes[product.operand]
        # States and gradients are loaded or carried with zeros in their padding.
        if node.op in ("state", "carry", "given"):
            return f"v{product.operand}"
        return self.masked(product.operand, node.space)

    def masked(self, i: int, space: str) -> str:
        """A node with zeros in its padding."""
        if self.sizes[space] == padded(self.sizes[space]):
            return self.tile(i)
        name = f"bare{i}"
        if name not in self.bare:
            self.bare.add(name)
            self.line(f"{name} = tl.where({space}_units < {self.sizes[space]}, {self.tile(i)}, 0.0)", 2)
        return name

    def tile(self, i: int) -> str:
        """A node as a whole tile: what is made of vectors alone has one row."""
        node = self.program.nodes[i]
        return f"tl.broadcast_to(v{i}, (ROWS, {padded(self.sizes[node.space])}))"


def _starts(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(sizes[:i]) for i in range(len(sizes)))


def _count(shape: Sequence[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _key(product: Product) -> tuple[str, int, bool]:
    return product.name, product.gate, product.transposed


def _gate(name: str, gate: int, transposed: bool = False) -> str:
    """The name of a tile of weights."""
    return f"{name}_gate{gate}" + ("_turned" if transposed else "")


def _literal(number: float) -> str:
    """A number as Triton reads it, infinities and NaN too."""
    return repr(number) if number - number == 0 else f'float("{number}")'
