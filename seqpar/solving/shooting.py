"""Multiple shooting: chunks of time walked side by side from guessed states, until each starts where the one before it ends.

The exchange of boundaries, `shoot`, serves everything that can be walked in chunks from given starts: the recurrence itself
(`seqpar.solving.forward`) and its adjoint (`seqpar.solving.adjoint`). After k sweeps the first k chunks are exact whatever the
recurrence does, so it cannot fail, only be slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.agreement import Gains, Judgement, widened
from seqpar.solving.chunks import Cut
from seqpar.solving.pattern import signs
from seqpar.solving.rows import host, on_device, put, take

BLOCK = 1 << 18
"""Numbers compared at a time: they stay in the cache, and need no second copy of all states."""


class Walk(Protocol):
    """A recurrence cut into chunks."""

    xp: Any
    cut: Cut
    compiled: bool
    """Does another number of rows mean another compilation?"""
    independent: bool
    """Is a row's result the same to the bit whatever the other rows are, and however many?"""

    def run(self, start: Array, rows: Array | None) -> tuple[Array, Array]:
        """Walk rows, all or those with these numbers, from their starts (rows, n): states (chunk, rows, n), and the ends."""

    def entering(self, ends: Array) -> Array:
        """(chunks, batch, n) -> (chunks - 1, batch, n): what enters each next chunk if this one ends so (a reset drops it)."""

    def size(self, ends: Array) -> Array:
        """(chunks, batch, n) -> (chunks, batch): what differences are relative to."""

    linear: bool
    """Do differences of any size go the same way?"""


Exchange = Callable[[Array, Array, Array, Any], Array]
"""New starts (chunks, batch, n) from the states (chunk, rows, n), the starts, what enters each chunk, and which chunks the last
sweep walked (a NumPy mask)."""

GiveUp = Callable[[Any, Any], bool]
"""Asked before each further sweep: (which chunks would be walked, their mismatches; NumPy, (chunks, batch)) -> stop here?"""


class Shot(NamedTuple):
    """Where an exchange of boundaries ended."""

    tile: Array
    """(chunk, rows, n)."""
    starts: Array
    """(chunks, batch, n)."""
    ends: Array
    judged: Judgement
    found: Gains
    agreed: Any
    """(batch,), boolean: the sequence passed the test, or is exact. On the host, unless the number of sweeps was fixed."""
    exact: Any
    """(batch,), integers on the host: how many chunks from the start on are exact."""
    sweeps: Any
    """(batch,), integers on the host."""
    history: tuple[dict[str, Any], ...]


