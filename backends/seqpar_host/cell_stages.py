"""In which order a tile does a program: stage after stage, each the units of one space in one layer, block by block.

A block starts its sums from their biases and adds products in loops over the units of what is multiplied, one loop for all that
have these units. The order, and so every bit, is the program's alone: neither rows nor blocks beside a block change it.
"""

from functools import cache
from typing import NamedTuple

from seqpar.cells.program import INPUT, Bias, Product, Program
from seqpar_host.cell_job import kept

ABREAST = 4
"""Sums that a row of a block adds up at once, at least: multiply-add has a latency of four cycles. A tanh network of 32 units
takes 60 ns a step, with one sum 73, with eight 61."""


class Term(NamedTuple):
    """A product of a loop, and the sum that it is added to: `total`, or one more of its own if `fresh`."""

    total: int
    product: Product
    fresh: bool


class Loop(NamedTuple):
    """Products whose operands have the same units."""

    space: str
    """Of the operands; "" stands for the input."""
    terms: tuple[Term, ...]

    @property
    def strands(self) -> int:
        """In how many sums each term is added up: one for every so many units."""
        return max(1, ABREAST // len(self.terms))


class Stage(NamedTuple):
    """Sums and nodes of one space in one layer."""

    layer: int
    space: str
    sums: tuple[int, ...]
    biases: tuple[tuple[Bias, ...], ...]
    """Of each sum."""
    vectors: tuple[int, ...]
    """Nodes that are vectors, and used here."""
    loops: tuple[Loop, ...]
    made: tuple[int, ...]
    """Nodes that leave the stage: the next carry, what is stored or kept."""


@cache
def stages(program: Program) -> tuple[Stage, ...]:
    """All stages, in an order in which they can be done."""
    needed, found = _needed(program), []
    leaving = {*program.next, *program.stored, *(i for i in kept(program) if i in needed)}
    for layer, (sums, nodes) in enumerate(program.layers):
        spaces = dict.fromkeys(program.nodes[i].space for i in nodes if i in needed)
        for space in spaces:
            here = [i for i in nodes if program.nodes[i].space == space and i in needed]
            used = [program.nodes[i].which for i in here if program.nodes[i].op == "sum"]
            own = tuple(s for s in sums if s in used)
            made = tuple(i for i in here if i in leaving)
            found.append(
                Stage(
                    layer,
                    space,
                    own,
                    tuple(program.sums[s].biases for s in own),
                    _vectors(program, layer, made),
                    _loops(program, own),
                    made,
                )
            )
    return tuple(stage for stage in found if stage.made)


def _needed(program: Program) -> set[int]:
    """Nodes on which anything depends that leaves the step."""
    found: set[int] = set()
    open_ = [*program.next, *program.stored]
    while open_:
        i = open_.pop()
        if i in found:
            continue
        found.add(i)
        node = program.nodes[i]
        open_ += node.arguments
        if node.op == "sum":
            open_ += [p.operand for p in program.sums[node.which].products if p.operand != INPUT]
    return found


def _vectors(program: Program, layer: int, made: tuple[int, ...]) -> tuple[int, ...]:
    """Vectors that the computation of these nodes reads in this layer."""
    found: list[int] = []
    seen: set[int] = set()

    def visit(i: int) -> None:
        if i in seen:
            return
        seen.add(i)
        if program.nodes[i].op == "vector":
            found.append(i)
        elif program.layer_of[i] == layer:
            for j in program.nodes[i].arguments:
                visit(j)

    for i in made:
        visit(i)
    return tuple(found)


def _loops(program: Program, sums: tuple[int, ...]) -> tuple[Loop, ...]:
    terms: dict[str, list[Term]] = {}
    for total, s in enumerate(sums):
        for product in program.sums[s].products:
            space = "" if product.operand == INPUT else program.nodes[product.operand].space
            loop = terms.setdefault(space, [])
            loop.append(Term(total, product, any(term.total == total for term in loop)))
    return tuple(Loop(space, tuple(found)) for space, found in terms.items())
