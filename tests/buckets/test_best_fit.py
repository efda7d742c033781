"""Best-fit decreasing: what goes into which row, and how many rows that makes of a histogram."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqpar.buckets.best_fit import best_fit, rows_needed


def rows_by_definition(lengths: list[int], capacity: int) -> int:
    """The longest first, each into the fullest row that holds it."""
    room: list[int] = []
    for steps in sorted((n for n in lengths if n), reverse=True):
        fitting = [(left, row) for row, left in enumerate(room) if left >= steps]
        if fitting:
            room[min(fitting)[1]] -= steps
        else:
            room.append(capacity - steps)
    return len(room)


packings = st.integers(1, 40).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(0, capacity), max_size=60), st.just(capacity))
)


@given(packings)
def test_every_sequence_has_its_own_place_in_as_many_rows_as_defined(packing: tuple[list[int], int]) -> None:
    lengths, capacity = packing
    rows, starts, count = best_fit(lengths, capacity)
    taken = np.zeros((count, capacity), int)
    for row, start, steps in zip(rows, starts, lengths, strict=True):
        assert start + steps <= capacity
        taken[row, start : start + steps] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == sum(lengths)
    assert count == max(1, rows_by_definition(lengths, capacity))


@given(packings)
def test_a_histogram_needs_the_rows_of_its_sequences(packing: tuple[list[int], int]) -> None:
    lengths, capacity = packing
    distinct, counts = np.unique(np.array(lengths, int), return_counts=True)
    assert rows_needed(distinct.tolist(), counts.tolist(), capacity) == rows_by_definition(lengths, capacity)


def test_rows_start_without_gaps() -> None:
    rows, starts, count = best_fit([2, 3, 1, 4], 5)
    assert (rows, starts, count) == ([1, 1, 0, 0], [3, 0, 4, 0], 2)


def test_equal_lengths_keep_their_order() -> None:
    assert best_fit([2, 2, 2, 2], 4)[:2] == ([0, 0, 1, 1], [0, 2, 0, 2])


def test_many_sequences_leave_next_to_no_padding() -> None:
    lengths = np.clip(np.rint(np.random.default_rng(0).lognormal(5, 1, 200_000)), 16, 1024).astype(int)
    distinct, counts = np.unique(lengths, return_counts=True)
    rows = rows_needed(distinct.tolist(), counts.tolist(), 1024)
    assert 1 - lengths.sum() / (rows * 1024) < 0.001
