"""The products of a cell's inputs for all steps at once, ahead of the walk, for inputs of many units.

A program of the grid has some steps of one sequence, and goes through the inputs piece by piece. What it writes are the sums of
the cell's program without the products of the state, biases included.
"""

from seqpar.cells.program import INPUT
from seqpar.cells.walk import CellWalk
from seqpar_triton.cell_step import StepText, gate_name, starts_ahead
from seqpar_triton.limits import AXES, LEAST_MULTIPLIED, padded

NAME = "cell_inputs"
INTEGERS = (
    *("steps", "rows", "n1", "n2"),
    *("x_step", *(f"x_{axis}" for axis in range(AXES)), "x_unit"),
    *(*(f"weights_{axis}" for axis in range(AXES)), "weights_unit"),
)


def inputs_source_of(walk: CellWalk, dtype: str) -> str:
    """The text of the kernel."""
    return _InputsText(walk.cell, walk.cell, walk.sizes, dtype).text()


class _InputsText(StepText):
    def text(self) -> str:
        starts, width = starts_ahead(self.of, self.sizes)
        inputs = self.sizes["inputs"]
        self.rows = "STEPS"
        constants = ("STEPS: tl.constexpr", "DIMS: tl.constexpr")
        self.depth = 0
        self.line(f"def {NAME}({', '.join(('x', 'weights', 'products', *INTEGERS, *constants))}):")
        self.depth = 1
        self.line("blocks = tl.cdiv(steps, STEPS)")
        self.line("at = ((tl.program_id(0) % blocks) * STEPS + tl.arange(0, STEPS))[:, None]")
        self.line("model = tl.program_id(1).to(tl.int64) * rows")
        self.line("index = model + tl.program_id(0) // blocks")
        for slot, what in (("x", "index"), ("weights", "model")):
            axes = ", ".join(f"{slot}_{axis}" for axis in range(AXES))
            self.line(f"{slot}_at = {slot} + offsets({what}, n1, n2, {axes}, DIMS, 1)")
        self.biases(starts)
        for which in starts:
            self.line(f"total{which} = {self.begun(self.of.sums[which])}")
        self.line(f"for first in range(0, {inputs}, {LEAST_MULTIPLIED}):")
        self.depth = 2
        self.line(f"units = first + tl.arange(0, {LEAST_MULTIPLIED})[None, :]")
        place = "x_at + at.to(tl.int64) * x_step + units.to(tl.int64) * x_unit"
        inside = f"(at < steps) & (units < {inputs})"
        self.line(f"x_tile = tl.load({place}, mask={inside}, other=0.0).to({self.state})")
        for which in starts:
            for product in self.of.sums[which].products:
                if product.operand == INPUT:
                    lines = self.lines_of(product.name, product.gate)
                    self.line(f"total{which} = times(total{which}, x_tile, {lines})")
        self.depth = 1
        for which, start in starts.items():
            space = self.of.sums[which].space
            size = self.sizes[space]
            self.line(f"units = tl.arange(0, {padded(size)})[None, :]")
            place = f"products + (index * steps + at) * {width} + ({start} + units)"
            self.line(f"tl.store({place}, total{which}, mask=(at < steps) & (units < {size}))")
        return "\n".join(self.lines) + "\n"

    def biases(self, starts: dict[int, int]) -> None:
        columns = {p.name: self.sizes[p.columns] for p in self.of.parameters}
        for name, gate in sorted({(b.name, b.gate) for i in starts for b in self.of.sums[i].biases}):
            width = columns[name]
            self.gate(gate_name(name, gate), self.weight_starts[name] + gate * width, 0, 1, 1, width, 1)

    def lines_of(self, name: str, gate: int) -> str:
        parameter = next(p for p in self.of.parameters if p.name == name)
        columns = self.sizes[parameter.columns]
        start = self.weight_starts[name] + gate * columns
        return (
            f"lines_of_gate(weights_at, weights_unit, first, {start}, {parameter.gates * columns}, {self.sizes['inputs']}, "
            f"{columns}, {LEAST_MULTIPLIED}, {padded(columns)}, {self.state})"
        )
