"""Gradients of a solved recurrence: one linear recurrence backward in time, and one pullback of all steps at once.

With h[t] = step(p, h[t-1], x[t]) and the loss's gradients g[t] of the states, lambda[t] = g[t] + J[t+1]^T lambda[t+1], where
J[t] is the derivative of step t by the state that enters it. Then the gradients of p and x[t] are those of the steps against
lambda[t], and J[0]^T lambda[0] is that of h0. Nothing is known of how the states were found, and no graph of the walk is kept:
each step is computed again, so that memory stays a few times the size of the states.

The backward walk is cut into chunks and solved by the exchange of boundaries that serves the recurrence itself. Tiles are in
the order walked: their first step is the last one in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.adjoint_boundaries import Boundaries
from seqpar.solving.chunks import Cut, cut
from seqpar.solving.forward import Start
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.rows import on_device, put, take
from seqpar.solving.shooting import shoot
from seqpar.solving.stepping import Leaves

BLOCK_BYTES = 1 << 20
"""States whose steps are pulled back at once. What a step's graph holds is several times as large, and it is the only graph."""


class AdjointStepper(Protocol):
    """The transposed derivatives of a step, in whatever way a framework has them."""

    compiled: bool
    independent: bool

    def adjoint_walk(
        self, entering: Array, x: Leaves, resets: Array | None, gradient: Array, carry: Array
    ) -> tuple[Array, Array, Array | None]:
        """lambda = gradient + carry, then carry = J^T lambda, step by step: every lambda, the last carry, and what went to h0.

        entering, gradient: (steps, rows, n); x leaves: (steps, rows, ...); carry: (rows, n). At resets (steps, rows, 1) the state
        entering is h0, so that J^T lambda is its gradient (rows, n), and the carry becomes zero; None without resets.
        """

    def pull_back(
        self, entering: Array, x: Leaves, adjoint: Array
    ) -> tuple[Sequence[Array | None], Sequence[Array | None]]:
        """Gradients of one step of each row against lambda (rows, n): of what all steps share, summed, and of each leaf of x."""


class Gradients(NamedTuple):
    """Gradients of a recurrence; None where nothing depends on something, or nobody asked."""

    shared: list[Array | None]
    """Of what all steps share."""
    inputs: list[Array | None]
    """Of the leaves of x: (batch, steps, ...)."""
    h0: Array
    """(batch, n)."""


def gradients(
    recurrence: Recurrence, stepper: AdjointStepper, states: Array, gradient: Array, chunk: int
) -> Gradients:
    """All gradients, given the loss's of the states (batch, steps, n). chunk: 0 walks back one step after the other."""
    adjoint, h0 = solve_adjoint(recurrence, stepper, states, gradient, chunk)
    shared, inputs = pulled_back(recurrence, stepper, states, adjoint)
    return Gradients(shared, inputs, h0)


def solve_adjoint(
    recurrence: Recurrence, stepper: AdjointStepper, states: Array, gradient: Array, chunk: int
) -> tuple[Array, Array]:
    """lambda (batch, steps, n), and the gradient of h0 (batch, n).

    Agreement of chunks is relative to the largest gradient of a sequence: the scale of lambda is the loss's, not the state's.
    """
    xp = recurrence.xp
    if not recurrence.state:  # of no numbers there is no largest, and nothing to find
        return gradient, xp.zeros_like(recurrence.h0)
    walk = AdjointWalk(
        recurrence,
        stepper,
        states,
        gradient,
        cut(recurrence.steps, recurrence.batch, chunk or recurrence.steps),
    )
    tol = 0.0 if stepper.independent else agreement.STATED * agreement.epsilon(xp, gradient.dtype)
    newton = Boundaries(walk, tol)
    shot = shoot(walk, walk.starts(), tol=tol, exchange=newton.exchange, give_up=newton.enough)
    adjoint, h0 = walk.found(shot.tile, shot.ends)
    left = np.flatnonzero(~newton.agreed(shot))
    if not len(left):
        return adjoint, h0
    # What did not agree is walked one step after the other: there is no gradient that is known to be off.
    rows = on_device(xp, left, gradient)
    alone, states, gradient = recurrence.some(rows), take(xp, states, rows, 0), take(xp, gradient, rows, 0)
    found = solve_adjoint(alone, stepper, states, gradient, 0)
    return put(xp, adjoint, left, found[0], 0), put(xp, h0, left, found[1], 0)


