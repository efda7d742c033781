"""How fast a recurrence forgets: its first steps, walked exactly and from somewhere else side by side.

Row 0 of each sequence is the exact prefix, which has to be computed anyway; what starts elsewhere shows after how many steps the
start no longer matters. A recurrence that never forgets (an integrator, a latch, chaos) shows that too, and is then walked one
step after the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.chunks import cut
from seqpar.solving.forward import Start
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.rows import host
from seqpar.solving.stepping import Stepper

PIECE = 64
"""Steps walked before the next look."""

FORGOTTEN = 4.0
"""Two walks that differ by so many units of rounding are one."""


class Probe(NamedTuple):
    """What the first steps showed."""

    steps: int
    """Steps walked."""
    states: Array
    """(batch, steps, n): the exact prefix."""
    rate: float
    """Logarithm of what is left of a difference after one step, for the sequence that forgets most slowly."""
    memory: float
    """Steps after which a difference of the size of the states has become rounding; infinite if it never will."""


@np.errstate(all="ignore")
def look(recurrence: Recurrence, stepper: Stepper, start: Start, most: int) -> Probe:
    """Walk up to `most` steps, or until every sequence has forgotten its start."""
    xp, batch = recurrence.xp, recurrence.batch
    others = 2 if batch <= 4 else 1
    rows = xp.concat([recurrence.first[None, ...], start.pattern(recurrence, others)], axis=0)
    rows = xp.reshape(rows, ((1 + others) * batch, recurrence.state))
    seen: list[np.ndarray] = []
    prefix: list[Array] = []
    small = FORGOTTEN * agreement.epsilon(xp, recurrence.h0.dtype)
    walked = 0
    while walked < most:
        steps = min(PIECE, most - walked)
        part = recurrence.part(walked, walked + steps).repeated(1 + others)
        whole = cut(steps, part.batch, steps)
        resets = None if part.resets is None else whole.tile(xp, part.resets)[..., None]
        tile, rows = stepper.walk(rows, steps, [whole.tile(xp, x) for x in part.inputs], resets, part.h0)
        assert tile is not None
        tile = xp.reshape(tile, (steps, 1 + others, batch, recurrence.state))
        prefix.append(tile[:, 0, ...])
        apart = xp.max(agreement.distance(xp, tile[:, 1:, ...], tile[:, :1, ...]), axis=1)
        apart = apart / agreement.size(xp, tile[:, 0, ...])
        seen.append(host(apart).astype(np.float64))
        walked += steps
        if _forgotten(seen[-1], small):
            break
    states = xp.permute_dims(xp.concat(prefix, axis=0), (1, 0, 2))
    rate, memory = _memory(np.concatenate(seen), small)
    return Probe(walked, states, rate, memory)


def _forgotten(apart: np.ndarray, small: float) -> bool:
    """Have all sequences spent the last quarter of a piece in no more than rounding?"""
    return bool((apart[-max(1, len(apart) // 4) :] <= small).all())


def _memory(apart: np.ndarray, small: float) -> tuple[float, float]:
    """Rate and memory of the slowest sequence, from the distances (steps, batch) of walks that started far apart."""
    steps = len(apart)
    above = ~(apart <= small)
    last = np.where(above.any(axis=0), steps - above[::-1].argmax(axis=0), 0)
    if (last < steps).all():
        memory = max(1.0, float(last.max()))
        return math.log(small) / memory, memory
    # Not forgotten yet: go on as the second half went. The largest distance of a stretch, for distances that swing.
    quarter = max(1, steps // 4)
    middle = apart[steps // 2 - quarter // 2 : steps // 2 + quarter // 2 + 1].max(axis=0)
    end = apart[-quarter:].max(axis=0)
    with np.errstate(all="ignore"):
        rates = (np.log(end) - np.log(middle)) / (steps / 2 - quarter / 2 + 1e-9)
        memories = np.where(rates < 0, steps + (np.log(end) - math.log(small)) / -rates, np.inf)
    slow = np.where(last < steps, last, np.where(np.isnan(memories), np.inf, memories))
    worst = int(slow.argmax())
    rate = rates[worst] if np.isfinite(rates[worst]) else math.inf
    return float(rate), float(slow[worst])
