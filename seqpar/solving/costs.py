"""What a sweep would cost, from sizes and the kind of hardware: never from a clock, so that equal calls make equal choices.

A step of a tile takes a fixed time, whatever its rows, and a time for each row. Only their ratio matters: how many rows come with
one for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper

FIXED = {("numpy", "cpu"): 6.0, ("torch", "cpu"): 16.0, ("jax", "cpu"): 0.7, ("jax", "cuda"): 12.0}
"""Microseconds of one step of few rows, an Elman cell of 32 units: measured on the CPU, on a GPU the time of its launches."""

FIXED_ELSEWHERE = {"cpu": 20.0, "cuda": 60.0}

ROW = {"cpu": (0.6e-3, 0.03e-3), "cuda": (0.6e-6, 0.02e-6)}
"""Microseconds for each number of a state: elementwise work, and products for each number of state and input.
NumPy, 32 units: 5.3 microseconds for 1 row, 42 for 512."""


class Costs(NamedTuple):
    """Microseconds of one step of a tile."""

    fixed: float
    row: float

    @property
    def exchange(self) -> float:
        """One exchange of boundaries: about a hundred small array functions."""
        return 60.0 * self.fixed if self.fixed > 2.0 else 3000.0

    def walk(self, steps: float, rows: float) -> float:
        """Walking so many rows through so many steps."""
        return steps * (self.fixed + rows * self.row)


def costs(recurrence: Recurrence, stepper: Stepper) -> Costs:
    """What the recurrence at hand costs, roughly."""
    binding, n = recurrence.binding, recurrence.state
    device = binding.device(recurrence.h0)
    kind = device if device in ROW else "cuda"
    elementwise, products = ROW[kind]
    m = sum(int(x.shape[-1]) if x.ndim > 2 else 1 for x in recurrence.inputs)
    fixed = FIXED.get((binding.framework, kind), FIXED_ELSEWHERE[kind])
    return Costs(fixed, n * (elementwise + products * (n + m)))
