"""From many candidates with few times each to an order of the best: more rounds for fewer candidates, again and again.

Drift hits all points of a round alike, so a few shared rounds tell more than many times of each point alone.
"""

import math
from collections.abc import Callable, Sequence

from .rounds import Rounds
from .space import Point

FAR = 2.0
"""Slower than the best by this after one round: not measured again."""
CLEARLY = 1.25
"""The same after two rounds or more."""
FEW = 4
"""So many are never cut by halving, only for being clearly slower: their rounds cost little."""


def halve(
    rounds: Rounds,
    candidates: Sequence[Point],
    *,
    plan: Sequence[int],
    keep: float,
    ratio: Callable[[Point], float],
    run: Callable[[Sequence[Point]], None],
    may_run: Callable[[int], bool] = lambda samples: True,
) -> list[Point]:
    """The candidates that lasted, best first.

    `plan`: rounds of each stage. `ratio`: time over the default's, as known now. `run`: makes one round. `may_run`: is there
    time for so many samples?
    """
    order = sorted(candidates, key=ratio)
    for count in plan:
        order = survivors(order, keep=keep, ratio=ratio)
        # One that is left has nobody to be compared with but the default, for which there is the final.
        if len(order) < 2:
            break
        for _ in range(count):
            if not may_run(len(order) + 1):
                return _working(rounds, order, ratio)
            run(order)
            order = [point for point in order if point not in rounds.failures]
        order = _working(rounds, order, ratio)
    return order


def survivors(order: Sequence[Point], *, keep: float, ratio: Callable[[Point], float]) -> list[Point]:
    """The first part of them, without those that are clearly slower than the first."""
    if not order:
        return []
    count = max(math.ceil(len(order) * keep), FEW)
    best = ratio(order[0])
    return [point for point in order[:count] if ratio(point) <= CLEARLY * best]


def _working(rounds: Rounds, points: Sequence[Point], ratio: Callable[[Point], float]) -> list[Point]:
    return sorted((point for point in points if point not in rounds.failures), key=ratio)
