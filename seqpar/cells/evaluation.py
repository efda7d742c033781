"""Cells on arrays: one step, its derivatives, and the gradients of parameters from what a backward pass stored.

Everything here is array API code over any leading axes: units are the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from array_api_compat import device

from seqpar.algorithms.arrays import sum_to
from seqpar.cells.adjoint import adjoint, operands_stored, vectors_used
from seqpar.cells.program import INPUT, Node, Product, Program
from seqpar.dispatch.problem import Array

Arrays = Mapping[str, Array]


def evaluate(
    xp: Any,
    program: Program,
    parameters: Arrays,
    x: Array | None,
    leaves: Mapping[str, Sequence[Array]],
) -> list[Any]:
    """The value of every node. `leaves`: by kind ("state", "carry", "given"), an array for each part of the state."""
    values: list[Any] = []
    whole: dict[tuple[str, int], list[Array]] = {}
    operators = arithmetic(xp)

    def product(made: Product) -> Array:
        operand = x if made.operand == INPUT else values[made.operand]
        if made.transposed:
            return operand @ xp.matrix_transpose(_gates(program, parameters, made.name)[made.gate])
        key = made.name, made.operand
        if key not in whole:
            # One product for all gates of a matrix: they share what they multiply.
            whole[key] = _split(program, made.name, operand @ parameters[made.name])
        return whole[key][made.gate]

    for node in program.nodes:
        if node.op in leaves:
            values.append(leaves[node.op][node.which])
        elif node.op == "vector":
            values.append(_gates(program, parameters, node.name)[node.which])
        elif node.op == "sum":
            made = program.sums[node.which]
            terms = [product(p) for p in made.products]
            terms += [
                _gates(program, parameters, b.name)[b.gate] for b in made.biases if b.name in parameters
            ]
            if not terms:
                terms = [xp.zeros_like(leaves["state"][program.parts.index(made.space)])]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            values.append(total)
        else:
            values.append(operators[node.op](node, *[values[i] for i in node.arguments]))
    return values


def arithmetic(xp: Any) -> dict[str, Callable[..., Any]]:
    """What nodes compute, by name."""

    def sigmoid(_: Node, x: Any) -> Any:
        # Accurate relative to s(x) and to 1 - s(x): exp of what is not positive, on either side.
        e = xp.exp(-xp.abs(x))
        return xp.where(x >= 0, xp.ones_like(e), e) / (1 + e)

    return {
        "add": lambda _, x, y: x + y,
        "subtract": lambda _, x, y: x - y,
        "multiply": lambda _, x, y: x * y,
        "negative": lambda _, x: -x,
        "scale": lambda node, x: x * node.number,
        "shift": lambda node, x: x + node.number,
        "sigmoid": sigmoid,
        "tanh": lambda _, x: xp.tanh(x),
        # By selection: NaN stays NaN.
        "relu": lambda _, x: xp.where(x < 0, xp.zeros_like(x), x),
        "step": lambda _, x: xp.astype(x > 0, x.dtype),
    }


def parts_of(program: Program, state: Array, sizes: Mapping[str, int]) -> list[Array]:
    """The parts of a state (..., n)."""
    if len(program.parts) == 1:
        return [state]
    found, start = [], 0
    for space in program.parts:
        found.append(state[..., start : start + sizes[space]])
        start += sizes[space]
    return found


def joined(xp: Any, parts: Sequence[Array]) -> Array:
    """The state of parts."""
    if len(parts) == 1:
        return parts[0]
    lead = max((tuple(part.shape[:-1]) for part in parts), key=len)
    return xp.concat([xp.broadcast_to(part, (*lead, part.shape[-1])) for part in parts], axis=-1)


def step(
    xp: Any, program: Program, parameters: Arrays, h: Array, x: Array | None, sizes: Mapping[str, int]
) -> Array:
    """The state after one step: h (..., n), x (..., m) -> (..., n)."""
    values = evaluate(xp, program, parameters, x, {"state": parts_of(program, h, sizes)})
    return joined(xp, [values[i] for i in program.next])


def pulled(
    xp: Any,
    program: Program,
    parameters: Arrays,
    h: Array,
    x: Array | None,
    gradient: Array,
    sizes: Mapping[str, int],
) -> tuple[Array, Array]:
    """From the gradient of a step's result: that of its state, and what `gradients` needs of the step (..., stored)."""
    reverse = adjoint(program)
    parts = parts_of(program, gradient, sizes)
    leaves = {
        "state": parts_of(program, h, sizes),
        "carry": parts,
        "given": [xp.zeros_like(part) for part in parts],
    }
    values = evaluate(xp, reverse, parameters, x, leaves)
    lead = tuple(gradient.shape[:-1])
    stored = [xp.broadcast_to(values[i], (*lead, values[i].shape[-1])) for i in reverse.stored]
    return joined(xp, [values[i] for i in reverse.next]), xp.concat(stored, axis=-1)


