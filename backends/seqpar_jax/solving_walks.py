"""Walks over time in chunks that lie side by side, in XLA code: the recurrence, its tangents, its adjoints.

Row b * chunks + p is chunk p of sequence b, and the steps of a chunk are the axis behind the rows, so that cutting time is a
reshape and nothing is copied (time in front costs two copies of all states, 0.4 of 3.6 ms at T = 16,384, n = 32).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.chunks import Cut, cut
from seqpar_jax.avals import alike

StepOf = Callable[[Array, Sequence[Array]], tuple[Array, Array]]


class Walk(NamedTuple):
    """Something that is carried through time by a function of rows."""

    step: StepOf
    """What is carried (rows, n) and what this step reads -> what it leaves in the result, what is carried on."""
    reads: Sequence[Array]
    """(batch, steps, ...)."""
    start: Array
    """(batch, n)."""
    steps: int
    dropped: Array | None = None
    """(batch, steps): the step does not read what is carried, but `start`, or zero in a linear walk."""
    fresh: Array | None = None
    """(batch, n): what it reads instead."""
    reverse: bool = False

    @property
    def batch(self) -> int:
        return int(self.start.shape[0])

    def chunks(self, chunk: int) -> int:
        return cut(self.steps, self.batch, chunk).chunks

    def sequential(self) -> Array:
        """The definition: (batch, steps, n)."""
        tile = Tile(self, self.steps)
        return tile.states(tile.run(self.start)[0])


class Tile:
    """A walk cut into chunks."""

    def __init__(self, walk: Walk, chunk: int) -> None:
        self.walk, self.cut = walk, cut(walk.steps, walk.batch, chunk)
        self.reads = [_folded(x, self.cut) for x in walk.reads]

    def run(self, start: Array) -> tuple[Array, Array]:
        """From the states that enter the chunks (rows, n) to the results (rows, chunk, n) and what leaves the chunks."""
        if start.shape[0] == 1:
            return self._alone(start)
        empty = jnp.zeros((start.shape[0], self.cut.chunk, *start.shape[1:]), start.dtype)
        return self._run(start, empty, None)[:2]

    def _alone(self, start: Array) -> tuple[Array, Array]:
        """One row: time in front is a view, and a state without an axis for rows is a third of the work for XLA (a GRU of n = 8,
        T = 4,096: 0.9 ms against 2.4; `lax.scan` takes 0.9)."""

        def at(k: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
            h, moved = self.walk.step(k[None], [x[None] for x in reads])
            return moved[0], h[0]

        start, *_ = alike([start, *self.reads])
        reads = [x[0] for x in self.reads]
        end, states = lax.scan(at, start[0], reads, length=self.cut.chunk, reverse=self.walk.reverse)
        return states[None], end[None]

    def run_over(self, start: Array, states: Array, relative: bool = False) -> tuple[Array, Array, Array]:
        """The same over the results of another walk, in place, and how far the two are apart in each step: (chunk, rows).

        `relative` to the size of the states, step by step.
        """
        apart = jnp.zeros((self.cut.chunk, start.shape[0]), agreement.size(jnp, start[:0]).dtype)
        return self._run(start, states, apart, relative)

    def apart(self, start: Array, states: Array) -> Array:
        """How far a walk from other starts is from the results of one, relative to their size: (chunk, rows)."""

        def at(k: Array, i: Array) -> tuple[Array, Array]:
            h, moved = self.walk.step(
                k, [lax.dynamic_index_in_dim(x, i, 1, keepdims=False) for x in self.reads]
            )
            distance = agreement.distance(jnp, lax.dynamic_index_in_dim(states, i, 1, keepdims=False), h)
            return moved, distance / agreement.size(jnp, h)

        assert not self.walk.reverse
        start, *_ = alike([start, states, *self.reads])
        return lax.scan(at, start, jnp.arange(self.cut.chunk))[1]

    def end_of_burn_in(self, start: Array, steps: int) -> Array:
        """What the chunks end in when so many of their last steps are walked from these states: (rows, n)."""

        def at(i: Array, k: Array) -> Array:
            return self.walk.step(k, [lax.dynamic_index_in_dim(x, i, 1, keepdims=False) for x in self.reads])[
                1
            ]

        assert not self.walk.reverse
        start, *_ = alike([start, *self.reads])
        end: Array = lax.fori_loop(self.cut.chunk - steps, self.cut.chunk, at, start)
        return end

    def _run(
        self, start: Array, states: Array, apart: Array | None, relative: bool = False
    ) -> tuple[Array, Array, Any]:
        step, length, reverse = self.walk.step, self.cut.chunk, self.walk.reverse
        missing, filled = self.cut.chunks * length - self.cut.steps, None
        if reverse and missing:  # the steps that fill up come first, and hand on what enters
            filled = (jnp.arange(start.shape[0]) % self.cut.chunks == self.cut.chunks - 1)[:, None]

        def at(i: Array, carried: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
            k, states, apart = carried
            t = length - 1 - i if reverse else i
            h, moved = step(k, [lax.dynamic_index_in_dim(x, t, 1, keepdims=False) for x in self.reads])
            k = moved if filled is None else jnp.where(filled & (t >= length - missing), k, moved)
            if apart is not None:
                distance = agreement.distance(jnp, lax.dynamic_index_in_dim(states, t, 1, keepdims=False), h)
                distance = distance / agreement.size(jnp, h) if relative else distance
                apart = lax.dynamic_update_index_in_dim(apart, distance, i, 0)
                # 0, which XLA does not know: the old states are read before they are written over, or all would be copied.
                t = t + (distance[0] < 0)
            return k, lax.dynamic_update_index_in_dim(states, h, t, 1), apart

        start, states, *_ = alike([start, states, *self.reads])
        end, states, apart = lax.fori_loop(0, length, at, (start, states, apart))
        return states, end, apart

    def states(self, tile: Array) -> Array:
        """(rows, chunk, n) -> (batch, steps, n)."""
        x = tile.reshape(self.cut.batch, self.cut.chunks * self.cut.chunk, *tile.shape[2:])
        return x[:, : self.cut.steps]

    def by_chunk(self, rows: Array) -> Array:
        """(rows, ...) -> (chunks, batch, ...), in the order in which the walk meets the chunks."""
        x = jnp.moveaxis(rows.reshape(self.cut.batch, self.cut.chunks, *rows.shape[1:]), 1, 0)
        return x[::-1] if self.walk.reverse else x

    def by_row(self, x: Array) -> Array:
        """(chunks, batch, ...) -> (rows, ...)."""
        x = jnp.moveaxis(x[::-1] if self.walk.reverse else x, 0, 1)
        return x.reshape(self.cut.rows, *x.shape[2:])

    def entering(self, ends: Array) -> Array:
        """What enters each chunk after the first if the chunks end so: (chunks, batch, n) -> (chunks - 1, batch, n)."""
        ends = ends[:-1]
        if self.walk.dropped is None or self.walk.fresh is None:
            return ends
        first = jnp.moveaxis(self.walk.dropped[:, self.cut.chunk :: self.cut.chunk], 1, 0)[..., None]
        return jnp.where(first, self.walk.fresh[None], ends)


def _folded(x: Array, cut: Cut) -> Array:
    """(batch, steps, ...) -> (rows, chunk, ...), the end filled up with the last step."""
    missing = cut.chunks * cut.chunk - cut.steps
    if missing:
        x = jnp.concat([x, jnp.repeat(x[:, -1:], missing, axis=1)], axis=1)
    return x.reshape(cut.rows, cut.chunk, *x.shape[2:])
