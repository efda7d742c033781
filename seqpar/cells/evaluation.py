"""Cells on arrays: one step and its derivatives.

Everything here is array API code over any leading axes: units are the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from array_api_compat import device

from seqpar.algorithms.gates import coefficient
from seqpar.cells.adjoint import adjoint
from seqpar.cells.program import INPUT, Product, Program
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
    return {
        "add": lambda _, x, y: x + y,
        "subtract": lambda _, x, y: x - y,
        "multiply": lambda _, x, y: x * y,
        "negative": lambda _, x: -x,
        "scale": lambda node, x: x * node.number,
        "shift": lambda node, x: x + node.number,
        "sigmoid": lambda _, x: coefficient(xp, x, "logit"),
        "tanh": lambda _, x: xp.tanh(x),
        # By selection: NaN stays NaN.
        "relu": lambda _, x: xp.where(x < 0, xp.zeros_like(x), x),
        "step": lambda _, x: xp.astype(x > 0, x.dtype),
    }


def parts_of(program: Program, state: Array, sizes: Mapping[str, int]) -> list[Array]:
    """The parts of a state (..., n)."""
    if len(program.parts) == 1:
        return [state]
    starts = program.part_starts(sizes)
    return [
        state[..., start : start + sizes[space]] for space, start in zip(program.parts, starts, strict=True)
    ]


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
    """From the gradient of a step's result: that of its state, and what `gradients` needs of it (..., stored)."""
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


def _gates(program: Program, parameters: Arrays, name: str) -> list[Array]:
    return _split(program, name, parameters[name])


def _split(program: Program, name: str, array: Array) -> list[Array]:
    gates = program.parameter(name).gates
    if gates == 1:
        return [array]
    width = array.shape[-1] // gates
    return [array[..., gate * width : (gate + 1) * width] for gate in range(gates)]
