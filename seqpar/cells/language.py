"""What cells are written in: a Python function of symbols, from which a `Program` is read off.

    def mgu(p, h, x):
        (wf, wn), (bf, bn) = p.w, p.b
        f = sigmoid(wf @ x + p.u @ h + bf)
        return h + f * (tanh(wn @ x + p.v @ (f * h) + bn) - h)

`p` has the declared parameters: a matrix, or a tuple of its gates; products with `@` are of a matrix and the input, a part of the
state or anything computed from them. `h` is the state, or the tuple of its parts. Whatever else a function tries with symbols is
a `DefinitionError` (`tracing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

from seqpar.cells.program import INPUT, Bias, Node, Parameter, Product, Sum
from seqpar.errors import SeqparError, unknown_name

__all__ = ["DefinitionError", "activation", "matrix", "relu", "sigmoid", "tanh", "vector"]


class DefinitionError(SeqparError, TypeError):
    """A cell's function does something that a cell cannot."""


class NoParameterError(DefinitionError, AttributeError):
    """A cell's function asks for a parameter that is not declared; `hasattr` tells so too."""


class Declared(NamedTuple):
    """A parameter as a definition declares it; its name is the keyword it is given by."""

    rows: str
    columns: str
    gates: int
    optional: bool
    between: tuple[float, float] | None = None
    """What it starts between, if its paper says so: `Cell.init` draws it uniformly."""


def named(what: str, name: Any) -> str:
    """A name of units or of a parameter, which become names in Python and in the text of kernels."""
    if not isinstance(name, str) or not name.isidentifier():
        raise DefinitionError(
            f"{what}={name!r}. Units and parameters have names that could be variables: write 'memory_cells'."
        )
    return name


def matrix(rows: str = "hidden", columns: str = "hidden", gates: int = 1) -> Declared:
    """Weights from `rows` units ("inputs", "hidden") to `gates` times `columns`; the array is (rows, gates * columns)."""
    return Declared(named("matrix: rows", rows), named("matrix: columns", columns), gates, False)


def vector(
    columns: str = "hidden",
    gates: int = 1,
    optional: bool = False,
    between: tuple[float, float] | None = None,
) -> Declared:
    """A number for each unit of `gates` times `columns`; with `optional`, a bias that may be left out."""
    return Declared("", named("vector: columns", columns), gates, optional, between)


class _Symbol:
    """What every symbol refuses."""

    # NumPy's numbers leave arithmetic with a symbol to it.
    __array_ufunc__ = None

    def __bool__(self) -> bool:
        raise DefinitionError("asked whether a value is true. Values are symbols there: write arithmetic.")

    def _compared(self, other: Any) -> bool:
        raise DefinitionError("compared values. They are symbols there; relu(x) is what chooses by sign.")

    __lt__ = __le__ = __gt__ = __ge__ = _compared

    def __truediv__(self, other: Any) -> Any:
        raise DefinitionError("divided. Multiply by 1 / number; there is no division by values.")

    __rtruediv__ = __truediv__

    def __pow__(self, other: Any) -> Any:
        raise DefinitionError("took a power. Write x * x.")

    def __matmul__(self, other: Any) -> Any:
        raise DefinitionError("wrote a value before @. A matrix comes first: w @ h.")


