"""From a cell's function to its program: call it with symbols, keep what the result depends on, and see that it can be a cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqpar.cells.language import Declared, DefinitionError, Input, Matrix, Parameters, Trace, Value, Vector
from seqpar.cells.program import INPUT, Node, Parameter, Program
from seqpar.errors import SeqparError


def trace(
    function: Callable[..., Any],
    parameters: Mapping[str, Declared],
    parts: Sequence[str],
    constants: Mapping[str, Any],
) -> Program:
    """The program of a cell's function. `parts`: the space of each part of the state."""
    try:
        return _read_off(function, parameters, parts, constants)
    except DefinitionError as error:
        raise DefinitionError(f"cell {function.__name__}: its function {error}") from None
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        if isinstance(error, SeqparError):
            raise
        raise DefinitionError(
            f"cell {function.__name__}: its function fails on symbols ({type(error).__name__}: {error}). They know + - * @, and "
            "sigmoid, tanh and relu of seqpar.cells.language; a parameter of several gates is a tuple of them."
        ) from error


def _read_off(
    function: Callable[..., Any],
    parameters: Mapping[str, Declared],
    parts: Sequence[str],
    constants: Mapping[str, Any],
) -> Program:
    making = Trace()
    declared = tuple(Parameter(name, *how[:4]) for name, how in parameters.items())
    symbols = {}
    for parameter in declared:
        gates = [
            Matrix(making, parameter, gate)
            if parameter.rows
            else Vector(making, parameter.columns, parameter.name, gate)
            for gate in range(parameter.gates)
        ]
        symbols[parameter.name] = gates[0] if len(gates) == 1 else tuple(gates)
    states = tuple(Value(making, Node("state", space, which=i)) for i, space in enumerate(parts))
    made = function(Parameters(symbols), states[0] if len(states) == 1 else states, Input(), **constants)
    after = made if isinstance(made, tuple) else (made,)
    if len(after) != len(parts):
        raise DefinitionError(f"returns {len(after)} parts of a state that has {len(parts)}.")
    values = [making.value(x) for x in after]
    for value, space in zip(values, parts, strict=True):
        if value.space != space:
            raise DefinitionError(
                f"returns {value.space} units for a part of the state that has {space} units."
            )
    found = tuple(value.index for value in values)
    program = _needed(Program(declared, tuple(parts), tuple(making.nodes), tuple(making.sums), found, found))
    _check(program)
    return program


def _needed(whole: Program) -> Program:
    """The program without what the state after the step does not depend on."""
    nodes = {i for i, node in enumerate(whole.nodes) if node.op == "state"}
    ahead = list(whole.next)
    while ahead:
        i = ahead.pop()
        node = whole.nodes[i]
        made = whole.sums[node.which].products if node.op == "sum" else ()
        ahead += {*node.arguments, *(p.operand for p in made if p.operand != INPUT)} - nodes
        nodes.add(i)
    place = {INPUT: INPUT} | {i: new for new, i in enumerate(sorted(nodes))}
    # In the order of gates, so that the gradients of neighbouring columns of a matrix are neighbours, and one product.
    names = [p.name for p in whole.parameters]
    kept = sorted(
        {whole.nodes[i].which for i in nodes if whole.nodes[i].op == "sum"},
        key=lambda s: [(names.index(p.name), p.gate) for p in whole.sums[s].products],
    )
    sums = tuple(
        whole.sums[s]._replace(
            products=tuple(p._replace(operand=place[p.operand]) for p in whole.sums[s].products)
        )
        for s in kept
    )
    renumbered = []
    for i in sorted(nodes):
        node = whole.nodes[i]
        which = kept.index(node.which) if node.op == "sum" else node.which
        renumbered.append(node._replace(arguments=tuple(place[j] for j in node.arguments), which=which))
    after = tuple(place[i] for i in whole.next)
    return Program(whole.parameters, whole.parts, tuple(renumbered), sums, after, after)


def _check(program: Program) -> None:
    """What a program needs besides arithmetic that works out."""
    products = [p for made in program.sums for p in made.products]
    if "inputs" in program.parts:
        raise DefinitionError(
            'has a part of the state of "inputs" units, which are those of x. Name its space otherwise.'
        )
    if all(p.operand != INPUT for p in products):
        raise DefinitionError('does not depend on x. The state takes it through a matrix("inputs", ...).')
    elementwise = {node.name for node in program.vectors()}
    biases = {b.name for made in program.sums for b in made.biases}
    used = elementwise | biases | {p.name for p in products}
    for p in program.parameters:
        if p.name not in used:
            raise DefinitionError(f"does not use {p.name}, or its result does not depend on it.")
        if p.optional and p.name in elementwise:
            raise DefinitionError(
                f"uses {p.name} otherwise than as a bias, so that it cannot be optional. Add it to a product first, "
                f"w @ x + p.{p.name}, before other terms, or declare it without optional."
            )
