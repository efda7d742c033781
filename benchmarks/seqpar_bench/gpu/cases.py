"""What is measured on a GPU: shapes, the bytes that no implementation can avoid, and the goals.

A goal is a share of the copy bandwidth measured in the same run, for PyTorch; JAX and CuPy are to come within 15 % of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import seqpar

Array = Any
Pass = Literal["forward", "backward"]
PASSES: tuple[Pass, ...] = ("forward", "backward")

SIZES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "complex64": 8}
NEAR_TORCH = 0.85


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recurrence in one layout."""

    shape: tuple[int, ...]
    """Of the states; for matrices (batch, time, n)."""
    axis: int = 1
    dtype: str = "float32"
    matrices: bool = False
    goals: Mapping[tuple[str, Pass], float] = field(default_factory=dict)
    """By numerics and pass."""
    passes: tuple[Pass, ...] = PASSES

    @property
    def function(self) -> Any:
        return seqpar.matrix_recurrence if self.matrices else seqpar.linear_recurrence

    def call(self, a: Array, b: Array, **forced: Any) -> Array:
        """The public call."""
        return self.function(a, b, axis=self.axis, **forced)

    @property
    def shape_of_a(self) -> tuple[int, ...]:
        return (*self.shape, self.shape[-1]) if self.matrices else self.shape

    @property
    def steps(self) -> int:
        return self.shape[self.axis]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def bytes_moved(self, which: Pass) -> int:
        """Forward reads a and b and writes h. Backward reads a, h and g and writes da and db."""
        coefficients = self.shape[-1] if self.matrices else 1
        per_number = coefficients + 2 if which == "forward" else 2 * coefficients + 3
        return per_number * self.elements * SIZES[self.dtype]

    def goal(self, framework: str, numerics: str, which: Pass) -> float | None:
        goal = self.goals.get((numerics, which))
        return goal if goal is None or framework == "torch" else round(NEAR_TORCH * goal, 3)

    @property
    def weight(self) -> int:
        """Its part of the time, relative to others."""
        return 4 if self.goals else 1

    def small(self) -> "Case":
        """The same in small, for a run without a GPU."""
        sizes = [min(n, 48 if i == self.axis else 6) for i, n in enumerate(self.shape)]
        return replace(self, shape=tuple(sizes))

    def __str__(self) -> str:
        if self.matrices:
            return f"n = {self.shape[-1]}, batch {self.shape[0]}, T = {self.steps}"
        return str(self.shape) + (" time last" if self.axis == len(self.shape) - 1 else "")


def goals(any_forward: float, any_backward: float, forward: float, backward: float) -> Any:
    """Goals in the order of the table that states them: numerics "any", then "deterministic"."""
    return {
        ("any", "forward"): any_forward,
        ("any", "backward"): any_backward,
        ("deterministic", "forward"): forward,
        ("deterministic", "backward"): backward,
    }


TINY = Case(shape=(1, 8, 4))
"""So small that only the way to the kernel takes time."""

CASES = (
    Case(shape=(8, 65_536, 1536), goals=goals(0.80, 0.75, 0.58, 0.58)),
    Case(shape=(8, 1536, 65_536), axis=2, goals=goals(0.80, 0.75, 0.75, 0.70)),
    Case(shape=(1, 1_048_576, 64), goals=goals(0.70, 0.65, 0.55, 0.55)),
    Case(shape=(16, 16_384, 128), dtype="bfloat16", goals=goals(0.55, 0.50, 0.48, 0.48)),
    Case(shape=(256, 16_384, 4), matrices=True, goals={("any", "forward"): 0.45}),
    TINY,
    # In the order in which they are given up when time runs out.
    *(Case(shape=(256, 16_384, n), matrices=True) for n in (2, 8, 16)),
    Case(shape=(16, 16_384, 128), dtype="float16"),
    Case(shape=(8, 65_536, 1536), dtype="bfloat16"),
    Case(shape=(16, 16_384, 128), dtype="complex64", passes=("forward",)),
)
