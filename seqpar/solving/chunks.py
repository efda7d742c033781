"""Time cut into chunks that lie side by side: from (batch, steps, ...) to a tile (chunk, chunks * batch, ...) and back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from seqpar.dispatch.problem import Array


class Cut(NamedTuple):
    """`steps` steps of `batch` sequences in `chunks` chunks; row p * batch + b of a tile is chunk p of sequence b.

    The last chunk is filled up by repeating the last input: its states are thrown away, and no number is made up that the step
    might not bear.
    """

    steps: int
    batch: int
    chunk: int
    chunks: int

    @property
    def rows(self) -> int:
        return self.chunks * self.batch

    def tile(self, xp: Any, x: Array) -> Array:
        """(batch, steps, ...) -> (chunk, rows, ...), one copy."""
        rest = tuple(x.shape[2:])
        missing = self.chunk * self.chunks - self.steps
        if missing:
            last = xp.broadcast_to(x[:, -1:, ...], (self.batch, missing, *rest))
            x = xp.concat([x, last], axis=1)
        x = xp.reshape(x, (self.batch, self.chunks, self.chunk, *rest))
        x = xp.permute_dims(x, (2, 1, 0, *range(3, 3 + len(rest))))
        return xp.reshape(x, (self.chunk, self.rows, *rest))

    def states(self, xp: Any, tile: Array) -> Array:
        """(chunk, rows, n) -> (batch, steps, n), one copy."""
        x = xp.reshape(tile, (self.chunk, self.chunks, self.batch, tile.shape[-1]))
        x = xp.permute_dims(x, (2, 1, 0, 3))
        x = xp.reshape(x, (self.batch, self.chunk * self.chunks, tile.shape[-1]))
        return x if x.shape[1] == self.steps else x[:, : self.steps, ...]

    def by_chunk(self, xp: Any, rows: Array) -> Array:
        """(rows, ...) -> (chunks, batch, ...), a view."""
        return xp.reshape(rows, (self.chunks, self.batch, *rows.shape[1:]))

    def by_row(self, xp: Any, x: Array) -> Array:
        """(chunks, batch, ...) -> (rows, ...), a view."""
        return xp.reshape(x, (self.rows, *x.shape[2:]))


def cut(steps: int, batch: int, chunk: int) -> Cut:
    """Chunks of at most `chunk` steps, as equal as they can be, so that little is filled up."""
    chunks = max(1, math.ceil(steps / max(1, chunk)))
    return Cut(
        steps,
        batch,
        max(1, math.ceil(steps / chunks)),
        max(1, math.ceil(steps / max(1, math.ceil(steps / chunks)))),
    )