def pulled_back(
    recurrence: Recurrence, stepper: AdjointStepper, states: Array, adjoint: Array
) -> tuple[list[Array | None], list[Array | None]]:
    """Gradients of what all steps share and of the leaves of x, a block of steps at a time."""
    xp, batch, steps = recurrence.xp, recurrence.batch, recurrence.steps
    row = recurrence.state * int(getattr(states, "itemsize", 8))
    block = max(1, BLOCK_BYTES // max(1, row * batch))
    shared: list[Array | None] = []
    inputs: list[Array | None] = [None] * len(recurrence.inputs)
    for start in range(0, steps, block):
        stop = min(steps, start + block)
        entering = entering_states(recurrence, states, start, stop)
        leaves = [_as_rows(xp, x[:, start:stop, ...]) for x in recurrence.inputs]
        of_shared, of_inputs = stepper.pull_back(
            _as_rows(xp, entering), leaves, _as_rows(xp, adjoint[:, start:stop, ...])
        )
        shared = [_sum(a, b) for a, b in zip(shared, of_shared, strict=True)] if start else list(of_shared)
        for i, part in enumerate(of_inputs):
            if part is None:
                continue
            if inputs[i] is None:
                rest = tuple(part.shape[1:])
                inputs[i] = xp.zeros((batch, steps, *rest), dtype=part.dtype, device=device(part))
            inputs[i][:, start:stop, ...] = xp.reshape(part, (batch, stop - start, *part.shape[1:]))  # type: ignore[index]
    return shared, inputs


def entering_states(recurrence: Recurrence, states: Array, start: int, stop: int) -> Array:
    """The states that enter these steps: (batch, stop - start, n)."""
    xp, h0 = recurrence.xp, recurrence.h0[:, None, :]
    before = h0 if start == 0 else states[:, start - 1 : start, :]
    h = xp.concat([before, states[:, start : stop - 1, :]], axis=1)
    if recurrence.resets is not None:
        h = xp.where(recurrence.resets[:, start:stop, None], h0, h)
    return h


class AdjointWalk:
    """The backward recurrence cut into chunks, as `seqpar.solving.shooting` walks it: the first chunk is the last in time.

    Where the chunks reach beyond the first step, the gradients there are zero, and lambda is what arrives at h0.
    """

    linear = True

    def __init__(
        self, recurrence: Recurrence, stepper: AdjointStepper, states: Array, gradient: Array, pieces: Cut
    ) -> None:
        xp = recurrence.xp
        self.xp, self.recurrence, self.stepper, self.cut = xp, recurrence, stepper, pieces
        self.compiled, self.independent = stepper.compiled, stepper.independent

        def walked(x: Array) -> Array:
            return pieces.tile(xp, xp.flip(x, axis=1))

        self.entered = walked(entering_states(recurrence, states, 0, recurrence.steps))
        self.inputs = [walked(x) for x in recurrence.inputs]
        self.resets = None if recurrence.resets is None else walked(recurrence.resets)[..., None]
        self.gradient = self._gradient_tile(gradient)
        sizes = xp.max(xp.max(xp.abs(self.gradient), axis=-1), axis=0)
        self.sizes = pieces.by_chunk(xp, sizes)
        """(chunks, batch): of the loss's gradients."""
        self.largest = _largest(xp, self.sizes)
        """(batch,)."""
        self.h0: Array | None = None

    def _gradient_tile(self, gradient: Array) -> Array:
        xp, pieces = self.xp, self.cut
        walked = xp.flip(gradient, axis=1)
        missing = pieces.chunk * pieces.chunks - pieces.steps
        if missing:
            filling = xp.zeros(
                (pieces.batch, missing, walked.shape[-1]), dtype=walked.dtype, device=device(walked)
            )
            walked = xp.concat([walked, filling], axis=1)
        return pieces._replace(steps=pieces.steps + missing).tile(xp, walked)

    def starts(self) -> Array:
        """What the chunks are guessed to be entered with: (chunks, batch, n).

        Nothing, as long as no gradient has come in, which is exact. From there on a pattern as large as the gradients, so that
        whatever is not forgotten shows.
        """
        xp, pieces = self.xp, self.cut
        seen = xp.astype(self.sizes != 0.0, xp.int32)
        before = xp.cumulative_sum(seen, axis=0) - seen
        spread = xp.astype(self.size_of(self.largest), xp.abs(self.gradient).dtype)
        spread = xp.broadcast_to(0.5 * spread[:, None], (pieces.batch, self.recurrence.state))
        zero = xp.zeros(
            (pieces.batch, self.recurrence.state), dtype=self.gradient.dtype, device=device(spread)
        )
        pattern = Start(zero, spread).pattern(self.recurrence, pieces.chunks)
        none = xp.zeros_like(pattern)
        return xp.where((before > 0)[..., None], pattern, none)

    def run(self, start: Array, rows: Array | None) -> tuple[Array, Array]:
        xp = self.xp
        entered, inputs, resets, gradient = self.entered, self.inputs, self.resets, self.gradient
        if rows is not None:
            entered, gradient = take(xp, entered, rows, 1), take(xp, gradient, rows, 1)
            inputs = [take(xp, x, rows, 1) for x in inputs]
            resets = None if resets is None else take(xp, resets, rows, 1)
        adjoint, end, h0 = self.stepper.adjoint_walk(entered, inputs, resets, gradient, start)
        if h0 is not None:
            self.h0 = h0 if rows is None else put(xp, self.h0, rows, h0, 0)
        return adjoint, end

    def entering(self, ends: Array) -> Array:
        return ends[:-1, ...]

    def size(self, ends: Array) -> Array:
        """The largest gradient of the whole sequence."""
        xp = self.xp
        largest = _largest(xp, xp.max(xp.abs(ends), axis=-1))
        largest = self.size_of(xp.where(largest > self.largest, largest, self.largest))
        return agreement.widened(xp, xp.broadcast_to(largest[None, :], tuple(ends.shape[:2])))

    def size_of(self, largest: Array) -> Array:
        """A size to divide by."""
        return self.xp.where(largest > 0.0, largest, self.xp.ones_like(largest))

    def found(self, tile: Array, ends: Array) -> tuple[Array, Array]:
        """lambda in the order of time, and the gradient of h0."""
        xp, pieces = self.xp, self.cut
        beyond = pieces.chunk * pieces.chunks - pieces.steps
        if beyond:  # the first step beyond the first one in time
            last = pieces.by_chunk(xp, tile[pieces.chunk - beyond, ...])[-1, ...]
        else:
            last = ends[-1, ...]
        if self.h0 is not None:
            last = last + xp.sum(pieces.by_chunk(xp, self.h0), axis=0)
        return xp.flip(pieces.states(xp, tile), axis=1), last


def _largest(xp: Any, sizes: Array) -> Array:
    """The largest finite size over the first axis."""
    return xp.max(xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes)), axis=0)


def _as_rows(xp: Any, x: Array) -> Array:
    return xp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def _sum(left: Array | None, right: Array | None) -> Array | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
