"""States of any recurrence in float64: step by step, or of a long sequence many parts at once.

Called by `cells_exact` and `solving_exact`, with steps written from their equations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Step = Callable[[Array, Array], Array]
"""The next states of rows (rows, units), from these and their inputs."""

WHOLE = 1 << 15
"""Steps up to which a walk goes from the first to the last."""
PART = 1 << 13
"""Steps of a part. 0.995 to this power is 1e-18: nothing in float64 remembers what is older."""
FORGOTTEN = 1e-13
"""By how much a state, relative to the largest, may jump where two parts meet."""


def walk(step: Step, x: Array, start: Array) -> Array:
    """h[t] = step(h[t-1], x[t]) for x (batch, steps, inputs) from `start` (batch, units): (batch, steps, units).

    Beyond `WHOLE` steps all parts are walked at once, again and again, each from where the one before it ended the last time,
    until no start moves by more than `FORGOTTEN`. Such states obey the recurrence at every step, save for jumps of that size
    where parts meet; and where the past is forgotten within a part, which is when this ends after two walks, the jumps are
    all that they can be wrong by. Where nothing is forgotten, walks go on: every one makes one more part final, so that after as
    many as there are parts the states are those of one walk, exactly.
    """
    batch, steps, _ = x.shape
    count = steps // PART
    if steps <= WHOLE or count < 2:
        return _one_walk(step, x, start)
    cut = count * PART
    inputs = x[:, :cut].reshape(batch * count, PART, -1)
    starts = np.broadcast_to(start[:, None], (batch, count, start.shape[-1])).copy()
    for _ in range(count):
        parts = _one_walk(step, inputs, starts.reshape(batch * count, -1)).reshape(batch, cut, -1)
        ends = parts[:, PART - 1 : cut - 1 : PART]
        jump = float(np.max(np.abs(ends - starts[:, 1:])))
        if jump <= FORGOTTEN * float(np.max(np.abs(parts))):
            break
        starts[:, 1:] = ends
    if cut == steps:
        return parts
    return np.concatenate([parts, _one_walk(step, x[:, cut:], parts[:, -1])], 1)


def _one_walk(step: Step, x: Array, start: Array) -> Array:
    found = np.empty((x.shape[1], *start.shape))
    h = start
    for t in range(x.shape[1]):
        h = found[t] = step(h, x[:, t])
    return np.moveaxis(found, 0, 1)
