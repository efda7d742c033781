"""The sequences that a Newton method still iterates, and those that have left with their results."""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.problem import Array
from seqpar.solving.damping import Damping


class Active(NamedTuple):
    """The sequences that are still iterated. All arrays have them first."""

    rows: Array
    """Their places in the batch."""
    inputs: list[Array]
    h0: Array
    resets: Array | None
    guess: Array | None
    enters: Array
    """The state before the first step that is left."""
    exact: list[Array]
    """The states before that, piece by piece."""
    h: Array
    """The states that are iterated, (active, window, n)."""
    damping: Damping
    updates: list[Array]
    """Largest update of each number in each sweep, (active, n), relative to max(1, |h|)."""
    residuals: list[Array]
    """Largest residual that each of them answered."""
    kept: Array
    """Largest residual of the steps that have left."""
    best: Array
    """The states with the least residual so far."""
    least: Array
    """That residual, not relative to anything."""
    gain: Array
    """What a push of 1 in every step becomes; 0 where it was not measured."""
    since: Array
    """The sweep that found them right, where they wait for the others; 0 for none."""

    def taken(self, xp: Any, index: Array) -> Active:
        """Some of the sequences."""

        def of(x: Any) -> Any:
            if x is None:
                return None
            if isinstance(x, list):
                return [of(v) for v in x]
            return x.taken(xp, index) if isinstance(x, Damping) else xp.take(x, index, axis=0)

        return Active(*(of(x) for x in self))


class Finished(NamedTuple):
    """Sequences that left, with their results."""

    rows: Array
    states: Array
    converged: Array
    sweeps: Array
    residual: Array
    error_estimate: Array
