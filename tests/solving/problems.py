"""A system of `systems.py` in one rung of the ladder: the public call on it, and the loop its user would write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import array_api_compat

import seqpar
from ladder import Rung
from seqpar_bench.solving_cases import Array, Problem, System, at, leaves_of


@dataclass(frozen=True)
class Posed(Problem):
    """A system in one library and dtype."""

    def solve(self, **options: Any) -> Any:
        return seqpar.solve_recurrence(self.step, self.x, self.h0, self.params, length=self.length, **options)

    def given(self, **changes: Any) -> Posed:
        return replace(self, **changes)

    def loop(self) -> Array:
        """(batch, steps, n) step by step in the problem's own library, differentiable where that is."""
        xp = array_api_compat.array_namespace(self.h0)
        steps = self.length if self.length is not None else leaves_of(self.x)[0].shape[1]
        h, states = self.h0, []
        for t in range(steps):
            h = self.step(self.params, h, at(self.x, t))
            states.append(h)
        return xp.stack(states, axis=1) if states else xp.empty((h.shape[0], 0, h.shape[1]), dtype=h.dtype)


def posed(system: System, rung: Rung = Rung.NUMPY, dtype: str = "float32") -> Posed:
    namespace = array_api_compat.array_namespace(rung.array([0.0]))
    return Posed(**vars(system.problem(namespace, rung.array, dtype)))
