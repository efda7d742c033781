"""The sequences that a Newton method still iterates, and those that have left."""

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
    kept: Array
    """Largest residual of the steps that have left."""
    best: Array
    """The states with the least residual so far."""
    least: Array
    """That residual, not relative to anything."""
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
    """Sequences that left."""

    rows: Array
    states: Array
    ended: Array
    """Their residual is within the tolerance."""
    lost: Array
    """They come to a step that returns no number, and have to be walked."""
    sweeps: Array
    residual: Array
