"""Time things of several frameworks against each other: interleaved rounds by the clocks of the device, within a budget.

As in `seqpar_bench.measure`, one sample of each per round, each round starting elsewhere, so that a drift of the
machine meets all alike.
"""

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

from seqpar_bench.gpu.frameworks import Frame
from seqpar_bench.measure import Samples, Thunk

SAMPLE = 5e-3
"""Seconds that a sample lasts at least, by repeats."""
FEWEST, MOST = 3, 21


class Budget:
    """Seconds left of a run."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()


class Timed(NamedTuple):
    """Something to time, on the device of a framework."""

    frame: Frame
    thunk: Thunk


def interleaved(entries: Mapping[str, Timed], seconds: float) -> dict[str, Samples | Exception]:
    """Samples of each, as many rounds as fit into the seconds; or what it raised, which ends its part alone."""
    repeats: dict[str, int] = {}
    taken: dict[str, list[float]] = {}
    failed: dict[str, Samples | Exception] = {}

    def sample(name: str, first: bool = False) -> None:
        try:
            if first:
                repeats[name], taken[name] = _repeats(entries[name]), []
            # What takes long is taken once.
            elif name not in failed and (repeats[name] > 0 or not taken[name]):
                frame, thunk = entries[name]
                taken[name].append(frame.seconds(thunk, abs(repeats[name])))
        except Exception as error:
            failed[name] = error

    names = list(entries)
    for name in names:
        sample(name, first=True)
    budget = Budget(seconds)
    for turn in range(MOST):
        if turn >= FEWEST and budget.left < 0:
            break
        start = turn % max(1, len(names))
        for name in names[start:] + names[:start]:
            sample(name)
    return {name: failed.get(name) or Samples(tuple(taken[name])) for name in names}


def _repeats(entry: Timed) -> int:
    """Calls per sample; negative where a single sample is enough."""
    frame, thunk = entry
    frame.seconds(thunk, 1)
    once = frame.seconds(thunk, 1)
    if once > 0.5:
        return -1
    return max(1, min(200, math.ceil(SAMPLE / max(once, 1e-6))))
