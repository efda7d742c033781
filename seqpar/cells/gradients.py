"""Gradients of a cell's input and parameters, from what the steps of a backward pass stored: one product over all steps each.

As in `evaluation`, array API code over any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from array_api_compat import device

from seqpar.algorithms.arrays import sum_to
from seqpar.cells.adjoint import adjoint, operands_stored, vectors_used
from seqpar.cells.evaluation import Arrays
from seqpar.cells.program import INPUT, Parameter, Program
from seqpar.dispatch.problem import Array


def gradients(
    xp: Any,
    program: Program,
    parameters: Arrays,
    x: Array | None,
    before: Array,
    stored: Array,
    sizes: Mapping[str, int],
) -> tuple[Array | None, dict[str, Array]]:
    """Gradients of x and of the parameters from what the steps of a backward pass stored.

    x (..., T, m), states before each step (..., T, n), stored (..., T, k). Parameters may have leading axes of their own (vectors
    then (..., 1, c)); axes that they do not have, or of size one, are summed over.
    """
    operands = places_of(program, sizes)
    starts = program.part_starts(sizes)

    def operand(index: int) -> Array:
        if index == INPUT:
            return x
        node = program.nodes[index]
        if node.op == "state":
            first = starts[node.which]
            return before[..., first : first + sizes[node.space]]
        return stored[..., operands[index][0] : operands[index][1]]

    ones = xp.ones((1, stored.shape[-2]), dtype=stored.dtype, device=device(stored))
    found: dict[str, Array] = {}
    dx: Any = None
    for parameter, multiplied, runs in uses(program, sizes):
        if parameter.name not in parameters:
            continue
        like = parameters[parameter.name]
        if parameter.rows and multiplied is not None:
            found[parameter.name] = _beside(
                xp, [_product(xp, operand(multiplied), _at(xp, stored, run), like) for run in runs]
            )
            if multiplied == INPUT:
                for run in runs:
                    part = _at(xp, stored, run) @ xp.matrix_transpose(like[..., run.first : run.last])
                    dx = part if dx is None else dx + part
        elif parameter.rows:
            found[parameter.name] = xp.zeros_like(like)
        else:
            # As a product: in blocks, where a sum over the first axis adds step after step.
            totals = [ones @ _at(xp, stored, run) for run in runs]
            found[parameter.name] = _beside(
                xp,
                [
                    sum_to(xp, x, _lead(x, like[..., run.first : run.last], 2))
                    for x, run in zip(totals, runs, strict=True)
                ],
            )
    return dx, {name: xp.reshape(grad, parameters[name].shape) for name, grad in found.items()}


class Run(NamedTuple):
    """Neighbouring columns of a parameter whose gradients are neighbours too."""

    first: int
    last: int
    places: list[tuple[int, int]]
    """Columns of what was stored, to be added up; none where nothing depends on them."""


def places_of(program: Program, sizes: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """Columns of nodes that were stored because matrices multiply them."""
    nodes = operands_stored(program)
    return dict(zip(nodes, _columns(program, sizes)[len(program.sums) :], strict=False))


def uses(program: Program, sizes: Mapping[str, int]) -> list[tuple[Parameter, int | None, list[Run]]]:
    """Of each parameter what it multiplies (None: nothing, or it is a vector), and where its columns get their gradients."""
    columns, found = _columns(program, sizes), []
    nodes = vectors_used(program)
    vectors = dict(zip(nodes, columns[len(columns) - len(nodes) :], strict=True))
    for parameter in program.parameters:
        gates: list[list[tuple[int, int]]] = [[] for _ in range(parameter.gates)]
        multiplied = None
        for s, made in enumerate(program.sums):
            for p in made.products:
                if p.name == parameter.name:
                    gates[p.gate].append(columns[s])
                    multiplied = p.operand
            for b in made.biases:
                if b.name == parameter.name:
                    gates[b.gate].append(columns[s])
        for i, place in vectors.items():
            if program.nodes[i].name == parameter.name:
                gates[program.nodes[i].which].append(place)
        found.append((parameter, multiplied, _runs(gates, sizes[parameter.columns])))
    return found


def _columns(program: Program, sizes: Mapping[str, int]) -> list[tuple[int, int]]:
    """Of each stored node its columns."""
    columns, start = [], 0
    reverse = adjoint(program)
    for i in reverse.stored:
        width = sizes[reverse.nodes[i].space]
        columns.append((start, start + width))
        start += width
    return columns


def _runs(uses: list[list[tuple[int, int]]], width: int) -> list[Run]:
    """All columns of a parameter, by what was stored for each gate."""
    runs: list[Run] = []
    for gate, use in enumerate(uses):
        last = runs[-1] if runs else None
        if last and len(use) == len(last.places) == 1 and last.places[0][1] == use[0][0]:
            runs[-1] = Run(last.first, last.last + width, [(last.places[0][0], use[0][1])])
        else:
            runs.append(Run(gate * width, (gate + 1) * width, use))
    return runs


def _at(xp: Any, stored: Array, run: Run) -> Array:
    """The gradients of a run: a view, where it has one place."""
    if not run.places:
        return xp.zeros_like(stored[..., : run.last - run.first])
    total = stored[..., run.places[0][0] : run.places[0][1]]
    for first, last in run.places[1:]:
        total = total + stored[..., first:last]
    return total


def _beside(xp: Any, arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=-1)


def _lead(found: Array, like: Array, rank: int) -> tuple[int, ...]:
    """The shape of a parameter with as many leading axes as its gradient has; a vector alone is a row."""
    shape = tuple(like.shape) if like.ndim >= rank else (1, *like.shape)
    lead = shape[: len(shape) - rank]
    return (*(1,) * (found.ndim - len(shape)), *lead, *shape[len(shape) - rank :])


def _product(xp: Any, operand: Array, delta: Array, like: Array) -> Array:
    """operand^T delta, summed over time and over all axes that the parameter does not have."""
    if all(n == 1 for n in like.shape[:-2]):
        # An input that sequences share is a row for each of them.
        each = xp.broadcast_to(operand, (*delta.shape[:-1], operand.shape[-1]))
        # By its number and not -1, which nothing tells where a row is of no numbers.
        steps = math.prod(delta.shape[:-1])
        rows = xp.reshape(each, (steps, each.shape[-1]))
        return xp.matrix_transpose(rows) @ xp.reshape(delta, (steps, delta.shape[-1]))
    each = xp.matrix_transpose(operand) @ delta
    return sum_to(xp, each, (*_lead(each, like, 2)[:-1], delta.shape[-1]))
