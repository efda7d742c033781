"""A search keeps its seconds, also where verifying is slow, where candidates are, or the default is."""

import itertools
from collections.abc import Sequence

import pytest

from seqpar_autotune.budget import Budget
from seqpar_autotune.outcome import Outcome
from seqpar_autotune.search import search
from seqpar_autotune.space import Branch, Knob, Point, Space

SPACE = Space((Branch("first"), Branch("other", (Knob("k", tuple(range(12))),))), Point("first"))


def searched(seconds: float, first: float, other: float, check: float) -> tuple[Outcome, float]:
    """On a clock of its own: a new point is verified and called twice before its first time."""
    now, seen = 0.0, set[Point]()

    def evaluate(points: Sequence[Point]) -> list[float]:
        nonlocal now
        times = [
            first if point.branch == "first" else other * (1 + 0.05 * point.config["k"]) for point in points
        ]
        for point, one in zip(points, times, strict=True):
            now += one if point in seen else check + 3 * one
            seen.add(point)
        return times

    found = search(SPACE, evaluate, budget=Budget(seconds=seconds), rigor="quick", clock=lambda: now)
    return found, now


COSTS = list(itertools.product((0.001, 0.1, 1.0, 5.0), (0.0005, 0.05, 0.5, 2.0), (0.05, 0.5, 3.0)))


def test_seconds_are_kept_to_a_fifth_where_they_are_enough_for_a_few_candidates() -> None:
    kept = 0
    for seconds, (first, other, check) in itertools.product((5.0, 20.0, 60.0), COSTS):
        if seconds >= 4 * (check + 3 * max(first, other)):
            _, taken = searched(seconds, first, other, check)
            assert taken <= 1.2 * seconds, (seconds, first, other, check)
            kept += 1
    assert kept > 50


def test_where_they_are_not_enough_no_more_is_added_than_was_given() -> None:
    for first, other, check in COSTS:
        _, taken = searched(2.0, first, other, check)
        # Default and one candidate are measured in any case, beside each other.
        least = 2 * check + 4 * (first + 1.6 * other)
        assert taken <= least + 1.2 * 2.0, (first, other, check)


@pytest.mark.parametrize("seconds", [5.0, 20.0])
def test_a_slow_default_gives_way_to_what_is_far_faster(seconds: float) -> None:
    found, _ = searched(seconds, 1.0, 0.01, 0.05)
    assert found.adopted and found.gain > 50
    assert found.final is not None and len(found.final.winner) >= 3
