"""Which numbers of a state a step lets act on which: the pattern of its Jacobian, read from the program."""

from __future__ import annotations

from functools import cache
from typing import Literal

from seqpar.cells.program import INPUT, Program

Structure = Literal["dense", "diagonal"] | tuple[str, int]


@cache
def structure(program: Program) -> Structure:
    """ "dense", "diagonal", or ("block", k) where numbers act on those of the same unit in k parts.

    That is what `seqpar.solve_recurrence` takes as `jacobian`. A product with a matrix of anything that depends on the state
    makes it dense; arithmetic stays within a unit.
    """
    reach: list[frozenset[int]] = []
    """Of each node the parts of the state that it depends on."""
    for node in program.nodes:
        if node.op == "state":
            reach.append(frozenset([node.which]))
        elif node.op == "sum":
            operands = [p.operand for p in program.sums[node.which].products if p.operand != INPUT]
            if any(reach[i] for i in operands):
                return "dense"
            reach.append(frozenset())
        else:
            reach.append(frozenset().union(*(reach[i] for i in node.arguments)))
    if all(reach[node] <= {part} for part, node in enumerate(program.next)):
        return "diagonal"
    return ("block", len(program.parts)) if len(set(program.parts)) == 1 else "dense"
