"""Newton's exchange of boundaries: what a chunk makes of a change of its start is carried on to all chunks behind it.

With Phi[p] the derivative of a chunk's end by its start (the product of its steps' Jacobians), new starts are
s'[p+1] = e[p] + Phi[p] (s'[p] - s[p]): a matrix recurrence over chunks. Where a recurrence forgets slowly this needs a few sweeps
where the plain exchange, Phi = 0, needs one for each chunk that the memory spans.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.matrix_recurrence import matrix_recurrence
from seqpar.solving import agreement
from seqpar.solving.forward import ForwardWalk
from seqpar.solving.rows import on_device, put, take

BLOCK = 1 << 20
"""Numbers of Jacobians that are held at a time."""

EXPANDS = 1e6
"""A derivative as large as this makes new starts of rounding."""

FAR = 1e3
"""A start is not moved by more than so many times the size of the state: the derivatives do not reach that far."""

OFTEN = 4
"""Steps between two looks at the size of the derivatives: fewer than single precision needs to overflow."""


class NewtonExchange:
    """New starts by Newton's method; the plain exchange where that leaves what can be computed with."""

    def __init__(self, walk: ForwardWalk, bounds: tuple[Array, Array] | None) -> None:
        self.walk, self.bounds = walk, bounds
        self.phi: Array | None = None
        """(rows, n, n)."""

    def __call__(self, tile: Array, starts: Array, entering: Array, walked: Any) -> Array:
        """New starts (chunks, batch, n). walked: which chunks the last sweep walked, a NumPy mask (chunks, batch)."""
        walk, xp, cut = self.walk, self.walk.xp, self.walk.cut
        n = starts.shape[-1]
        self.phi = self._derivatives(tile, cut.by_row(xp, starts), np.flatnonzero(walked))
        phi = xp.reshape(self.phi, (cut.chunks, cut.batch, n, n))[:-1, ...]
        if walk.resets is not None:
            first = cut.by_chunk(xp, walk.resets[0, ...])[1:, ..., None]
            phi = xp.where(first, xp.zeros_like(phi), phi)
        mismatch = entering[1:, ...] - starts[1:, ...]
        changes = matrix_recurrence(xp.permute_dims(phi, (1, 0, 2, 3)), xp.permute_dims(mismatch, (1, 0, 2)))
        changes = xp.permute_dims(changes, (1, 0, 2))
        before = xp.concat([xp.zeros_like(changes[:1, ...]), changes[:-1, ...]], axis=0)
        near = (
            xp.max(xp.abs(before), axis=-1, keepdims=True)
            <= FAR * agreement.size(xp, starts[:-1, ...])[..., None]
        )
        before = xp.where(near, before, xp.zeros_like(before))
        # Not starts + changes: a start that is entered exactly has to stay so, to the bit.
        renewed = entering[1:, ...] + xp.matmul(phi, before[..., None])[..., 0]
        if self.bounds is not None:
            low, high = self.bounds
            renewed = xp.where(renewed < low, low, xp.where(renewed > high, high, renewed))
        unchanged = xp.all(before == 0.0, axis=-1, keepdims=True)
        usable = xp.all(xp.isfinite(renewed), axis=-1, keepdims=True) & ~unchanged
        renewed = xp.where(usable, renewed, entering[1:, ...])
        return xp.concat([entering[:1, ...], renewed], axis=0)

    def _derivatives(self, tile: Array, starts: Array, rows: Any) -> Array:
        """Phi, anew for the rows that were walked."""
        xp, walk = self.walk.xp, self.walk
        if self.phi is None or len(rows) > 0.6 * walk.cut.rows:
            return self._product(tile, starts, walk.inputs, walk.resets, walk.h0)
        index = on_device(xp, rows, starts)
        part = self._product(
            take(xp, tile, index, 1),
            take(xp, starts, index, 0),
            [take(xp, x, index, 1) for x in walk.inputs],
            None if walk.resets is None else take(xp, walk.resets, index, 1),
            take(xp, walk.h0, index, 0),
        )
        return put(xp, self.phi, rows, part, 0)

    def _product(
        self, tile: Array, starts: Array, inputs: list[Array], resets: Array | None, h0: Array
    ) -> Array:
        """J[C] ... J[1] for each row: the Jacobians of a block of steps at once, then one product a step."""
        xp, (steps, rows, n) = self.walk.xp, tile.shape
        entering = xp.concat([starts[None, ...], tile[:-1, ...]], axis=0)
        if resets is not None:
            entering = xp.where(resets, h0[None, ...], entering)
        phi = xp.broadcast_to(xp.eye(n, dtype=tile.dtype, device=device(tile))[None, ...], (rows, n, n))
        block = max(1, BLOCK // max(1, rows * n * n))
        for first in range(0, steps, block):
            last = min(steps, first + block)
            flat = (last - first) * rows
            h = xp.reshape(entering[first:last, ...], (flat, n))
            x = [xp.reshape(leaf[first:last, ...], (flat, *leaf.shape[2:])) for leaf in inputs]
            jacobians = xp.reshape(self.walk.stepper.jacobian(h, x), (last - first, rows, n, n))
            for t in range(last - first):
                jacobian = jacobians[t, ...]
                if resets is not None:
                    jacobian = xp.where(resets[first + t, ..., None], xp.zeros_like(jacobian), jacobian)
                phi = xp.matmul(jacobian, phi)
                if t % OFTEN == OFTEN - 1:
                    phi = _bounded(xp, phi)
        return _bounded(xp, phi)


def _bounded(xp: Any, phi: Array) -> Array:
    """Derivatives without those that say nothing: a chunk that expands so much gets the plain exchange, Phi = 0."""
    largest = xp.max(xp.abs(phi), axis=(1, 2), keepdims=True)
    return xp.where(largest <= EXPANDS, phi, xp.zeros_like(phi))
