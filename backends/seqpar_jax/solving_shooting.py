"""Multiple shooting in JAX's control flow: sweeps in a `while_loop`, what did not agree walked again step by step.

No Python value depends on data. All chunks are walked in every sweep; masks freeze the sequences that agree. A short probe at the
beginning keeps sequences that do not forget from being swept at all. What agreement means is the library's
(`seqpar.solving.agreement`).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.agreement import Gains
from seqpar.solving.shooting import nearby
from seqpar_jax.avals import alike
from seqpar_jax.solving_walks import Tile, Walk

PROBES = 4
"""Chunks that are walked from two starts before all are."""


class Aim(NamedTuple):
    """How far to go."""

    chunk: int
    tol: float
    most: int
    """Sweeps at most."""
    burn_in: int = 0
    """Steps walked before each chunk to guess the state that it starts in."""
    fixed: bool = False
    """Exactly so many, whatever is seen in between."""
    watch: bool = False
    """Leave sequences that will not agree in so many sweeps."""
    exact: bool = False
    """Walk those that have not agreed step by step."""


class Shot(NamedTuple):
    """Results, and for each sequence what they are worth."""

    states: Array
    """(batch, steps, n)."""
    converged: Array
    sweeps: Array
    residual: Array
    error_estimate: Array


def exactly(walk: Walk) -> Shot:
    """By the definition."""
    return _exact(walk, walk.sequential())


def shoot(walk: Walk, starts: Array, aim: Aim, scale: Array | None = None) -> Shot:
    """starts: (chunks, batch, n) in the order of the walk; scale (batch,): what mismatches are relative to, or max(1, |h|)."""
    tile = Tile(walk, aim.chunk)
    if tile.cut.chunks == 1:
        return exactly(walk)
    starts = jnp.concat([walk.start[None], starts[1:]])
    if aim.burn_in:
        end = tile.end_of_burn_in(tile.by_row(starts), min(aim.burn_in, tile.cut.chunk))
        starts = jnp.concat([walk.start[None], tile.entering(tile.by_chunk(end))])
    promising = _promising(tile, starts, aim, scale) if aim.watch else jnp.full(walk.batch, True)
    unknown = agreement.unmeasured(jnp, jnp.zeros((tile.cut.chunks, walk.batch), _real(starts)))
    none = unknown.end[0]
    states = jnp.zeros((tile.cut.rows, tile.cut.chunk, starts.shape[-1]), starts.dtype)
    state = _Sweeps(
        jnp.int32(0), starts, starts, states, unknown, ~promising & False, promising,
        jnp.zeros(walk.batch, jnp.int32), none, none,
    )  # fmt: skip
    leaves, structure = jax.tree.flatten(state)
    met = len(leaves)
    state = jax.tree.unflatten(structure, alike([*leaves, *tile.reads])[:met])

    def going(state: _Sweeps) -> Array:
        open_ = jnp.any(~state.agreed & state.promising)
        return (state.taken < aim.most) & (True if aim.fixed else open_)

    state = lax.while_loop(going, lambda state: _sweep(tile, state, aim, scale), state)
    shot = Shot(tile.states(state.states), state.agreed, state.sweeps, state.residual, state.error_estimate)
    return completed(walk, shot, ~shot.converged) if aim.exact else shot


class _Sweeps(NamedTuple):
    taken: Array
    starts: Array
    """(chunks, batch, n), like `ends`."""
    ends: Array
    states: Array
    """(rows, chunk, n)."""
    found: Gains
    """(chunks, batch) each."""
    agreed: Array
    """(batch,), like all below."""
    promising: Array
    sweeps: Array
    residual: Array
    error_estimate: Array


def _sweep(tile: Tile, before: _Sweeps, aim: Aim, scale: Array | None) -> _Sweeps:
    """Exchange boundaries, walk all chunks, judge."""
    first = before.taken == 0
    open_ = ~before.agreed & before.promising
    entering = jnp.concat([before.starts[:1], tile.entering(before.ends)])
    starts = jnp.where(first | ~open_[:, None], before.starts, entering)
    # An agreed sequence is walked from the same starts, and finds the same states.
    states, ends, apart = tile.run_over(tile.by_row(starts), before.states, relative=scale is None)
    ends = tile.by_chunk(ends)
    sizes = agreement.size(jnp, ends)
    if scale is not None:
        largest = jnp.max(jnp.abs(ends), axis=(0, 2))
        sizes = jnp.broadcast_to(jnp.where(largest > scale, largest, scale), sizes.shape)
    taken = before.taken + 1

    def judged() -> tuple[Gains, Array, Array, Array, Array]:
        epsilon = agreement.epsilon(jnp, starts.dtype)
        # A linear walk has one scale for all of time; states are measured by their own size, step by step.
        unit = epsilon * (jnp.ones_like(sizes) if scale is None else sizes)
        near = agreement.near(epsilon) / epsilon if scale is None else math.inf
        found = _measured(tile, before, starts, apart, unit, near)
        judged = agreement.judge(jnp, tile.entering(ends), starts, sizes, found, aim.tol)
        if (
            scale is None
        ):  # two walks of a linear recurrence tell all; here another from nearby does, where it matters
            unknown = jnp.any(jnp.isinf(found.end[1:]), axis=0) & judged.close & open_
            found = lax.cond(
                jnp.any(unknown),
                lambda: _nearby(tile, starts, states, unit, near, found),
                lambda: found,
            )
            judged = agreement.judge(jnp, tile.entering(ends), starts, sizes, found, aim.tol)
        promising = before.promising
        if aim.watch:
            slowest = jnp.max(jnp.where(jnp.isfinite(found.end), found.end, 0), axis=0)
            left = judged.residual * slowest ** (aim.most - taken)
            promising = promising & (left <= aim.tol)
        return found, judged.agreed, promising, judged.residual, judged.error_estimate

    def unjudged() -> tuple[Gains, Array, Array, Array, Array]:
        return before.found, before.agreed, before.promising, before.residual, before.error_estimate

    # The first linear walk tells nothing, unless none will follow.
    blind = first & (aim.most > 1) & (scale is not None)
    found, agreed, promising, residual, estimate = lax.cond(blind, unjudged, judged)
    return _Sweeps(
        taken, starts, ends, states, found, agreed, promising,
        jnp.where(open_, taken, before.sweeps), residual, estimate,
    )  # fmt: skip


def _nearby(tile: Tile, starts: Array, states: Array, unit: Array, near: float, found: Gains) -> Gains:
    """The gains that a walk from nearby shows, where none were known."""
    moved = nearby(jnp, starts, agreement.size(jnp, starts))
    inside = jnp.moveaxis(tile.by_chunk(tile.apart(tile.by_row(moved), states).T), 2, 0)
    first = agreement.distance(jnp, starts, moved) / agreement.size(jnp, starts)
    least = min(agreement.INFORMATIVE, 0.5 / math.sqrt(agreement.epsilon(jnp, starts.dtype)))
    seen = agreement.gains(jnp, jnp.concat([first[None], inside]), unit, near, least)
    return Gains(*(jnp.where(jnp.isinf(old), new, old) for new, old in zip(seen, found, strict=True)))


def _measured(tile: Tile, before: _Sweeps, starts: Array, apart: Array, unit: Array, near: float) -> Gains:
    """The gains that this walk and the one before it show, where they started apart."""
    first = agreement.distance(jnp, before.starts, starts)
    first = first if math.isinf(near) else first / agreement.size(jnp, starts)
    inside = jnp.moveaxis(tile.by_chunk(apart.T), 2, 0)
    seen = agreement.gains(jnp, jnp.concat([first[None], inside]), unit, near)
    better = agreement.worse(jnp, before.found, seen)
    moved = (before.taken > 0) & (first > 0)
    return Gains(*(jnp.where(moved, new, old) for new, old in zip(better, before.found, strict=True)))


def _promising(tile: Tile, starts: Array, aim: Aim, scale: Array | None) -> Array:
    """Do a few chunks forget, within their length, enough of where they start for the sweeps at hand? (batch,)."""
    walk, (_, batch, chunk, chunks) = tile.walk, tile.cut
    chosen = np.unique(np.linspace(0, chunks - 1, PROBES).astype(int))
    twice = np.concatenate([chosen, chosen])

    def rows(x: Array) -> Array:
        return x.reshape(batch * len(twice), *x.shape[2:])

    reads = [rows(x.reshape(batch, chunks, *x.shape[1:])[:, twice]) for x in tile.reads]
    pair = jnp.repeat(jnp.moveaxis(starts[:2], 0, 1), len(chosen), axis=1)
    ends = _end(walk, reads, rows(pair), chunk).reshape(pair.shape)
    apart = agreement.distance(jnp, *jnp.split(ends, 2, axis=1))
    size = agreement.size(jnp, ends[:, : len(chosen)]) if scale is None else scale[:, None]
    gain = jnp.max(apart / size, axis=1)
    # A NaN is at no distance from another and infinitely far from a number: sweeps find both out.
    return ~(gain ** (aim.most - 1) > PATIENCE * aim.tol)


PATIENCE = 1e3
"""Sweeps are begun also where the probe says that they will miss the tolerance by this factor: it has seen little."""


def _end(walk: Walk, reads: Sequence[Array], start: Array, steps: int) -> Array:
    """What is carried out of a walk of these rows."""

    def at(i: Array, k: Array) -> Array:
        t = steps - 1 - i if walk.reverse else i
        return walk.step(k, [lax.dynamic_index_in_dim(x, t, 1, keepdims=False) for x in reads])[1]

    start, *_ = alike([start, *reads])
    end: Array = lax.fori_loop(0, steps, at, start)
    return end


def completed(walk: Walk, shot: Shot, rest: Array) -> Shot:
    """The sequences of the mask `rest` (batch,) by the definition."""

    # A loop of one round at most: under vmap it runs if one example needs it, where a `cond` would always run both branches.
    # What enters changes from round to round, or XLA would move the walk in front of the loop.
    def once(state: tuple[Array, Array, Shot]) -> tuple[Array, Array, Shot]:
        _, start, shot = state
        states = walk._replace(start=start).sequential()
        exact = _exact(walk, states)._replace(sweeps=shot.sweeps + 1)
        pairs = zip(exact, shot, strict=True)
        shot = Shot(*(jnp.where(rest.reshape(-1, *(1,) * (x.ndim - 1)), x, y) for x, y in pairs))
        return jnp.bool(True), states[:, -1], shot

    def needed(state: tuple[Array, Array, Shot]) -> Array:
        return ~state[0] & jnp.any(rest)

    return lax.while_loop(needed, once, (jnp.bool(False), walk.start, shot))[2]


def _exact(walk: Walk, states: Array) -> Shot:
    nothing = jnp.zeros(walk.batch, _real(states))
    return Shot(states, jnp.full(walk.batch, True), jnp.ones(walk.batch, jnp.int32), nothing, nothing)


def pattern(chunks: int, centre: Array, spread: Array) -> Array:
    """Different starts by the same rule for every call, half a spread around the centre: (chunks, batch, n)."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (chunks, 1, centre.shape[-1]))
    return centre + jnp.asarray(signs, spread.dtype) * spread


def _real(x: Array) -> Any:
    """The dtype of sizes and distances."""
    return agreement.size(jnp, x[:0]).dtype
