"""What an example of the conformance suite is: a problem of one operation, with seeded operands and exact answers.

`seqpar.testing.linear_examples`, `matrix_examples`, `scan_examples`, `cell_examples`, `tall_examples` and
`bucketing_examples` hold what the suite asks of the kernels of each operation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest

from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel

Array = Any
Shape = tuple[int, ...]


class Answers(NamedTuple):
    """Results in float64, and how far from them a kernel may be."""

    exact: tuple[Array, ...]
    bounds: tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class Example(ABC):
    """One problem of an operation, and of its fused backward if it has one."""

    operation: ClassVar[str]
    fused_backward: ClassVar[str | None] = None

    shape: Shape
    axis: int
    dtype: str = "float32"
    reverse: bool = False
    memory: Literal["rows", "swapped", "transposed", "backwards", "gaps", "repeated"] = "rows"
    """Row-major, first axis contiguous, last but one contiguous, negative strides, every other element, or one step repeated
    with stride 0."""

    @classmethod
    @abstractmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "Example":
        """An example of a size, `width` numbers side by side."""

    @property
    def plain(self) -> bool:
        """Is it what the public function computes, and not a walk that only derivatives need?"""
        return True

    @abstractmethod
    def operands(self) -> tuple[Array | None, ...]:
        """What a kernel of the operation gets, as NumPy arrays."""

    @property
    @abstractmethod
    def answers(self) -> Answers:
        """What it is to return, or what is compared in its place."""

    def backward_operands(self) -> tuple[Array | None, ...]:
        """What a kernel of the fused backward gets."""
        raise NotImplementedError(f"{self.operation} has no fused backward")

    @cached_property
    def backward_answers(self) -> Answers:
        """What it is to return: each gradient in the shape of its operand."""
        raise NotImplementedError(f"{self.operation} has no fused backward")

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        """What is compared with the answers: the results, unless several are right."""
        return results

    @abstractmethod
    def names(self, backward: bool) -> Sequence[str]:
        """What that is called."""

    @abstractmethod
    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        """The public function that computes this of operands in any framework, its arguments and its options."""

    @abstractmethod
    def results(self, returned: Any) -> Sequence[Array]:
        """The results as kernels return them from what the public function returns."""

    @abstractmethod
    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        """The results for operands in any framework by the kernel that is wished for."""

    def words(self) -> list[str]:
        """What the name of the example says of its own fields."""
        return []

    def __str__(self) -> str:
        usual = next(each.default for each in fields(self) if each.name == "axis")
        words = [self.dtype, _text(self.shape), f"axis{self.axis}" if self.axis != usual else ""]
        words += [
            "reverse" if self.reverse else "",
            *self.words(),
            "" if self.memory == "rows" else self.memory,
        ]
        return "-".join(filter(None, words))

    @property
    def time(self) -> int:
        """The time axis, from the front."""
        return self.axis % len(self.shape)

    def numbers(self, seed: int, shape: Shape, dtype: str) -> Array:
        """Numbers of modulus up to one."""
        random = np.random.default_rng([seed, *shape])
        x = random.uniform(-1, 1, shape)
        turn = np.exp(1j * random.uniform(0, 6.28, shape)) if dtype.startswith("complex") else 1.0
        return self.laid_out(np.asarray(x * turn).astype(_dtype(dtype), copy=False))

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


def rotations(x: Array) -> Array:
    """Matrices of these numbers that shrink by 2 % a step: no product grows, and none is lost within a chunk."""
    wide = x.astype("complex128" if np.iscomplexobj(x) else "float64")
    return (0.98 * np.linalg.qr(wide).Q).astype(x.dtype)


def _dtype(name: str) -> Any:
    """bfloat16 is no dtype of NumPy's own; the package that has it comes with JAX."""
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
