"""What `linear` and `matrices` have in common: h[t] = a[t] h[t-1] + b[t], its numbers, its answer and its gradients."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.exact import before, costates, held_against, states, wide
from seqpar_bench.bench.operations.operands import COMPLEX, as_dtype, normal
from seqpar_bench.bench.operations.walked import one_of
from seqpar_bench.bench.problem import SIZES, Contestant, Problem, itemsize

Array = Any


@dataclass(frozen=True, kw_only=True)
class Recurrence(Problem):
    """A recurrence on b of `shape`, from zeros."""

    axis: int = 1

    @abstractmethod
    def coefficients(self) -> Array:
        """a, in real or complex numbers of any precision."""

    @abstractmethod
    def in_time(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Coefficients and inputs of the plain recurrence in float64, time first, from the operands."""

    @abstractmethod
    def times(self, a: Array, h: Array) -> Array:
        """Of coefficients and states at one step."""

    @abstractmethod
    def transposed(self, a: Array) -> Array: ...

    @abstractmethod
    def pulled_back(self, k: Array, h: Array) -> tuple[Array, Array]:
        """Gradients of the operands, as they are given, from the cotangents k[t] of b[t] and the states before, time first."""

    @property
    def options(self) -> dict[str, Any]:
        return {"axis": self.axis}

    @property
    def length(self) -> int:
        return self.shape[self.axis]

    @property
    def time(self) -> int:
        """The axis of time, counted from the front."""
        return self.axis % len(self.shape)

    @property
    def coefficients_per_state(self) -> float:
        return 1.0

    @property
    def nbytes(self) -> int:
        # Forward reads a and b and writes h. The gradients read a, h and the cotangents of h, and write those of a and b.
        numbers = self.coefficients_per_state + 2
        if self.which == "gradient":
            numbers += 2 * self.coefficients_per_state + 3
        return round(numbers * math.prod(self.shape)) * itemsize(self.dtype)

    @property
    def flops(self) -> int:
        # One product and one sum for each coefficient; the gradients the same walk back, and one product more.
        each = 2 if self.which == "forward" else 5
        per_state = max(1, round(self.coefficients_per_state)) * each
        # A complex product is 4 products and 2 sums.
        return per_state * math.prod(self.shape) * (4 if self.dtype in COMPLEX else 1)

    @property
    def memory(self) -> int:
        if "cpu" in self.devices:
            return super().memory
        # On the host: the operands, and in float64 these and the answer, or two answers.
        return round(
            math.prod(self.shape) * (2 + self.coefficients_per_state) * 12 * (1 + (self.which == "gradient"))
        )

    def numbers(self) -> tuple[Array, ...]:
        b = normal(1, self.shape, self.dtype)
        if self.dtype in COMPLEX:
            b = b + 1j * normal(2, self.shape, self.dtype)
        return as_dtype(self.coefficients(), self.dtype), as_dtype(b, self.dtype)

    @cached_property
    def cotangents(self) -> tuple[Array, ...]:
        # Real ones, for PyTorch and JAX conjugate complex ones differently.
        return (as_dtype(normal(3, self.shape, self.dtype), self.dtype),)

    @cached_property
    def exact(self) -> tuple[Array, ...]:
        """The results in float64: states, or gradients of a and b."""
        a, b = self.in_time(*map(wide, self.given))
        h = states(a, b, self.times)
        if self.which == "forward":
            return (self.as_given(h),)
        g = np.moveaxis(wide(self.cotangents[0]), self.axis, 0)
        k = costates(self.transposed(a), g, self.times)
        return tuple(self.as_given(x) for x in self.pulled_back(k, before(h)))

    def as_given(self, x: Array) -> Array:
        """With time where the problem has it."""
        return np.ascontiguousarray(np.moveaxis(x, 0, self.axis))

    def check(self, answer: Sequence[Array]) -> float:
        names = ("h",) if self.which == "forward" else ("the gradient of a", "the gradient of b")
        return max(
            held_against(x, exact, self.dtype, name)
            for name, x, exact in zip(names, answer, self.exact, strict=True)
        )

    def solve(self) -> None:
        _ = self.exact

    def contestants(self, frame: Frame) -> Iterator[Contestant]:
        conjugated = frame.name == "torch" and self.which == "gradient" and self.dtype in COMPLEX
        for each in super().contestants(frame):
            yield replace(each, read=_conjugated) if conjugated else each

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=one_of(dtype, tuple(SIZES), self.operation))

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(*self.shape[: self.time], length, *self.shape[self.time + 1 :]))


def _conjugated(results: tuple[Array, ...]) -> tuple[Array, ...]:
    """PyTorch's gradients are the conjugates of JAX's and seqpar's."""
    return tuple(x.conj() for x in results)
