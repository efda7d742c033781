"""The reverse of a cell's program: the gradients that leave a step, from those that come to it.

Its leaves are the state before the step (from memory), the gradient of the state after it, in two portions, `carry` (what later
steps made of it) and `given` (what the result got), and the cell's own sums, which are computed again. `next` is the gradient of
the state before the step. `stored` is, first, the gradient of each sum, from which those of matrices and biases follow by one
product over all steps; then what matrices multiply that is neither input nor state; then what vectors get, step by step.
"""

from __future__ import annotations

from functools import cache

from seqpar.cells.program import INPUT, Node, Product, Program, Sum


@cache
def adjoint(program: Program) -> Program:
    """The program of one step backward in time."""
    return _Reverse(program).program()


class _Reverse:
    def __init__(self, of: Program) -> None:
        self.of = of
        self.nodes = list(of.nodes)
        self.sums = list(of.sums)
        self.gradient: dict[int, int] = {}
        self.deltas: dict[int, int] = {}
        """Of each sum the node that is its gradient."""

    def make(
        self, op: str, *arguments: int, number: float = 0.0, which: int = 0, space: str | None = None
    ) -> int:
        node = Node(op, space or self.nodes[arguments[0]].space, arguments, number, which)
        # Sums of products may be written later under an equal number, so only arithmetic is shared.
        if node in self.nodes:
            return self.nodes.index(node)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def add(self, node: int, term: int) -> None:
        before = self.gradient.get(node)
        self.gradient[node] = term if before is None else self.make("add", before, term)

    def program(self) -> Program:
        for part, node in enumerate(self.of.next):
            space = self.of.parts[part]
            carry, given = (self.make(op, which=part, space=space) for op in ("carry", "given"))
            self.add(node, self.make("add", carry, given))
        for i in reversed(range(len(self.of.nodes))):
            self.pull(i)
            if i in self.gradient:
                self.rule(i, self.gradient[i])
        for part, space in enumerate(self.of.parts):
            if part not in self.gradient:
                # Nothing depends on it. A sum of no terms: zero times the state would be NaN where that is infinite.
                self.sums.append(Sum(space, ()))
                self.gradient[part] = self.make("sum", which=len(self.sums) - 1, space=space)
        states = tuple(self.gradient[part] for part in range(len(self.of.parts)))
        sums = [self.deltas[i] for i in range(len(self.of.sums))]
        operands = list(operands_stored(self.of))
        vectors = [self.gradient[i] for i in vectors_used(self.of)]
        return Program(
            self.of.parameters,
            self.of.parts,
            tuple(self.nodes),
            tuple(self.sums),
            states,
            (*sums, *operands, *vectors),
        )

    def pull(self, i: int) -> None:
        """What reaches a node through the matrices that multiply it."""
        products = tuple(
            Product(p.name, p.gate, self.deltas[s], transposed=True)
            for s, made in enumerate(self.of.sums)
            if s in self.deltas
            for p in made.products
            if p.operand == i
        )
        if products:
            space = self.of.nodes[i].space
            self.sums.append(Sum(space, products))
            self.add(i, self.make("sum", which=len(self.sums) - 1, space=space))

    def rule(self, i: int, g: int) -> None:
        node = self.of.nodes[i]
        match node.op:
            case "sum":
                self.deltas[node.which] = g
            case "add":
                self.add(node.arguments[0], g)
                self.add(node.arguments[1], g)
            case "subtract":
                self.add(node.arguments[0], g)
                self.add(node.arguments[1], self.make("negative", g))
            case "multiply":
                x, y = node.arguments
                self.add(x, self.make("multiply", g, y))
                self.add(y, self.make("multiply", g, x))
            case "negative":
                self.add(node.arguments[0], self.make("negative", g))
            case "scale":
                self.add(node.arguments[0], self.make("scale", g, number=node.number))
            case "shift":
                self.add(node.arguments[0], g)
            case "sigmoid":
                rest = self.make("shift", self.make("negative", i), number=1.0)
                self.add(node.arguments[0], self.make("multiply", g, self.make("multiply", i, rest)))
            case "tanh":
                rest = self.make("shift", self.make("negative", self.make("multiply", i, i)), number=1.0)
                self.add(node.arguments[0], self.make("multiply", g, rest))
            case "relu":
                self.add(node.arguments[0], self.make("multiply", g, self.make("step", node.arguments[0])))
            case "step" | "state" | "vector":
                pass
            case op:
                raise NotImplementedError(f"the derivative of {op}")


def operands_stored(program: Program) -> tuple[int, ...]:
    """Nodes that matrices multiply and that are neither input nor state."""
    found = {p.operand for made in program.sums for p in made.products if p.operand != INPUT}
    return tuple(i for i in sorted(found) if program.nodes[i].op != "state")


def vectors_used(program: Program) -> tuple[int, ...]:
    """Nodes that are vectors, other than biases."""
    return tuple(i for i, node in enumerate(program.nodes) if node.op == "vector")
