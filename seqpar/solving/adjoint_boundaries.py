"""Boundaries of the backward recurrence through what never fades: found by Newton's method where handing them on is slow.

The backward recurrence is linear, so the end of a chunk is A start + c. Where gradients hardly shrink from chunk to chunk, as
through an integrator, handing boundaries on takes as many sweeps as there are chunks. Walking the n unit vectors through all
chunks gives A, and one matrix recurrence over the boundaries gives all of them at once.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.matrix_recurrence import matrix_recurrence
from seqpar.solving import agreement
from seqpar.solving.rows import host

if TYPE_CHECKING:
    from seqpar.solving.adjoint import AdjointWalk
    from seqpar.solving.shooting import Shot

WORTH = 2.0
"""Walks of unit vectors are begun where the sweeps to come are expected to be so many times as many."""

TRIES = 6
"""Exchanges by Newton's method after which what is left is walked one step after the other: a linear equation takes one, and a
few more for rounding."""

SINGLE = 1e-3
"""Errors relative to the largest gradient that rounding may add up to, unless it is that of half precision."""


class Boundaries:
    """The exchange of boundaries for one backward walk: handed on at first, by Newton's method if that goes too slowly."""

    def __init__(self, walk: AdjointWalk, tol: float) -> None:
        self.walk, self.tol = walk, max(tol, 1e-300)
        self.sweeps = 1
        self.tried = 0
        """Exchanges by Newton's method."""
        self.worst = math.inf
        """The largest mismatch when they were last looked at."""
        self.mismatch: float | None = None
        self.matrices: Array | None = None
        """A of all chunks: (chunks, batch, n, n)."""

    def exchange(self, tile: Array, starts: Array, entering: Array, walked: Any) -> Array:
        """New starts (chunks, batch, n) from the old ones and what enters each chunk."""
        xp = self.walk.xp
        if self.matrices is None and self._slow(entering, starts):
            self.matrices = self._walked_units()
        self.sweeps += 1
        if self.matrices is None:
            return entering
        self.tried += 1
        changes = self._errors(entering[1:, ...], starts[1:, ...])
        before = xp.concat([xp.zeros_like(changes[:1, ...]), changes[:-1, ...]], axis=0)
        # Not starts + changes: a start that is entered exactly has to stay so, to the bit.
        renewed = entering[1:, ...] + xp.matmul(self.matrices[:-1, ...], before[..., None])[..., 0]
        unchanged = xp.all(before == 0.0, axis=-1, keepdims=True)
        usable = xp.all(xp.isfinite(renewed), axis=-1, keepdims=True) & ~unchanged
        renewed = xp.where(usable, renewed, entering[1:, ...])
        return xp.concat([entering[:1, ...], renewed], axis=0)

    def enough(self, active: Any, mismatch: Any) -> bool:
        """Are boundaries that Newton's method found as good as rounding lets them be, or is it of no use here?"""
        if self.matrices is None:
            return False
        before, self.worst = self.worst, float(mismatch[active].max())
        stalled = self.tried >= 2 and not self.worst < 0.5 * before
        return self.worst <= self.tol or stalled or self.tried >= TRIES

    def agreed(self, shot: Shot) -> Any:
        """(batch,), boolean, on the host: the sequences whose boundaries agreed.

        Where nothing fades, mismatches of rounding add up to more than a test of forgetting takes. But the recurrence is linear,
        and with A known, so are the errors: what they become inside of chunks may be as large as rounding makes it.
        """
        agreed: Any = host(shot.agreed)
        if self.matrices is None or agreed.all():
            return agreed
        xp, walk = self.walk.xp, self.walk
        errors = xp.max(xp.abs(self._errors(walk.entering(shot.ends), shot.starts[1:, ...])), axis=-1)
        inside = errors / walk.size(shot.ends)[1:, ...] * shot.found.peak[1:, ...]
        inside = xp.where(errors == 0.0, xp.zeros_like(inside), inside)
        most = min(agreement.LOUD * self.tol, max(agreement.ACCEPTED * self.tol, SINGLE))
        return agreed | host(xp.all(inside <= most, axis=0))

    def _errors(self, entering: Array, starts: Array) -> Array:
        """How far all starts but the first (chunks - 1, batch, n) are from those that leave no mismatch."""
        xp, matrices = self.walk.xp, self.matrices
        assert matrices is not None
        a = xp.permute_dims(matrices[:-1, ...], (1, 0, 2, 3))
        errors = matrix_recurrence(a, xp.permute_dims(entering - starts, (1, 0, 2)))
        return xp.permute_dims(errors, (1, 0, 2))

    def _slow(self, entering: Array, starts: Array) -> bool:
        """By the mismatches of two sweeps: would handing on take longer than the unit vectors?"""
        xp, walk = self.walk.xp, self.walk
        if str(getattr(starts, "dtype", "")).rpartition(".")[2].startswith("complex"):
            return False  # the transpose of a step that conjugates is linear in real numbers alone
        left = walk.cut.chunks - self.sweeps
        price = WORTH * (walk.recurrence.state + 2)
        if left <= price:
            return False
        apart = xp.abs(entering - starts) / walk.size(entering)[..., None]
        before, self.mismatch = (
            self.mismatch,
            float(xp.max(xp.where(apart < math.inf, apart, xp.zeros_like(apart)))),
        )
        if before is None or self.mismatch == 0.0:
            return False
        if self.mismatch >= before:
            return True
        return math.log(self.mismatch / self.tol) / math.log(before / self.mismatch) > price

    def _walked_units(self) -> Array:
        """A, column by column."""
        xp, pieces = self.walk.xp, self.walk.cut
        alone = copy.copy(self.walk)
        alone.gradient = xp.zeros_like(self.walk.gradient)
        n, gradient = self.walk.recurrence.state, self.walk.gradient
        units = xp.eye(n, dtype=gradient.dtype, device=device(gradient))
        columns = []
        for i in range(n):
            _, end = alone.run(xp.broadcast_to(units[i, ...][None, :], (pieces.rows, n)), None)
            columns.append(pieces.by_chunk(xp, end)[..., None])
        return xp.concat(columns, axis=-1)
