"""The recurrence as something that can be walked in chunks, and the states that its chunks are guessed to start in."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.chunks import Cut
from seqpar.solving.pattern import signs
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.rows import take
from seqpar.solving.stepping import Stepper


class ForwardWalk:
    """Chunks of a `Recurrence`, walked by a `Stepper`."""

    linear = False

    def __init__(self, recurrence: Recurrence, stepper: Stepper, cut: Cut) -> None:
        self.recurrence, self.stepper, self.cut = recurrence, stepper, cut
        self.xp = xp = recurrence.xp
        self.compiled = stepper.compiled
        self.independent = stepper.independent
        self.inputs = [cut.tile(xp, x) for x in recurrence.inputs]
        self.resets = None
        if recurrence.resets is not None:
            self.resets = cut.tile(xp, recurrence.resets)[..., None]
        n = recurrence.state
        self.h0 = xp.reshape(
            xp.broadcast_to(recurrence.h0[None, ...], (cut.chunks, cut.batch, n)), (cut.rows, n)
        )

    def run(self, start: Array, rows: Array | None) -> tuple[Array, Array]:
        inputs, resets, h0 = self.inputs, self.resets, self.h0
        if rows is not None:
            inputs = [take(self.xp, x, rows, 1) for x in inputs]
            resets = None if resets is None else take(self.xp, resets, rows, 1)
            h0 = take(self.xp, h0, rows, 0)
        states, end = self.stepper.walk(start, self.cut.chunk, inputs, resets, h0)
        assert states is not None
        return states, end

    def entering(self, ends: Array) -> Array:
        ends = ends[:-1, ...]
        if self.resets is None:
            return ends
        first = self.cut.by_chunk(self.xp, self.resets[0, ...])[1:, ...]
        return self.xp.where(first, self.recurrence.h0[None, ...], ends)

    def size(self, ends: Array) -> Array:
        return agreement.size(self.xp, ends)


@np.errstate(all="ignore")
def guessed(recurrence: Recurrence, stepper: Stepper, cut: Cut, start: Start, burn_in: int) -> Array:
    """States for the chunks to start in: (chunks, batch, n), those of the first chunk exact.

    From a burn-in: the last `burn_in` steps before each chunk, walked from `start`, as far as the chunk before reaches.
    """
    xp = recurrence.xp
    starts = start.states(recurrence, cut)
    burn_in = min(burn_in, cut.chunk)
    first = recurrence.first[None, ...]
    if cut.chunks == 1:
        return first
    if burn_in <= 0:
        return xp.concat([first, starts[1:, ...]], axis=0)
    walk = ForwardWalk(recurrence, stepper, cut)
    skip = cut.chunk - burn_in
    _, end = stepper.walk(
        cut.by_row(xp, xp.concat([starts[1:, ...], starts[-1:, ...]], axis=0)),
        burn_in,
        [x[skip:, ...] for x in walk.inputs],
        None if walk.resets is None else walk.resets[skip:, ...],
        walk.h0,
        keep=False,
    )
    return xp.concat([first, walk.entering(cut.by_chunk(xp, end))], axis=0)


class Start:
    """States to start chunks in when nothing is known: a pattern of two values for each number of the state.

    It differs from chunk to chunk by half the size of the state in every number, so that whatever the recurrence does not forget
    shows as a mismatch; starts of zero hide it (an integrator that moves by 5e-8 a step agrees with its neighbours to 1e-5 and
    is wrong by 1e-3 in the end).
    """

    def __init__(self, centre: Array, spread: Array, guess: Array | None = None, bounds: Any = None) -> None:
        self.centre = centre
        """(batch, n)."""
        self.spread = spread
        """(batch, n)."""
        self.guess = guess
        """(batch, steps, n), or None: what the user takes the states to be."""
        self.bounds = bounds

    def states(self, recurrence: Recurrence, cut: Cut) -> Array:
        """(chunks, batch, n)."""
        xp = recurrence.xp
        if self.guess is not None:
            before = self.guess[:, cut.chunk - 1 : cut.steps - 1 : cut.chunk, ...]
            before = xp.permute_dims(before, (1, 0, 2))
            before = self.within(xp, before[: cut.chunks - 1, ...])
            return xp.concat([recurrence.first[None, ...], before], axis=0)
        return self.pattern(recurrence, cut.chunks)

    def pattern(self, recurrence: Recurrence, many: int) -> Array:
        """(many, batch, n), different states by the same rule for every call."""
        xp = recurrence.xp
        centre = xp.broadcast_to(self.centre[None, ...], (many, *self.centre.shape))
        apart = xp.astype(signs(xp, centre) * self.spread[None, ...], centre.dtype)
        return self.within(xp, centre + apart)

    def within(self, xp: Any, states: Array) -> Array:
        """The states moved into the bounds that the user gave."""
        if self.bounds is None:
            return states
        low, high = self.bounds
        states = xp.where(states < low, low, states)
        return xp.where(states > high, high, states)


def around(xp: Any, h0: Array, guess: Array | None = None, bounds: Any = None) -> Start:
    """Starts around the initial states."""
    size = xp.abs(h0)
    return Start(h0, 0.5 * xp.where(size > 1.0, size, xp.ones_like(size)), guess, bounds)