class Value(_Symbol):
    """A number for each unit of a space, somewhere in a program."""

    def __init__(self, trace: Trace, node: Node) -> None:
        self.trace = trace
        self.index = trace.node(node)
        self.space = node.space

    def _two(self, op: str, x: Any, y: Any) -> Value:
        a, b = self.trace.value(x), self.trace.value(y)
        if a.space != b.space:
            raise DefinitionError(
                f"has {op} of {a.space} units and {b.space} units: only a matrix leads from one space to another."
            )
        return Value(self.trace, Node(op, a.space, (a.index, b.index)))

    def _with_number(self, op: str, number: float) -> Value:
        return Value(self.trace, Node(op, self.space, (self.index,), float(number)))

    def __add__(self, other: Any) -> Value:
        return self._with_number("shift", other) if _number(other) else self._two("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self._with_number("shift", other) if _number(other) else self._two("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return (
            self._with_number("shift", -float(other))
            if _number(other)
            else self._two("subtract", self, other)
        )

    def __rsub__(self, other: Any) -> Value:
        return -self + other if _number(other) else self._two("subtract", other, self)

    def __mul__(self, other: Any) -> Value:
        return self._with_number("scale", other) if _number(other) else self._two("multiply", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self._with_number("scale", other) if _number(other) else self._two("multiply", other, self)

    def __neg__(self) -> Value:
        return Value(self.trace, Node("negative", self.space, (self.index,)))


class Linear(_Symbol):
    """Products and biases that are still being added up; used for anything else, they become one sum."""

    def __init__(
        self, trace: Trace, space: str, products: tuple[Product, ...], biases: tuple[Bias, ...] = ()
    ):
        self.trace, self.space, self.products, self.biases = trace, space, products, biases

    def value(self) -> Value:
        index = self.trace.sum(Sum(self.space, self.products, self.biases))
        return Value(self.trace, Node("sum", self.space, which=index))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Vector) and other.space == self.space:
            return Linear(self.trace, self.space, self.products, (*self.biases, Bias(other.name, other.gate)))
        if isinstance(other, Linear) and other.space == self.space:
            return Linear(self.trace, self.space, self.products + other.products, self.biases + other.biases)
        return self.value() + other

    def __radd__(self, other: Any) -> Any:
        return self + other if isinstance(other, Vector) else self.value().__radd__(other)

    def __sub__(self, other: Any) -> Any:
        return self.value() - other

    def __rsub__(self, other: Any) -> Any:
        return self.value().__rsub__(other)

    def __mul__(self, other: Any) -> Any:
        return self.value() * other

    def __rmul__(self, other: Any) -> Any:
        return self.value().__rmul__(other)

    def __neg__(self) -> Value:
        return -self.value()


class Vector(_Symbol):
    """A gate of a parameter that is a vector: a bias of a sum it is added to, else a value."""

    def __init__(self, trace: Trace, space: str, name: str, gate: int) -> None:
        self.trace, self.space, self.name, self.gate = trace, space, name, gate

    def value(self) -> Value:
        return Value(self.trace, Node("vector", self.space, which=self.gate, name=self.name))

    def __add__(self, other: Any) -> Any:
        return other + self if isinstance(other, Linear) else self.value() + other

    def __radd__(self, other: Any) -> Any:
        return self.value().__radd__(other)

    __sub__, __rsub__, __mul__, __rmul__, __neg__ = (
        Linear.__sub__,
        Linear.__rsub__,
        Linear.__mul__,
        Linear.__rmul__,
        Linear.__neg__,
    )


class Matrix(_Symbol):
    """A gate of a parameter that is a matrix."""

    def __init__(self, trace: Trace, parameter: Parameter, gate: int) -> None:
        self.trace, self.parameter, self.gate = trace, parameter, gate

    def __matmul__(self, operand: Any) -> Linear:
        name, rows, columns = self.parameter[:3]
        if isinstance(operand, Input):
            space, index = "inputs", INPUT
        else:
            value = self.trace.value(operand)
            space, index = value.space, value.index
        if space != rows:
            raise DefinitionError(
                f"multiplies {space} units by {name}, which is declared for {rows} units. Declare it "
                f"matrix({space!r}, {columns!r})."
            )
        before = self.trace.operands.setdefault(name, index)
        if before != index:
            raise DefinitionError(
                f"multiplies different things by gates of {name}. Gates of one matrix share what they multiply; declare another."
            )
        return Linear(self.trace, columns, (Product(name, self.gate, index),))


class Parameters:
    """What a definition calls p."""

    def __init__(self, symbols: Mapping[str, Any]) -> None:
        self.__dict__.update(symbols)

    def __getattr__(self, name: str) -> Any:
        import difflib

        known = self.__dict__
        near = [name.lower()] if name.lower() in known else difflib.get_close_matches(name, known)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise NoParameterError(f"has no parameter {name!r}.{meant} They are {', '.join(known)}.")


class Input(_Symbol):
    """x[t], of which products are taken and nothing else."""

    def _refused(self, *_: Any) -> Any:
        raise DefinitionError("uses x otherwise than in a product with a matrix, w @ x.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _refused


class Trace:
    """A program while it is read off."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.sums: list[Sum] = []
        self.operands: dict[str, int] = {}

    def node(self, node: Node) -> int:
        # The same arithmetic on the same values is done once.
        if node not in self.nodes:
            self.nodes.append(node)
        return self.nodes.index(node)

    def sum(self, made: Sum) -> int:
        if made not in self.sums:
            self.sums.append(made)
        return self.sums.index(made)

    def value(self, x: Any) -> Value:
        if isinstance(x, Value):
            return x
        if isinstance(x, (Linear, Vector)):
            return x.value()
        if isinstance(x, Input):
            x._refused()
        raise DefinitionError(
            f"has {_named(x)} in its arithmetic. There are numbers, parameters, the state and products."
        )


def _number(x: Any) -> bool:
    # NumPy's floating and integer numbers are Real too.
    return isinstance(x, Real) and not isinstance(x, bool)


def _named(x: Any) -> str:
    """Something that is no value, in words."""
    if isinstance(x, tuple):
        return "a tuple (a parameter of several gates, or a state of several parts?)"
    return "a matrix that multiplies nothing" if isinstance(x, Matrix) else f"a {type(x).__name__}"


def _unary(op: str, x: Any) -> Value:
    if isinstance(x, Input):
        x._refused()
    if not isinstance(x, (Value, Linear, Vector)):
        raise DefinitionError(f"takes the {op} of {_named(x)}. There are parameters, the state and products.")
    value = x.trace.value(x)
    return Value(x.trace, Node(op, value.space, (value.index,)))


def sigmoid(x: Any) -> Value:
    """1 / (1 + exp(-x))."""
    return _unary("sigmoid", x)


def tanh(x: Any) -> Value:
    """The hyperbolic tangent."""
    return _unary("tanh", x)


def relu(x: Any) -> Value:
    """max(x, 0)."""
    return _unary("relu", x)


ACTIVATIONS = {"tanh": tanh, "relu": relu}


def activation(name: str) -> Callable[[Any], Value]:
    """The function that a cell's constant names."""
    if name not in ACTIVATIONS:
        raise unknown_name("cells", "activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
