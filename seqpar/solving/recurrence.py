"""A nonlinear recurrence as the solvers see it: sequences side by side, then time, then the state; time runs forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.solving.bindings import solver_of
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
    entry: Array | None = None
    """(batch, n): what enters the first step, where that is not h0; resets still return to h0."""

    @property
    def first(self) -> Array:
        """The state that enters the first step."""
        return self.h0 if self.entry is None else self.entry

    @property
    def state(self) -> int:
        """Numbers in a state."""
        return int(self.h0.shape[-1])

    def stepper(self) -> Stepper:
        own = solver_of(self.binding).stepper(self.step, self.params)
        # A step may know a faster way for walks of itself, as cells do.
        faster = getattr(self.step.function, "_seqpar_stepper", None)
        return own if faster is None else faster(own, self.binding, self.step, self.params, self.h0)

    def part(self, start: int, stop: int, entry: Array | None = None) -> Recurrence:
        """The steps from `start` to before `stop`, entered in the state `entry`."""
        return replace(
            self,
            entry=entry,
            inputs=[x[:, start:stop, ...] for x in self.inputs],
            resets=None if self.resets is None else self.resets[:, start:stop],
            steps=stop - start,
        )

    def entered(self, entry: Array) -> Recurrence:
        """The same steps, entered in another state."""
        return replace(self, entry=entry)

    def repeated(self, times: int) -> Recurrence:
        """All sequences several times over, one set behind the other."""

        def again(x: Array | None) -> Array | None:
            return None if x is None else self.xp.concat([x] * times, axis=0)

        return replace(
            self,
            inputs=[again(x) for x in self.inputs],
            h0=again(self.h0),
            entry=again(self.entry),
            resets=again(self.resets),
            batch=self.batch * times,
        )

    def some(self, sequences: Any) -> Recurrence:
        """Some of the sequences, by their numbers (an integer array of the framework)."""
        take = self.xp.take
        return replace(
            self,
            inputs=[take(x, sequences, axis=0) for x in self.inputs],
            h0=take(self.h0, sequences, axis=0),
            entry=None if self.entry is None else take(self.entry, sequences, axis=0),
            resets=None if self.resets is None else take(self.resets, sequences, axis=0),
            batch=int(sequences.shape[0]),
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
    method: Any
    """Its name, or under tracing its number."""
    history: tuple[Any, ...] = ()
    """One entry a sweep: what was active, what was left."""
    chunk: int = 0
    """Steps of a chunk, which the backward pass takes over; 0 where time was not cut."""