# What NumPy warns of at states that are merely guessed is nothing that users could do anything about.
@np.errstate(all="ignore")
def shoot(
    walk: Walk,
    starts: Array,
    *,
    tol: float,
    max_sweeps: int | None = None,
    give_up: GiveUp | None = None,
    exchange: Exchange | None = None,
    accepted: float = agreement.ACCEPTED,
    before: Array | None = None,
) -> Shot:
    """Exchange boundaries until they agree. starts: (chunks, batch, n), of which the first chunk's are exact, or wrong by
    `before` (batch,), relative to max(1, |h|).

    Agreement within `tol` is believed while its estimated error stays below `accepted` tolerances. A chunk is walked again if,
    and only if, its start has changed. One small array is read back from the device in each sweep, two with `give_up`.
    """
    xp, cut = walk.xp, walk.cut
    most = cut.chunks if max_sweeps is None else min(max_sweeps, cut.chunks)
    tile, end = walk.run(cut.by_row(xp, starts), None)
    ends = cut.by_chunk(xp, end)
    found = agreement.unmeasured(xp, walk.size(ends))
    measured = np.zeros(cut.batch, bool)
    sweeps = np.ones(cut.batch, np.int64)
    history: list[dict[str, Any]] = []
    taken, walked = 1, np.ones((cut.chunks, cut.batch), bool)
    while True:
        entering = walk.entering(ends)
        judged = agreement.judge(
            xp, entering, starts, walk.size(ends), found, tol, walk.independent, accepted, before
        )
        close = host(judged.close)
        if (close & ~measured).any() and not (walk.linear or walk.independent or cut.chunks == 1):
            found = measure(walk, starts, tile, ends, found, close & ~measured)
            measured |= close
            continue
        differ, agreed = host(judged.differ), host(judged.agreed)
        active = differ & ~agreed
        history.append({"sweep": taken, "chunks": int(differ.sum()), "sequences": int(active.any(0).sum())})
        if not active.any() or taken >= most:
            break
        if give_up is not None and give_up(active, host(judged.mismatch)):
            break
        mask = on_device(xp, active, starts)
        entering = xp.concat([starts[:1, ...], entering], axis=0)
        if exchange is not None:
            entering = exchange(tile, starts, entering, walked)
        renewed = xp.where(mask[..., None], entering, starts)
        walked = active
        tile, ends, found = _again(walk, (starts, renewed), active, tile, ends, found)
        starts = renewed
        taken += 1
        sweeps = np.where(active.any(axis=0), taken, sweeps)
    first = np.where(differ.any(axis=0), differ.argmax(axis=0), cut.chunks)
    return Shot(tile, starts, ends, judged, found, agreed, first, sweeps, tuple(history))


@np.errstate(all="ignore")
def shoot_fixed(walk: Walk, starts: Array, *, tol: float, sweeps: int) -> Shot:
    """Exactly so many sweeps over all chunks, one walk from nearby, and nothing read back: for the capture of graphs."""
    xp, cut = walk.xp, walk.cut
    taken = np.full(cut.batch, min(sweeps, cut.chunks))
    tile, end = walk.run(cut.by_row(xp, starts), None)
    for _ in range(min(sweeps, cut.chunks) - 1):
        starts = xp.concat([starts[:1, ...], walk.entering(cut.by_chunk(xp, end))], axis=0)
        tile, end = walk.run(cut.by_row(xp, starts), None)
    ends = cut.by_chunk(xp, end)
    pair = cut.by_row(xp, starts), cut.by_row(xp, nearby(xp, starts, agreement.size(xp, starts)))
    seen = _seen(walk, pair, (tile, walk.run(pair[1], None)[0]), _unit(walk, ends))
    found = Gains(*(cut.by_chunk(xp, x) for x in seen))
    judged = agreement.judge(xp, walk.entering(ends), starts, walk.size(ends), found, tol, walk.independent)
    return Shot(tile, starts, ends, judged, found, judged.agreed, taken, taken, ())


def _again(
    walk: Walk, starts: tuple[Array, Array], active: Any, tile: Array, ends: Array, found: Gains
) -> tuple[Array, Array, Gains]:
    """Walk the active chunks from their new starts, and see what their two walks say about differences."""
    xp, cut = walk.xp, walk.cut
    old, new = (cut.by_row(xp, x) for x in starts)
    rows = np.flatnonzero(active)
    if len(rows) > 0.6 * cut.rows:
        new_tile, new_end = walk.run(new, None)
        seen = _seen(walk, (old, new), (tile, new_tile), _unit(walk, ends))
        tile, end = new_tile, new_end
        mask = on_device(xp, active.reshape(-1), new)
        kept = [cut.by_row(xp, x) for x in found]
        better = agreement.worse(xp, Gains(*kept), seen)
        found_rows = [xp.where(mask, x, y) for x, y in zip(better, kept, strict=True)]
    else:
        rows = _padded(walk, rows)
        index = on_device(xp, rows, new)
        pair = take(xp, old, index, 0), take(xp, new, index, 0)
        part, part_end = walk.run(pair[1], index)
        seen = _seen(walk, pair, (take(xp, tile, index, 1), part), take(xp, _unit(walk, ends), index, 0))
        tile = put(xp, tile, rows, part, 1)
        end = put(xp, cut.by_row(xp, ends), rows, part_end, 0)
        kept = [cut.by_row(xp, x) for x in found]
        better = agreement.worse(xp, Gains(*(take(xp, x, index, 0) for x in kept)), seen)
        found_rows = [put(xp, x, rows, y, 0) for x, y in zip(kept, better, strict=True)]
    return tile, cut.by_chunk(xp, end), Gains(*(cut.by_chunk(xp, x) for x in found_rows))


