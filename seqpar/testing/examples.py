"""What an example of the conformance suite is: a problem of one operation, with seeded operands and exact answers.

Operands are canonical, as kernels get them. `seqpar.testing.linear_examples` and `seqpar.testing.matrix_examples` hold what
the suite asks of the kernels of each operation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest

from seqpar.dispatch.operation import Operation
from seqpar.validation import state_of

Array = Any
Shape = tuple[int, ...]


class Answers(NamedTuple):
    """Results in float64, and how far from them a kernel may be."""

    exact: tuple[Array, ...]
    bounds: tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class Example(ABC):
    """One problem. `narrow` gives the shapes of operands that broadcast; the others have full size."""

    operation: ClassVar[Operation]

    shape: Shape
    """The shape of the states."""
    axis: int
    dtype: str = "float32"
    dtype_a: str = ""
    """The dtype of the coefficients, if it is not that of the values."""
    reverse: bool = False
    adjoint: bool = False
    h0: bool = False
    resets: float = 0.0
    """The share of steps that are reset; 0 for no mask."""
    g_final: bool = True
    """Does the backward pass get a cotangent of the final state?"""
    narrow: Mapping[str, Shape] = field(default_factory=lambda: MappingProxyType({}))
    memory: Literal["rows", "swapped", "transposed", "backwards", "gaps", "repeated"] = "rows"
    """Row-major, first axis contiguous, last but one contiguous, negative strides, every other element, or one step repeated
    with stride 0."""
    spoiled: bool = False
    """NaN and infinity among the values, for resets to stop."""

    @classmethod
    @abstractmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "Example":
        """An example whose states are of a width."""

    @property
    @abstractmethod
    def walk(self) -> Any:
        """The static part of the operation."""

    @abstractmethod
    def operands(self) -> tuple[Array | None, ...]:
        """Operands of the operation."""

    @abstractmethod
    def backward_operands(self) -> tuple[Array | None, ...]:
        """Operands of its fused backward."""

    @abstractmethod
    def public(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The public function and the options with which it means this, given the operands that are not a mask."""

    @cached_property
    @abstractmethod
    def answers(self) -> Answers:
        """Of the operation."""

    @cached_property
    def backward_answers(self) -> Answers:
        """Of its fused backward: each gradient in the shape of its operand."""
        exact, bounds, shapes = self._gradients()
        b = self.operands()[1]
        eps = float(_finfo_of_state(b).eps)
        fitted = [_fitted(*each, eps) for each in zip(exact, bounds, shapes, strict=True)]
        return Answers(tuple(x for x, _ in fitted), tuple(bound for _, bound in fitted))

    @abstractmethod
    def _gradients(self) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Shape, ...]]:
        """Gradients of full shape, their bounds, and the shapes of the operands."""

    @abstractmethod
    def _words(self) -> list[str]:
        """What a name says of the operation's own flags."""

    def __str__(self) -> str:
        words = [f"{self.dtype_a}*{self.dtype}" if self.dtype_a else self.dtype, _text(self.shape)]
        usual = next(each.default for each in fields(self) if each.name == "axis")
        words += [f"axis{self.axis}" if self.axis != usual else "", *self._words()]
        flags = ("reverse", "adjoint", "h0", "resets", "spoiled")
        words += [name for name in flags if getattr(self, name)]
        words += [f"{name}{_text(shape)}" for name, shape in self.narrow.items()]
        words += ["" if self.memory == "rows" else self.memory, "" if self.g_final else "no_g_final"]
        return "-".join(filter(None, words))

    @property
    def time(self) -> int:
        """The time axis, from the front."""
        return self.axis % len(self.shape)

    @property
    def stateless(self) -> Shape:
        """The shape of the states without the time axis."""
        return self.shape[: self.time] + self.shape[self.time + 1 :]

    def step(self, t: int) -> tuple[Any, ...]:
        """The index of one step."""
        return (*(slice(None),) * self.time, t)

    def numbers(self, name: str, seed: int, shape: Shape, dtype: str) -> Array:
        """Numbers of modulus up to one for an operand, in its own shape and memory."""
        shape = self.narrow.get(name, shape)
        random = np.random.default_rng([seed, *shape])
        x = random.uniform(-1, 1, shape)
        turn = np.exp(1j * random.uniform(0, 6.28, shape)) if dtype.startswith("complex") else 1.0
        return self.laid_out(np.asarray(x * turn).astype(_dtype(dtype), copy=False))

    def state(self, name: str, seed: int) -> Array:
        """An operand like a state."""
        return self.numbers(name, seed, self.stateless, state_of(self.dtype))

    def mask(self, shape: Shape) -> Array | None:
        """Resets of a shape, if there are any."""
        if not self.resets:
            return None
        shape = self.narrow.get("resets", shape)
        return self.laid_out(np.random.default_rng(4).random(shape) < self.resets)

    def laid_out(self, x: Array) -> Array:
        """The same values in other memory."""
        if self.memory == "swapped":
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
        if self.memory == "transposed":
            return np.swapaxes(np.ascontiguousarray(np.swapaxes(x, -1, -2)), -1, -2)
        if self.memory == "backwards":
            flip = (slice(None, None, -1),) * x.ndim
            return np.ascontiguousarray(x[flip])[flip]
        if self.memory == "gaps":
            wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        if self.memory == "repeated" and x.ndim == len(self.shape):
            return np.broadcast_to(x.take([0], self.time), x.shape)
        return x


def _fitted(exact: Array, bound: Array, shape: Shape, eps: float) -> tuple[Array, Array]:
    """A gradient and its bound, summed over the axes along which the operand was broadcast."""
    bound = np.broadcast_to(bound, exact.shape)
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and exact.shape[i] != 1)
    if not axes:
        return exact, bound
    terms = exact.size // int(np.prod(shape))
    total, size, errors = (x.sum(axis=axes, keepdims=True) for x in (exact, np.abs(exact), bound))
    # eps * log2(n) for pairwise summation; n / 64 allows block sums below it.
    return total, errors + (2 + terms / 64) * eps * size


def _finfo_of_state(b: Array) -> Any:
    return np.finfo(state_of(b.dtype.name))


def _dtype(name: str) -> Any:
    """bfloat16 is no dtype of NumPy's own; the package that has it comes with JAX."""
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
