"""Permutations that are evaluated place by place: bijections, uniform, and the same everywhere."""

import itertools
import tracemalloc

import numpy as np
import pytest

from seqpar.buckets import permutation
from seqpar.buckets.permutation import SMALL, Permutations, key_of


def whole(sizes: list[int], key: int) -> list[np.ndarray]:
    """The whole order of each set."""
    sets = np.repeat(np.arange(len(sizes)), sizes)
    ends = np.cumsum(sizes)
    places = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    return np.split(Permutations(sizes, key)(sets, places), ends[:-1])


def beyond_uniform(counts: np.ndarray) -> float:
    """Chi-square of counts that should be equal, in standard deviations above what chance gives."""
    expected = counts.sum() / counts.size
    assert expected >= 5
    freedom = counts.size - 1
    return float((np.square(counts - expected).sum() / expected - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("small", [SMALL, 0], ids=["tables", "network"])
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_every_member_comes_once_for_every_size(
    small: int, key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permutation, "SMALL", small)
    sizes = list(range(1, 401))
    for n, order in zip(sizes, whole(sizes, key), strict=True):
        assert np.array_equal(np.sort(order), np.arange(n)), n


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 32 * 33, 33 * 33, 33 * 33 + 1, 99_991, 2**17])
def test_every_member_comes_once_beyond_the_tables(n: int) -> None:
    (order,) = whole([n], key=7)
    assert np.array_equal(np.sort(order), np.arange(n))


def test_a_place_does_not_depend_on_what_else_is_asked_for() -> None:
    sizes = [5000, 40, 1, 70_001]
    orders = whole(sizes, key=3)
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 4, 500)
    places = rng.integers(0, np.array(sizes)[sets])
    found = Permutations(sizes, key=3)(sets, places)
    assert found.tolist() == [orders[s][p] for s, p in zip(sets, places, strict=True)]


@pytest.mark.parametrize(("n", "keys"), [(3, 600), (4, 1200), (5, 1800), (6, 4320)])
def test_all_orders_of_a_small_set_are_equally_likely(n: int, keys: int) -> None:
    orders = {order: i for i, order in enumerate(itertools.permutations(range(n)))}
    counts = np.zeros(len(orders))
    sets, places = np.zeros(n, int), np.arange(n)
    for key in range(keys):
        counts[orders[tuple(Permutations([n], key)(sets, places).tolist())]] += 1
    assert abs(beyond_uniform(counts)) < 3.5


@pytest.mark.parametrize("n", [1025, 1500, 1_048_579])
def test_members_of_a_large_set_are_uniform_and_pairs_of_them_independent(n: int) -> None:
    sets = 40_000  # each with a key of its own
    order = Permutations([n] * sets, key=11)
    columns = -(-n // int(n**0.5))
    which = np.arange(sets)
    first = order(which, np.zeros(sets, int))
    assert abs(beyond_uniform(np.bincount(first * 64 // n, minlength=64))) < 4
    # Neighbours in a row of the network, in a column, and places far from each other.
    for distance in (1, columns, columns + 1, n // 2):
        other = order(which, np.full(sets, distance))
        assert (other != first).all()
        apart = ((other - first) % n - 1) * 32 // (n - 1)
        assert abs(beyond_uniform(np.bincount(apart, minlength=32))) < 4, distance


@pytest.mark.parametrize("n", [1000, 5000])
def test_orders_of_consecutive_keys_and_neighbouring_places_are_uncorrelated(n: int) -> None:
    orders = np.concatenate([whole([n, n], key) for key in range(20)])
    same_key = np.corrcoef(orders)[np.triu_indices(40, 1)]
    assert np.abs(same_key).max() < 4.5 / np.sqrt(n)
    along = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]
    assert np.abs(along).max() < 4.5 / np.sqrt(n)


def test_values_are_the_same_on_every_platform_and_with_every_version() -> None:
    order = Permutations([5, 1_000_000_007, 3000], key=1)
    sets, places = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 3, 4, 0, 10**9 + 6, 0, 2999])
    assert order(sets, places).tolist() == [2, 4, 0, 3, 1, 783266560, 873942432, 557, 556]
    assert key_of(1, "a", 2**70) == 5053092690946056467


def test_a_set_of_a_million_billions_costs_no_memory() -> None:
    n = 10**15
    tracemalloc.start()
    order = Permutations([n], key=0)
    found = order(np.zeros(1000, int), np.arange(n - 1000, n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0
    assert found.max() < n
    assert peak < 1_000_000
