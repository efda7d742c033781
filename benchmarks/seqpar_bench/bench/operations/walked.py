"""What problems of `solving` and `cells` have in common: shapes (batch, steps, units), and answers held against definitions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from seqpar.errors import OptionError
from seqpar_bench.bench.problem import Problem, WrongAnswerError, epsilon, relative, within

Array = Any

DTYPES = ("float32", "float64")
WALKED = 1 << 15
"""Steps up to which a float64 walk is what states are held against. Beyond, each step is made again from the one before."""
BLOCK = 1 << 22
"""Numbers that are widened to float64 at a time."""


@dataclass(frozen=True, kw_only=True)
class Walked(Problem):
    """States (batch, steps, units) that follow from the ones before, or gradients of what they follow from."""

    allowed: ClassVar[tuple[int, int]]
    """Units of rounding that states, and gradients, may be off by, relative to the largest of their numbers."""

    @property
    def length(self) -> int:
        return self.shape[1]

    @cached_property
    def cotangents(self) -> tuple[Array, ...]:
        """Of the states."""
        return (np.random.default_rng(1).standard_normal(self.shape, np.float32).astype(self.dtype),)

    @property
    def wide(self) -> list[Array]:
        """The operands in float64."""
        return [np.asarray(x, np.float64) for x in self.given]

    @cached_property
    @abstractmethod
    def exact(self) -> dict[str, Array]:
        """The states, or the gradients, in float64, by their names."""

    @abstractmethod
    def again(self) -> tuple[Callable[[Array, Array], Array], Array]:
        """The step in float64, from states and inputs on any leading axes, and the state before the first, (units,)."""

    @property
    def shows_states(self) -> bool:
        """Is an answer all that the next step needs?"""
        return self.which == "forward"

    def check(self, answer: Sequence[Array]) -> float:
        allowed = self.allowed[self.which == "gradient"] * epsilon(self.dtype)
        if self.length > WALKED and self.shows_states:
            return within(self._steps(answer[0]), allowed, "a step made again from the one before")
        if len(answer) != len(self.exact):
            raise WrongAnswerError(f"{len(answer)} arrays, and not those of {', '.join(self.exact)}")
        return max(
            within(relative(x, exact), allowed, name)
            for x, (name, exact) in zip(answer, self.exact.items(), strict=True)
        )

    def _steps(self, h: Array) -> float:
        """The largest difference between a state and what the step makes of the one before it, relative to the largest state."""
        if h.shape != self.shape:
            return math.inf
        step, start = self.again()
        x = self.given[0]
        first = np.broadcast_to(start, (self.shape[0], 1, self.shape[2]))
        worst, many = 0.0, max(1, BLOCK // (self.shape[0] * self.shape[2]))
        for begin in range(0, self.length, many):
            part = h[:, begin : begin + many]
            before = np.concatenate([h[:, begin - 1 : begin] if begin else first, part[:, :-1]], 1)
            inputs = x[:, begin : begin + many].astype(np.float64)
            worst = max(worst, relative(part, step(before, inputs)))
        return worst

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) != 3 or 0 in shape:
            raise self.wrong_shape(shape, "three positive sizes: batch, steps, units")
        return replace(self, shape=shape)

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(self.shape[0], length, self.shape[2]))

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=one_of(dtype, DTYPES, self.operation))


def one_of(dtype: str, dtypes: Sequence[str], operation: str) -> str:
    """The dtype of a command line, if there are problems of it."""
    if dtype not in dtypes:
        raise OptionError(
            f"bench: --dtype {dtype}: {operation} is measured in {', '.join(dtypes)}. Give one of these."
        )
    return dtype
