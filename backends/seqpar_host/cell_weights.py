"""Weights in the order in which a tile reads them, so that each vector of them comes from the next line of memory.

Per stage, per block of `lanes` units: biases, vectors, then loop by loop, unit by unit of what is multiplied, a vector for each
term; zeros past the last unit. `layout` says so in words, `pack` does it, in compiled code.

Words of a layout: how many copies, bytes of a number, then per copy: of what is read its first number, the stride per unit
multiplied and per unit made, and how many of both; lanes; of what is written its first number, the stride per block of
`lanes` units made and per unit multiplied.
"""

from collections.abc import Mapping
from typing import Any

from llvmlite import ir

from seqpar.cells.program import Program
from seqpar_host.cell_job import ITEMSIZE, walked
from seqpar_host.cell_stages import Stage, stages
from seqpar_host.launch import peek
from seqpar_host.memory import clear_bytes, copy_numbers, quotient
from seqpar_host.routines import routine

COPY_WORDS = 9
I32, I64 = ir.IntType(32), ir.IntType(64)


def layout(
    kernel: str, program: Program, sizes: Mapping[str, int], lanes: int, state: str
) -> tuple[int, list[int]]:
    """Bytes that the packed weights of a cell take for its walk forward or backward, and the words that `pack` reads."""
    walks, copies, first = walked(kernel, program.text), list[list[int]](), 0
    for stage in stages(walks):
        units, block, at = sizes[stage.space], lanes * vectors(stage, sizes), first
        biases = [bias for biases in stage.biases for bias in biases]
        nodes = [walks.nodes[i] for i in stage.vectors]
        rows = [(bias.name, bias.gate) for bias in biases] + [(node.name, node.which) for node in nodes]
        for name, gate in rows:
            read = _first(program, name, gate, sizes)
            copies.append([read, 0, 1, 1, units, lanes, at, block, 0])
            at += lanes
        for loop in stage.loops:
            multiplied, step = sizes[loop.space or "inputs"], len(loop.terms) * lanes
            for index, term in enumerate(loop.terms):
                product = term.product
                read = _first(program, product.name, product.gate, sizes)
                parameter = program.parameter(product.name)
                strides = [parameter.gates * sizes[parameter.columns], 1]
                if product.transposed:
                    strides.reverse()
                copies.append([read, *strides, multiplied, units, lanes, at + index * lanes, block, step])
            at += multiplied * step
        first += -(-units // lanes) * block
    return first * ITEMSIZE[state], [
        len(copies),
        ITEMSIZE[state],
        *(word for copy in copies for word in copy),
    ]


def vectors(stage: Stage, sizes: Mapping[str, Any]) -> Any:
    """Vectors of weights that a block of a stage reads; sizes may be integers of a kernel in the making."""
    count = sum(len(biases) for biases in stage.biases) + len(stage.vectors)
    for loop in stage.loops:
        count = sizes[loop.space or "inputs"] * len(loop.terms) + count
    return count


def _first(program: Program, name: str, gate: int, sizes: Mapping[str, int]) -> int:
    """Where a gate of a parameter begins in the row of all."""
    return program.starts(sizes)[name] + gate * sizes[program.parameter(name).columns]


@routine
def pack(words: int, source: int, target: int) -> None:
    """Pack the row of all parameters at `source` to `target`, as the words of a layout at `words` say."""
    copies, itemsize = peek(words), peek(words + 8)
    for copy in range(copies):
        at = words + 16 + 8 * COPY_WORDS * copy
        first, along, across = peek(at), peek(at + 8), peek(at + 16)
        multiplied, units, lanes = peek(at + 24), peek(at + 32), peek(at + 40)
        written, per_block, per_unit = peek(at + 48), peek(at + 56), peek(at + 64)
        # In the order in which it is written: 1.0 ms, with rows innermost 2.7 (GRU of 512 units).
        for block in range(quotient(units + lanes - 1, lanes)):
            here = min(lanes, units - block * lanes)
            for row in range(multiplied):
                number = source + itemsize * (first + row * along + block * lanes * across)
                place = target + itemsize * (written + block * per_block + row * per_unit)
                copy_numbers(number, itemsize * across, place, itemsize, here, itemsize)
                clear_bytes(place + itemsize * here, itemsize * (lanes - here))
