"""What a sweep would cost, from sizes and the kind of hardware: never from a clock, so that equal calls make equal choices.

A step of a tile takes a fixed time, whatever its rows, and a time for each row. Only their ratio matters: how many rows come with
one for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper

FIXED = {("numpy", "cpu"): 3.5, ("torch", "cpu"): 8.5, ("jax", "cpu"): 0.7, ("jax", "cuda"): 12.0}
"""Microseconds of one step of few rows, an Elman cell of 32 units: measured on the CPU, on a GPU the time of its launches.

All numbers of a CPU here are of `python -m seqpar_bench.solving_costs`, and with torch behind it."""

FIXED_ELSEWHERE = {"cpu": 20.0, "cuda": 60.0}

ROW = {("torch", "cpu"): (3e-3, 0.025e-3)}
"""Microseconds for each number of a state: elementwise work, and products for each number of state and input.
32 units, 504 rows: 31 microseconds a step in NumPy, 81 in PyTorch."""

ROW_ELSEWHERE = {"cpu": (0.6e-3, 0.03e-3), "cuda": (0.6e-6, 0.02e-6)}

EXCHANGE = {("numpy", "cpu"): 700.0, ("torch", "cpu"): 1200.0, ("jax", "cpu"): 3000.0}
"""Microseconds of what surrounds a walk of chunks, whatever their size: about a hundred small array functions. It had been taken
for 360 in NumPy: 500 steps took four times as long in chunks as in the loop."""

EXCHANGES_ELSEWHERE = 60.0
"""The same in steps of few rows, where nothing was measured."""

COMPARE = {("numpy", "cpu"): (0.1, 2.5e-3), ("torch", "cpu"): (0.05, 4e-3)}
"""Microseconds of comparing two walks and laying states out, for each state and for each number of it. States of 8, 32, 256
numbers: 0.13, 0.19, 0.9 in NumPy and 0.12, 0.23, 1.4 in PyTorch, exchanges included. A step of 8 sequences and 32 units takes
NumPy half a microsecond for each."""

COMPARE_ELSEWHERE = {"cpu": (0.1, 4e-3), "cuda": (0.0, 2e-6)}


class Costs(NamedTuple):
    """Microseconds of one step of a tile."""

    fixed: float
    row: float
    exchange: float = 0.0
    """One exchange of boundaries."""
    compare: float = 0.0
    """Comparing two walks, for each state of one."""

    def walk(self, steps: float, rows: float) -> float:
        """Walking so many rows through so many steps."""
        return steps * (self.fixed + rows * self.row)


def costs(recurrence: Recurrence, stepper: Stepper) -> Costs:
    """What the recurrence at hand costs, roughly."""
    binding, n = recurrence.binding, recurrence.state
    device = binding.device(recurrence.h0)
    kind = device if device in ROW_ELSEWHERE else "cuda"
    where = binding.framework, kind
    elementwise, products = ROW.get(where, ROW_ELSEWHERE[kind])
    m = sum(int(x.shape[-1]) if x.ndim > 2 else 1 for x in recurrence.inputs)
    fixed = FIXED.get(where, FIXED_ELSEWHERE[kind])
    state, number = COMPARE.get(where, COMPARE_ELSEWHERE[kind])
    return Costs(
        fixed,
        n * (elementwise + products * (n + m)),
        EXCHANGE.get(where, EXCHANGES_ELSEWHERE * fixed),
        state + number * n,
    )
