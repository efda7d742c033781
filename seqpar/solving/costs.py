"""What a sweep would cost, from sizes and the kind of hardware: never from a clock, so that equal calls make equal choices.

A step of a tile takes a fixed time, whatever its rows, and a time for each row. Only their ratio matters: how many rows come with
one for nothing.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper

FIXED = {("numpy", "cpu"): 2.8, ("torch", "cpu"): 8.0, ("jax", "cpu"): 0.7, ("jax", "cuda"): 12.0}
"""Microseconds of one step of few rows, with `USUAL` operators and calls: measured on the CPU, on a GPU the time of its launches.

All numbers of a CPU here are of `python -m seqpar_bench.solving_costs`, and with torch behind it."""

FIXED_ELSEWHERE = {"cpu": 20.0, "cuda": 60.0}

ROW = {("torch", "cpu"): (3e-3, 0.025e-3)}
"""Microseconds for each number of a state: elementwise work, and products for each number of state and input.
An Elman network of 32 units, 504 rows: 31 microseconds a step in NumPy, 81 in PyTorch."""

ROW_ELSEWHERE = {"cpu": (0.5e-3, 0.024e-3), "cuda": (0.6e-6, 0.02e-6)}

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


USUAL = 4
"""Operators and calls in the step of an Elman network, by which steps of a user's are weighed. A GRU written out has 15, and
takes 4.1 times as long in NumPy, 5.2 in PyTorch: taken for an Elman cell, it was walked where chunks halve its time."""


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
    weight = weight_of(recurrence.step.function)
    return Costs(
        weight * fixed,
        weight * n * (elementwise + products * (n + m)),
        EXCHANGE.get(where, EXCHANGES_ELSEWHERE * fixed),
        state + number * n,
    )


def weight_of(step: Callable[..., Any]) -> float:
    """How much more a step does than an Elman cell, by the operators and calls in its own code; what those call is not seen."""
    code = getattr(inspect.unwrap(step), "__code__", None)
    return 1.0 if code is None else max(1.0, _operators(code) / USUAL)


@lru_cache(maxsize=256)
def _operators(code: CodeType) -> int:
    """Indexing is a view, and much quicker."""
    names = [one.opname for one in dis.get_instructions(code)]
    arithmetic = [name for name in names if name.startswith(("BINARY_", "CALL", "COMPARE_", "UNARY_"))]
    return sum(name not in ("BINARY_SUBSCR", "BINARY_SLICE") for name in arithmetic)
