"""What a cell computes in one step, as data: arithmetic on units, and sums of products between them.

`language` writes programs down from a cell's Python function, `adjoint` turns one into its reverse. Everything that runs a cell
reads this: `evaluation` on arrays, the host's and Triton's kernels on registers.

    unit      one number of a state or a gate; a *space* ("hidden", "outputs") is a row of them
    node      one value per unit of its space, made from other nodes of that space
    sum       one value per unit: bias + rows of weights times the input or times nodes, of whatever space

Sums and nodes come in *layers*: the sums of a layer need the input, what was there before the step, and nodes of earlier
layers, and its nodes need those sums. A GRU is one layer; where a product is taken of something just computed, as U (r * h),
another begins.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import NamedTuple

INPUT = -1
"""Stands for x[t] where a product says what it multiplies."""


class Node(NamedTuple):
    """One value per unit. Its `op` says how it is made:

    state                           a part of the state before the step
    carry, given                    of a reverse step: the gradients that come from later steps and from the result
    vector                          a gate of a parameter that has a number for each unit
    sum                             one of the program's sums
    negative, sigmoid, tanh, relu   of one node, as is step, 1 above zero and else 0
    scale, shift                    one node times a number, or plus a number
    add, subtract, multiply         of two nodes
    """

    op: str
    space: str
    arguments: tuple[int, ...] = ()
    number: float = 0.0
    """Of scale and shift."""
    which: int = 0
    """Of the part of a state, of a sum, or of the gate of a vector."""
    name: str = ""
    """Of a vector's parameter."""


class Product(NamedTuple):
    """The gate of a matrix, (rows, columns) of two spaces, times the input or a node: v @ M, or v @ M.T if transposed."""

    name: str
    gate: int
    operand: int
    """A node, or INPUT."""
    transposed: bool = False


class Bias(NamedTuple):
    """The gate of a vector."""

    name: str
    gate: int


class Sum(NamedTuple):
    """Biases and products added up; of none of them zero, for the units of a part of the state."""

    space: str
    products: tuple[Product, ...]
    biases: tuple[Bias, ...] = ()


class Parameter(NamedTuple):
    """A matrix (rows, gates * columns), or a vector (gates * columns,) where rows is empty."""

    name: str
    rows: str
    columns: str
    gates: int = 1
    optional: bool = False
    """Zeros where it is left out."""

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        columns = self.gates * sizes[self.columns]
        return (sizes[self.rows], columns) if self.rows else (columns,)


class _Fields(NamedTuple):
    parameters: tuple[Parameter, ...]
    parts: tuple[str, ...]
    nodes: tuple[Node, ...]
    sums: tuple[Sum, ...]
    next: tuple[int, ...]
    stored: tuple[int, ...]


class Program(_Fields):
    """One step. `parts`: the space of each part of the state, which lie one after the other in it; `next`: the node of each part
    after the step; `stored`: the nodes that are written down at every step, one after the other."""

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and tuple(self) == tuple(other)

    @cached_property
    def layer_of(self) -> tuple[int, ...]:
        """The layer in which each node is known."""
        layers: list[int] = []
        for node in self.nodes:
            if node.op == "sum":
                layers.append(self.layer_of_sum(node.which, layers))
            else:
                layers.append(max((layers[i] for i in node.arguments), default=0))
        return tuple(layers)

    def layer_of_sum(self, index: int, layers: list[int] | tuple[int, ...]) -> int:
        """Of the products of a sum the last to be known counts, one layer on if it multiplies something just computed."""
        found = 0
        for product in self.sums[index].products:
            if product.operand != INPUT and self.nodes[product.operand].op not in ("state", "given", "carry"):
                found = max(found, layers[product.operand] + 1)
        return found

    @cached_property
    def layers(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """Per layer its sums and its nodes (sums among them), in an order in which they can be computed."""
        count = max(self.layer_of, default=0) + 1
        sums: list[list[int]] = [[] for _ in range(count)]
        nodes: list[list[int]] = [[] for _ in range(count)]
        for i, node in enumerate(self.nodes):
            nodes[self.layer_of[i]].append(i)
            if node.op == "sum" and node.which not in sums[self.layer_of[i]]:
                sums[self.layer_of[i]].append(node.which)
        return tuple((tuple(s), tuple(n)) for s, n in zip(sums, nodes, strict=True))

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Nodes needed beyond the units and the layer in which they are made: multiplied by matrices, or used in later layers.

        Leaves that can be read again (states, gradients, vectors) are not among them.
        """
        found = {p.operand for s in self.sums for p in s.products if p.operand != INPUT}
        for i, node in enumerate(self.nodes):
            found |= {j for j in node.arguments if self.layer_of[j] < self.layer_of[i]}
        return tuple(
            i for i in sorted(found) if self.nodes[i].op not in ("state", "carry", "given", "vector")
        )

    @cached_property
    def text(self) -> str:
        """The whole program as text, which `read` understands."""
        return json.dumps(list(self), separators=(",", ":"))

    def vectors(self) -> tuple[Node, ...]:
        """Vectors that nodes use, other than as biases."""
        return tuple(node for node in self.nodes if node.op == "vector")

    def width(self, nodes: tuple[int, ...], sizes: Mapping[str, int]) -> int:
        """Numbers in these nodes together."""
        return sum(sizes[self.nodes[i].space] for i in nodes)

    def state_size(self, sizes: Mapping[str, int]) -> int:
        """Numbers in a state."""
        return sum(sizes[space] for space in self.parts)

    def part_starts(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Where each part begins in a state."""
        return _starts([sizes[space] for space in self.parts])

    def parameter(self, name: str) -> Parameter:
        """The parameter of this name."""
        return next(p for p in self.parameters if p.name == name)

    def starts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Where each parameter begins in the row of all: one after the other, row-major."""
        counts = [math.prod(p.shape(sizes)) for p in self.parameters]
        return dict(zip([p.name for p in self.parameters], _starts(counts), strict=True))


def _starts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Where things of these sizes begin that lie one after the other."""
    return tuple([sum(sizes[:i]) for i in range(len(sizes))])


@cache
def read(text: str) -> Program:
    """The program that `Program.text` wrote."""
    parameters, parts, nodes, sums, after, stored = json.loads(text)
    return Program(
        tuple(Parameter(*p) for p in parameters),
        tuple(parts),
        tuple(Node(op, space, tuple(arguments), *rest) for op, space, arguments, *rest in nodes),
        tuple(
            Sum(space, tuple(Product(*p) for p in products), tuple(Bias(*b) for b in biases))
            for space, products, biases in sums
        ),
        tuple(after),
        tuple(stored),
    )
