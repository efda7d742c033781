"""What problems of `solving` and `cells` have in common: shapes (batch, steps, units), and answers held against definitions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from seqpar.errors import OptionError
from seqpar_bench.bench.problem import Problem, WrongAnswerError, epsilon, relative, within

Array = Any

DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Walked(Problem):
    """States (batch, steps, units) that follow from the ones before, or gradients of what they follow from."""

    allowed: ClassVar[tuple[int, int]] = (100, 1000)
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

    def solve(self) -> None:
        _ = self.exact

    def check(self, answer: Sequence[Array]) -> float:
        """The largest difference from the true states or gradients, over all steps, of sequences of any length."""
        return self.compared(answer, self.allowed[self.which == "gradient"])

    def compared(self, answer: Sequence[Array], roundings: int) -> float:
        """The same, where so many units of rounding are allowed."""
        if len(answer) != len(self.exact):
            raise WrongAnswerError(f"{len(answer)} arrays, and not those of {', '.join(self.exact)}")
        allowed = roundings * epsilon(self.dtype)
        return max(
            within(relative(x, exact), allowed, name)
            for x, (name, exact) in zip(answer, self.exact.items(), strict=True)
        )

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