def pushed(
    xp: Any,
    program: Program,
    parameters: Arrays,
    h: Array,
    x: Array | None,
    sizes: Mapping[str, int],
    dh: Array | None = None,
    dx: Array | None = None,
    dparameters: Arrays | None = None,
) -> Array:
    """The tangent of a step's result along tangents of its arguments (None: none)."""
    values = evaluate(xp, program, parameters, x, {"state": parts_of(program, h, sizes)})
    parts = None if dh is None else parts_of(program, dh, sizes)
    along: Arrays = dparameters or {}
    tangents: list[Any] = []

    def add(x: Any, y: Any) -> Any:
        return y if x is None else x if y is None else x + y

    for node, value in zip(program.nodes, values, strict=True):
        found: Any = None
        arguments = [tangents[i] for i in node.arguments]
        if node.op == "state":
            found = None if parts is None else parts[node.which]
        elif node.op == "vector":
            found = _gates(program, along, node.name)[node.which] if node.name in along else None
        elif node.op == "sum":
            made = program.sums[node.which]
            for p in made.products:
                operand, tangent = (x, dx) if p.operand == INPUT else (values[p.operand], tangents[p.operand])
                if tangent is not None:
                    found = add(found, tangent @ _gates(program, parameters, p.name)[p.gate])
                if p.name in along:
                    found = add(found, operand @ _gates(program, along, p.name)[p.gate])
            for bias in made.biases:
                found = add(
                    found, _gates(program, along, bias.name)[bias.gate] if bias.name in along else None
                )
        elif all(t is None for t in arguments):
            pass
        elif node.op == "add":
            found = add(*arguments)
        elif node.op == "subtract":
            found = arguments[0] if arguments[1] is None else add(arguments[0], -arguments[1])
        elif node.op == "multiply":
            a, b = node.arguments
            found = add(
                None if arguments[0] is None else arguments[0] * values[b],
                None if arguments[1] is None else values[a] * arguments[1],
            )
        elif node.op in ("negative", "scale", "shift"):
            factor = {"negative": -1.0, "scale": node.number, "shift": 1.0}[node.op]
            found = arguments[0] * factor
        elif node.op == "sigmoid":
            found = arguments[0] * value * (1 - value)
        elif node.op == "tanh":
            found = arguments[0] * (1 - value * value)
        elif node.op == "relu":
            found = arguments[0] * xp.astype(values[node.arguments[0]] > 0, value.dtype)
        tangents.append(found)
    results = [tangents[i] if tangents[i] is not None else xp.zeros_like(values[i]) for i in program.next]
    return joined(xp, results)


def jacobian(
    xp: Any, program: Program, parameters: Arrays, h: Array, x: Array | None, sizes: Mapping[str, int]
) -> Array:
    """The derivative of a step by its state: (..., n, n), [i, j] = d out_i / d h_j."""
    n = h.shape[-1]
    basis = xp.eye(n, dtype=h.dtype, device=device(h))
    h = xp.expand_dims(h, axis=-2)
    x = None if x is None else xp.expand_dims(x, axis=-2)
    tangents = xp.broadcast_to(basis, (*h.shape[:-2], n, n))
    columns = pushed(xp, program, parameters, h, x, sizes, dh=tangents)
    return xp.matrix_transpose(xp.broadcast_to(columns, tangents.shape))


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
    columns, start = [], 0
    for i in adjoint(program).stored:
        width = sizes[adjoint(program).nodes[i].space]
        columns.append((start, start + width))
        start += width
    operands = dict(zip(operands_stored(program), columns[len(program.sums) :], strict=False))
    vectors = dict(zip(vectors_used(program), columns[len(program.sums) + len(operands) :], strict=True))
    starts = dict(zip(range(len(program.parts)), _starts(program, sizes), strict=True))

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
    for parameter in program.parameters:
        if parameter.name not in parameters:
            continue
        like = parameters[parameter.name]
        uses: list[list[tuple[int, int]]] = [[] for _ in range(parameter.gates)]
        multiplied = None
        for s, made in enumerate(program.sums):
            for p in made.products:
                if p.name == parameter.name:
                    uses[p.gate].append(columns[s])
                    multiplied = p.operand
            for b in made.biases:
                if b.name == parameter.name:
                    uses[b.gate].append(columns[s])
        for i, place in vectors.items():
            if program.nodes[i].name == parameter.name:
                uses[program.nodes[i].which].append(place)
        runs = _runs(uses, sizes[parameter.columns])
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


class _Run(NamedTuple):
    """Neighbouring columns of a parameter whose gradients are neighbours too."""

    first: int
    last: int
    places: list[tuple[int, int]]
    """Columns of what was stored, to be added up; none where nothing depends on them."""


def _runs(uses: list[list[tuple[int, int]]], width: int) -> list[_Run]:
    """All columns of a parameter, by what was stored for each gate."""
    runs: list[_Run] = []
    for gate, use in enumerate(uses):
        last = runs[-1] if runs else None
        if last and len(use) == len(last.places) == 1 and last.places[0][1] == use[0][0]:
            runs[-1] = _Run(last.first, last.last + width, [(last.places[0][0], use[0][1])])
        else:
            runs.append(_Run(gate * width, (gate + 1) * width, use))
    return runs


def _at(xp: Any, stored: Array, run: _Run) -> Array:
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


def _starts(program: Program, sizes: Mapping[str, int]) -> list[int]:
    found, start = [], 0
    for space in program.parts:
        found.append(start)
        start += sizes[space]
    return found


def _parameter(program: Program, name: str) -> Any:
    return next(p for p in program.parameters if p.name == name)


def _gates(program: Program, parameters: Arrays, name: str) -> list[Array]:
    return _split(program, name, parameters[name])


def _split(program: Program, name: str, array: Array) -> list[Array]:
    gates = _parameter(program, name).gates
    if gates == 1:
        return [array]
    width = array.shape[-1] // gates
    return [array[..., gate * width : (gate + 1) * width] for gate in range(gates)]
