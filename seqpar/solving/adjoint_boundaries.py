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

if TYPE_CHECKING:
    from seqpar.solving.adjoint import AdjointWalk

WORTH = 2.0
"""Walks of unit vectors are begun where the sweeps to come are expected to be so many times as many."""


class Boundaries:
    """The exchange of boundaries for one backward walk: handed on at first, by Newton's method if that goes too slowly."""

    def __init__(self, walk: AdjointWalk, tol: float) -> None:
        self.walk, self.tol = walk, max(tol, 1e-300)
        self.sweeps = 1
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
        by = entering - starts
        a = xp.permute_dims(self.matrices[:-1, ...], (1, 0, 2, 3))
        correction = matrix_recurrence(a, xp.permute_dims(by[1:, ...], (1, 0, 2)))
        correction = xp.permute_dims(correction, (1, 0, 2))
        renewed = xp.concat([starts[:1, ...], starts[1:, ...] + correction], axis=0)
        finite = xp.all(xp.all(xp.isfinite(renewed), axis=-1), axis=0)
        return xp.where(finite[None, :, None], renewed, entering)

    def enough(self, active: Any, mismatch: Any) -> bool:
        """Are boundaries that Newton's method found as good as rounding lets them be?"""
        return self.matrices is not None and bool((mismatch <= self.tol).all())

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
