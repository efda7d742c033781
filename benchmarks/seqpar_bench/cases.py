"""The inputs that are measured, by name. Shapes are (batch, time, features), or (rows, time) with time last."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class Case:
    """One size and layout of a linear recurrence."""

    name: str
    shape: tuple[int, ...]
    axis: int = -2
    dtype: str = "float32"
    decay: tuple[float, float] = (0.9, 1.0)
    """Coefficients are drawn uniformly from here."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes_moved(self) -> int:
        """The least traffic of a forward pass: read a, read b, write h. `numpy.add` moves the same."""
        return 3 * self.elements * np.dtype(self.dtype).itemsize

    def arrays(self, seed: int = 0) -> tuple[Array, Array]:
        """(a, b) as NumPy arrays, always the same."""
        rng = np.random.default_rng(seed)
        a = rng.uniform(*self.decay, self.shape).astype(self.dtype)
        b = rng.standard_normal(self.shape).astype(self.dtype)
        return a, b


FEATURES = Case("features last", (4, 4096, 256))
TIME_LAST = Case("time last", (1024, 4096), axis=-1)
TINY = Case("tiny", (1, 8, 4))
QUICK = Case("quick", (2, 512, 64))
FILTER = Case("filter", (64, 65_536), axis=-1, dtype="float64")
LONG_MEMORY = Case("long memory", (1, 131_072, 16), decay=(0.999, 1.0))

CASES = (FEATURES, TIME_LAST, QUICK)
"""What the pytest-benchmark suite runs through every framework."""
