"""Functions of integers, written in Python and compiled here: what conducts the walks of cells.

numba would take 5 seconds for them, 0.2 for each, most of it to find out that everything is an integer. So a `routine` is
translated from its syntax tree: 64-bit integers and truths, arithmetic, comparisons, `if`, `while`, `for` over a range, calls of
other routines and of intrinsics (functions that emit their own code). It never raises, and it overflows as C does.

    @routine
    def line_of(address: int) -> int:
        return (address + LINE - 1) & -LINE

Functions that numba compiles call routines like any other function; their code goes into the module of the caller.
"""

import ast
import inspect
import operator
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from llvmlite import ir
from numba import types

from seqpar_host.untyped import emitter, intrinsic_of

Function = TypeVar("Function", bound=Callable[..., Any])
I1, I64 = ir.IntType(1), ir.IntType(64)
COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.BitAnd: "and_",
    ast.BitOr: "or_",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "ashr",
}
CONSTANTS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
}
_literal: Any = types.literal
_KINDS: dict[Any, Any] = {int: types.int64, bool: types.boolean, None: types.void}


def routine(function: Function) -> Function:
    """Make a routine of a function whose arguments are integers, and whose result is one, a truth or nothing."""
    given = inspect.signature(function)
    returned = _KINDS[inspect.get_annotations(function)["return"]]

    def typed(typing: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found = builder.call(_written(context, builder.module, function), args)
            if returned is types.void:
                return context.get_dummy_value()
            return found if returned is types.int64 else builder.icmp_signed("!=", found, I64(0))

        return returned(*[types.int64] * len(given.parameters)), generate

    first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = given.replace(parameters=[first, *given.parameters.values()])  # type: ignore[attr-defined]
    typed.__name__ = typed.__qualname__ = function.__name__
    made: Any = intrinsic_of(typed)
    made.routine = function
    result: Function = made
    return result


def _written(context: Any, module: Any, function: Callable[..., Any]) -> Any:
    """The function in a module, compiled there the first time it is asked for."""
    name = f"{function.__module__}.{function.__qualname__}"
    if name not in module.globals:
        count = len(inspect.signature(function).parameters)
        made = ir.Function(module, ir.FunctionType(I64, [I64] * count), name)
        made.linkage = "internal"
        made.attributes.add("nounwind")
        _Translation(context, made, function).write()
    return module.globals[name]


class _Translation:
    """One routine while it is compiled. Every variable is a place on the stack, which LLVM makes a register of."""

    def __init__(self, context: Any, made: Any, function: Callable[..., Any]) -> None:
        self.context, self.made = context, made
        self.names = function.__globals__
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(tree, ast.FunctionDef)
        self.tree = tree
        self.builder = ir.IRBuilder(made.append_basic_block("entry"))
        self.variables: dict[str, Any] = {}
        self.loops: list[tuple[Any, Any]] = []
        """Of each loop around here, where `continue` and `break` lead."""

    def write(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.variables.setdefault(node.id, None)
        names = [argument.arg for argument in self.tree.args.args]
        for name in [*names, *self.variables]:
            self.variables[name] = self.builder.alloca(I64, name=name)
        for name, value in zip(names, self.made.args, strict=True):
            self.builder.store(value, self.variables[name])
        self.block(self.tree.body)
        if not self.builder.block.is_terminated:
            self.builder.ret(I64(0))

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return
            self.statement(statement)

    # --- statements ---

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=value):
                self.value(value)
            case ast.Return(value=value):
                self.builder.ret(I64(0) if value is None else self.number(value))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.builder.store(self.number(value), self.variables[name])
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                found = [self.number(value) for value in values]
                for target, number in zip(targets, found, strict=True):
                    assert isinstance(target, ast.Name)
                    self.builder.store(number, self.variables[target.id])
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                before = self.builder.load(self.variables[name])
                self.builder.store(self.binary(op, before, self.number(value)), self.variables[name])
            case ast.If(test=test, body=body, orelse=orelse):
                self.choice(self.truth(test), partial(self.block, body), partial(self.block, orelse))
            case ast.While(test=test, body=body, orelse=[]):
                self.loop(lambda: self.truth(test), partial(self.block, body), lambda: None)
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Name(id="range"), args=args, keywords=[]),
                body=body,
                orelse=[],
            ):
                self.count(name, [self.number(argument) for argument in args], body)
            case ast.Break():
                self.builder.branch(self.loops[-1][1])
            case ast.Continue():
                self.builder.branch(self.loops[-1][0])
            case _:
                raise self.beyond(node)

    def choice(self, condition: Any, yes: Callable[[], None], no: Callable[[], None]) -> None:
        then, other, after = (self.made.append_basic_block(name) for name in ("then", "else", "after"))
        self.builder.cbranch(condition, then, other)
        for block, write in ((then, yes), (other, no)):
            self.builder.position_at_end(block)
            write()
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)

    def loop(self, condition: Callable[[], Any], body: Callable[[], None], on: Callable[[], None]) -> None:
        ask, inside, go_on, done = (
            self.made.append_basic_block(name) for name in ("ask", "loop", "on", "done")
        )
        self.builder.branch(ask)
        self.builder.position_at_end(ask)
        self.builder.cbranch(condition(), inside, done)
        self.builder.position_at_end(inside)
        self.loops.append((go_on, done))
        body()
        self.loops.pop()
        if not self.builder.block.is_terminated:
            self.builder.branch(go_on)
        self.builder.position_at_end(go_on)
        on()
        self.builder.branch(ask)
        self.builder.position_at_end(done)

    def count(self, name: str, args: list[Any], body: list[ast.stmt]) -> None:
        """`for name in range(...)`."""
        first, end, step = {1: (I64(0), *args, I64(1)), 2: (*args, I64(1)), 3: tuple(args)}[len(args)]
        builder = self.builder
        # The count goes on where it was, whatever the body does to its variable.
        with builder.goto_entry_block():
            counter = builder.alloca(I64)
        builder.store(first, counter)

        def more() -> Any:
            here = builder.load(counter)
            up, down = builder.icmp_signed("<", here, end), builder.icmp_signed(">", here, end)
            return builder.select(builder.icmp_signed(">", step, I64(0)), up, down)

        def once() -> None:
            builder.store(builder.load(counter), self.variables[name])
            self.block(body)

        self.loop(more, once, lambda: builder.store(builder.add(builder.load(counter), step), counter))

    # --- expressions ---

    def number(self, node: ast.expr) -> Any:
        value = self.value(node)
        return self.builder.zext(value, I64) if value.type == I1 else value

    def truth(self, node: ast.expr) -> Any:
        value = self.value(node)
        return value if value.type == I1 else self.builder.icmp_signed("!=", value, I64(0))

    def value(self, node: ast.expr) -> Any:
        builder = self.builder
        if isinstance(node, ast.Name) and node.id in self.variables:
            return builder.load(self.variables[node.id])
        if isinstance(node, (ast.Constant, ast.Name, ast.Attribute)):
            found = self.named(node)
            if not isinstance(found, int):
                raise self.beyond(node)
            return I1(int(found)) if isinstance(found, bool) else I64(found)
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.number(left), self.number(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return builder.neg(self.number(operand))
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return builder.not_(self.number(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return builder.not_(self.truth(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARISONS:
                return builder.icmp_signed(COMPARISONS[type(op)], self.number(left), self.number(right))
            case ast.BoolOp(op=op, values=[first, *rest]):
                return self.chain(isinstance(op, ast.And), first, rest)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.either(self.truth(test), lambda: self.number(body), lambda: self.number(orelse))
            case ast.Call(func=func, args=args, keywords=[]):
                return self.call(self.named(func), args)
        raise self.beyond(node)

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        if type(op) not in ARITHMETIC:
            raise NotImplementedError(f"{self.made.name}: {type(op).__name__}; take `quotient` to divide")
        return getattr(self.builder, ARITHMETIC[type(op)])(left, right)

    def chain(self, both: bool, first: ast.expr, rest: list[ast.expr]) -> Any:
        """`and` and `or`: what comes later is asked only if it matters."""
        found = self.truth(first)
        for node in rest:
            yes: Callable[[], Any] = partial(self.truth, node) if both else lambda: I1(1)
            no: Callable[[], Any] = (lambda: I1(0)) if both else partial(self.truth, node)
            found = self.either(found, yes, no)
        return found

    def either(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        then, other, after = (self.made.append_basic_block(name) for name in ("then", "else", "after"))
        self.builder.cbranch(condition, then, other)
        found = []
        for block, write in ((then, yes), (other, no)):
            self.builder.position_at_end(block)
            value = write()
            found.append((value, self.builder.block))
            self.builder.branch(after)
        self.builder.position_at_end(after)
        merged = self.builder.phi(found[0][0].type)
        for value, block in found:
            merged.add_incoming(value, block)
        return merged

    def call(self, function: Any, args: list[ast.expr]) -> Any:
        builder = self.builder
        if function in (min, max):
            sign = "<" if function is min else ">"
            found = self.number(args[0])
            for node in args[1:]:
                other = self.number(node)
                found = builder.select(builder.icmp_signed(sign, other, found), other, found)
            return found
        if hasattr(function, "routine"):
            values = [self.number(node) for node in args]
            return builder.call(_written(self.context, builder.module, function.routine), values)
        # An intrinsic. A literal is for one that takes a number while it is compiled.
        literals = [_literal(self.named(node)) if self.fixed(node) else types.int64 for node in args]
        signature, generate = emitter(function, literals) or emitter(function, [types.int64] * len(args))
        return generate(self.context, builder, signature, [self.number(node) for node in args])

    def fixed(self, node: ast.expr) -> bool:
        """Is its value known now?"""
        if isinstance(node, ast.Constant):
            return True
        return isinstance(node, (ast.Name, ast.Attribute)) and not (
            isinstance(node, ast.Name) and node.id in self.variables
        )

    def named(self, node: ast.expr) -> Any:
        """What a name that is no variable stands for: a constant, a module's, a function."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.Name(id=("min" | "max") as name):
                return {"min": min, "max": max}[name]
            case ast.Attribute(value=value, attr=attribute):
                return getattr(self.named(value), attribute)
        raise self.beyond(node)

    def beyond(self, node: ast.AST) -> NotImplementedError:
        return NotImplementedError(f"{self.made.name}: a routine cannot do `{ast.unparse(node)}`")