def measure(walk: Walk, starts: Array, tile: Array, ends: Array, found: Gains, sequences: Any) -> Gains:
    """Walk chunks of these sequences (a NumPy mask) once more, from nearby, where nothing is known yet of differences."""
    xp, cut = walk.xp, walk.cut
    wanted = host(found.expansion == float("inf")) & sequences
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return found
    near = nearby(xp, starts, agreement.size(xp, starts))
    pair, unit = (cut.by_row(xp, starts), cut.by_row(xp, near)), _unit(walk, ends)
    if len(rows) > 0.6 * cut.rows:
        seen = _seen(walk, pair, (tile, walk.run(pair[1], None)[0]), unit)
        better = agreement.worse(xp, found, Gains(*(cut.by_chunk(xp, x) for x in seen)))
        mask = on_device(xp, wanted, starts)
        return Gains(*(xp.where(mask, x, y) for x, y in zip(better, found, strict=True)))
    rows = _padded(walk, rows)
    index = on_device(xp, rows, starts)
    pair = take(xp, pair[0], index, 0), take(xp, pair[1], index, 0)
    part, _ = walk.run(pair[1], index)
    seen = _seen(walk, pair, (take(xp, tile, index, 1), part), take(xp, unit, index, 0))
    kept = [cut.by_row(xp, x) for x in found]
    return Gains(*(cut.by_chunk(xp, put(xp, x, rows, y, 0)) for x, y in zip(kept, seen, strict=True)))


def nearby(xp: Any, starts: Array, size: Array) -> Array:
    """Starts moved by the square root of rounding in every number: small beside the state, large beside rounding."""
    by = agreement.epsilon(xp, starts.dtype) ** 0.5
    return starts + xp.astype(signs(xp, starts, draw=1) * (by * size[..., None]), starts.dtype)


def _padded(walk: Walk, rows: Any) -> Any:
    """For compiled walks a few sizes serve all numbers of rows; a row that is there twice gets the same states twice."""
    return np.resize(rows, 1 << int(len(rows) - 1).bit_length()) if walk.compiled else rows


def _unit(walk: Walk, ends: Array) -> Array:
    """Rounding at the size of the states: (rows,)."""
    return walk.cut.by_row(walk.xp, agreement.epsilon(walk.xp, ends.dtype) * walk.size(ends))


def _seen(walk: Walk, starts: tuple[Array, Array], walks: tuple[Array, Array], unit: Array) -> Gains:
    """What two walks of the same rows say, compared a block of steps at a time."""
    xp = walk.xp
    steps, rows, n = walks[0].shape
    block = max(1, BLOCK // max(1, rows * n))
    # A linear walk has one scale for all of time; states are measured by their own size, step by step.
    between = agreement.distance_of_walks if walk.linear else agreement.apart
    pairs = [[x[t : min(steps, t + block), ...] for x in walks] for t in range(0, steps, block)]
    parts = [between(xp, *starts)[None, ...], *(between(xp, *pair) for pair in pairs)]
    d = xp.concat(parts, axis=0)
    if walk.linear:
        return agreement.gains(xp, d, unit)
    epsilon = agreement.epsilon(xp, walks[0].dtype)
    least = min(agreement.INFORMATIVE, 0.5 / epsilon**0.5)
    return agreement.gains(
        xp, d, xp.full_like(widened(xp, unit), epsilon), agreement.near(epsilon) / epsilon, least
    )
