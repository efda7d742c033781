"""One step of a cell as text: a line of Triton for each node of its program, in the order of the program.

A node is a tile of ROWS states by the units of its space. A sum begins with its biases and what follows from the input alone, so
that the products of the state are all that a step waits for.
"""

from collections.abc import Sequence
from functools import cached_property

from seqpar.cells.program import INPUT, Product, Program, Sum
from seqpar_triton.limits import LARGEST_SPACE, padded


class StepText:
    """Lines of a kernel. Sizes of spaces and the places of weights are written into them."""

    def __init__(self, of: Program, program: Program, sizes: dict[str, int], dtype: str) -> None:
        """`program`: that of the cell, or its adjoint. `of`: always the cell's."""
        self.of, self.program, self.sizes = of, program, sizes
        self.state, self.wide = f"tl.{dtype}", dtype == "float64"
        self.lines: list[str] = []
        self.depth = 1
        self.rows = "ROWS"
        """The height of a tile."""
        self.ahead: dict[int, int] = {}
        """Sums that are found in memory without the products of the state, and where each begins."""
        self.bare: set[str] = set()
        """Tiles whose padding was made zero in this step."""

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @property
    def uses_input(self) -> bool:
        return any(p.operand == INPUT for s in self.program.sums for p in s.products)

    # --- weights --------------------------------------------------------------------------------------------------------

    @cached_property
    def weight_starts(self) -> dict[str, int]:
        """The first number of each parameter in the row of all."""
        return self.of.starts(self.sizes)

    def weights(self) -> None:
        """Every gate that is used, in a tile of its own, and in another where its transpose is multiplied by."""
        parameters = {p.name: p for p in self.of.parameters}
        products = {_key(p) for s in self.program.sums for p in s.products if not self.known(p)}
        for name, gate, transposed in sorted(products):
            parameter = parameters[name]
            rows, columns = self.sizes[parameter.rows], self.sizes[parameter.columns]
            start = self.weight_starts[name] + gate * columns
            line, lane = parameter.gates * columns, 1
            if transposed:
                rows, columns, line, lane = columns, rows, lane, line
            self.gate(gate_name(name, gate, transposed), start, line, lane, rows, columns, padded(rows))
        sums = [made for which, made in enumerate(self.program.sums) if which not in self.ahead]
        vectors = {(b.name, b.gate) for made in sums for b in made.biases}
        vectors |= {(node.name, node.which) for node in self.program.vectors()}
        for name, gate in sorted(vectors):
            columns = self.sizes[parameters[name].columns]
            self.gate(gate_name(name, gate), self.weight_starts[name] + gate * columns, 0, 1, 1, columns, 1)

    def gate(
        self, name: str, start: int, line: int, lane: int, rows: int, columns: int, padded_rows: int
    ) -> None:
        self.line(
            f"{name} = gate_of(weights_at, weights_unit, {start}, {line}, {lane}, {rows}, {columns}, {padded_rows}, "
            f"{padded(columns)}, {self.state})"
        )

    # --- nodes ----------------------------------------------------------------------------------------------------------

    def nodes(self) -> None:
        """All of a step: node i becomes the tile v{i}."""
        self.bare.clear()
        for i in range(len(self.program.nodes)):
            self.line(f"v{i} = {self.value(i)}")

    def value(self, i: int) -> str:
        """What computes a node."""
        node = self.program.nodes[i]
        a, b = (*(f"v{j}" for j in node.arguments), "", "")[:2]
        match node.op:
            case "state" | "carry" | "given":
                return f"{node.op}_{node.which}"
            case "vector":
                return gate_name(node.name, node.which)
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

    def known(self, product: Product) -> bool:
        """Is it of the input, and found in memory?"""
        return bool(self.ahead) and product.operand == INPUT

    def sum(self, which: int) -> str:
        """Biases first, then products of the input, then those of what the step computes."""
        made = self.program.sums[which]
        if which in self.ahead:
            text = f"ahead{which}"
            for product in made.products:
                if not self.known(product):
                    text = f"times({text}, {self.operand(product)}, {gate_name(*_key(product))})"
            return text
        text = self.begun(made)
        for product in sorted(made.products, key=lambda p: p.operand != INPUT):
            text = f"times({text}, {self.operand(product)}, {gate_name(*_key(product))})"
        return text

    def begun(self, made: Sum) -> str:
        """A sum's biases, or zeros, as a tile."""
        shape = f"({self.rows}, {padded(self.sizes[made.space])})"
        total = " + ".join(gate_name(bias.name, bias.gate) for bias in made.biases)
        return f"tl.broadcast_to({total}, {shape})" if total else f"tl.zeros({shape}, {self.state})"

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
            self.line(f"{name} = tl.where({space}_units < {self.sizes[space]}, {self.tile(i)}, 0.0)")
        return name

    def tile(self, i: int) -> str:
        """A node as a whole tile: what is made of vectors alone has one row."""
        node = self.program.nodes[i]
        return f"tl.broadcast_to(v{i}, (ROWS, {padded(self.sizes[node.space])}))"


def sums_of_input(of: Program) -> tuple[int, ...]:
    """The sums of a cell in which there is a product of the input."""
    return tuple(i for i, made in enumerate(of.sums) if any(p.operand == INPUT for p in made.products))


def starts_ahead(of: Program, sizes: dict[str, int]) -> tuple[dict[int, int], int]:
    """Where each of these begins among those of one step, and the numbers of all, where they are computed ahead of the walk.

    That is for inputs too wide to keep their weights beside those of the state.
    """
    if sizes["inputs"] <= LARGEST_SPACE:
        return {}, 0
    which = sums_of_input(of)
    widths = [sizes[of.sums[i].space] for i in which]
    return dict(zip(which, starts_of(widths), strict=True)), sum(widths)


def starts_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Where each of several things begins that lie one after the other."""
    return tuple(sum(sizes[:i]) for i in range(len(sizes)))


def _key(product: Product) -> tuple[str, int, bool]:
    return product.name, product.gate, product.transposed


def gate_name(name: str, gate: int, transposed: bool = False) -> str:
    """The name of a tile of weights."""
    return f"{name}_gate{gate}" + ("_turned" if transposed else "")


def _literal(number: float) -> str:
    """A number as Triton reads it, infinities and NaN too."""
    return repr(number) if number - number == 0 else f'float("{number}")'
