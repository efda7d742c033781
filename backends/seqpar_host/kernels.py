"""The two kernels as Python calls them: `walk_kernel` and `backward_kernel`.

`run` takes descriptions of memory, not arrays, so that NumPy, torch and JAX buffers are all the same to it. The caller
keeps the memory alive, has made the shapes canonical and allocates the results, C-contiguous.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar_host.compile import launcher
from seqpar_host.plan import Layout as Layout
from seqpar_host.plan import Plan, Walk, make_plan
from seqpar_host.threads import thread_limit as thread_limit


class Buffer(NamedTuple):
    """Memory of an operand: address, shape, strides in bytes (0 where broadcast), dtype name."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


_MOST_PLANS = 4096


class Kernel:
    """One kernel and the plans made for it."""

    def __init__(self, name: str, operands: Sequence[str], results: Sequence[str]) -> None:
        self.name, self.operands, self.results = name, tuple(operands), tuple(results)
        self._plans: dict[Any, Plan] = {}
        self._absent = (0,) * (10 - len(operands) - len(results))
        self._launch: Any = None

    def run(
        self,
        walk: Walk,
        operands: Sequence[Buffer | None],
        results: Sequence[Buffer | None],
        threads: int | None = None,
    ) -> None:
        """Fill the results. `threads` bounds the threads used; the numbers do not depend on it."""
        buffers = (*operands, *results)
        key = (walk, *[buffer and buffer[1:] for buffer in buffers])
        plan = self._plans.get(key)
        if plan is None:
            plan = self.plan(walk, [buffer and Layout(*buffer[1:]) for buffer in buffers])
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        count = plan.threads
        if count > 1:
            count = min(count, thread_limit() if threads is None else threads)
        pointers = [buffer[0] if buffer else 0 for buffer in buffers]
        self._launch(plan.address, count, *pointers, *self._absent)

    def forget(self) -> None:
        """Drop the plans made so far (their memory must outlive every call that runs)."""
        self._plans.clear()

    def plan(self, walk: Walk, layouts: Sequence[Layout | None]) -> Plan:
        self._launch = launcher()
        return make_plan(self.name, walk, layouts)


walk_kernel = Kernel("walk", ("a", "b", "h0", "resets"), ("h", "final"))
backward_kernel = Kernel("backward", ("a", "b", "h0", "resets", "h", "g", "g_final"), ("da", "db", "dh0"))
