"""A nonlinear recurrence as the solvers see it: sequences side by side, then time, then the state; time runs forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.solving.stepping import Stepper
from seqpar.trees import Structure

Leaves = Sequence[Any]


@dataclass(frozen=True)
class Step:
    """The user's function of trees, as a function of their leaves."""

    function: Callable[[Any, Array, Any], Array]
    params: Structure
    inputs: Structure

    def __call__(self, params: Leaves, h: Array, x: Leaves) -> Array:
        """h (..., n), leaves of x (..., m) -> (..., n)."""
        return self.function(self.params.tree_of(params), h, self.inputs.tree_of(x))


@dataclass(frozen=True)
class Recurrence:
    """h[t] = step(params, h[t-1], x[t]) for `batch` sequences of `steps` steps; h[t-1] is h0 where resets[t]."""

    binding: Binding
    xp: Any
    step: Step
    params: Leaves
    """Leaves of the parameters; not all of them need be arrays."""
    inputs: Leaves
    """Arrays (batch, steps, ...)."""
    h0: Array
    """(batch, n)."""
    resets: Array | None
    """(batch, steps), boolean."""
    batch: int
    steps: int

    @property
    def state(self) -> int:
        """Numbers in a state."""
        return int(self.h0.shape[-1])

    def stepper(self) -> Stepper:
        return self.binding.stepper(self.step, self.params)

    def part(self, start: int, stop: int) -> Recurrence:
        """The steps from `start` to before `stop`, entered in h0."""
        return replace(
            self,
            inputs=[x[:, start:stop, ...] for x in self.inputs],
            resets=None if self.resets is None else self.resets[:, start:stop],
            steps=stop - start,
        )


class Solved(NamedTuple):
    """What a method found, sequence by sequence."""

    states: Array
    """(batch, steps, n)."""
    converged: Array
    """(batch,), boolean: it passed the method's test of agreement, or is exact by construction."""
    sweeps: Array
    """(batch,), integers: how many sweeps over time (iterations) each sequence took."""
    residual: Array
    """(batch,): what is left of the equations, relative to max(1, |h|); in shooting at the boundaries alone, by construction."""
    error_estimate: Array
    """(batch,): the residual carried through measured gains; infinite where none was measured."""
    method: str
    history: tuple[Any, ...] = ()
    """One entry a sweep: what was active, what was left."""
    chunk: int = 0
    """Steps of a chunk, which the backward pass takes over; 0 where time was not cut."""
