"""The one test that decides whether a default is replaced: right about ties as often as it says, and about gains soon."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from seqpar_autotune.paired import LEVEL, compare, fewest_rounds, walsh_averages

Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "lognormal": lambda random, n: random.normal(0, 0.1, n),
    "bursts": lambda random, n: (
        random.normal(0, 0.02, n) + (random.random(n) < 0.1) * random.exponential(1.0, n)
    ),
    "even": lambda random, n: random.uniform(-0.1, 0.1, n),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("rounds", [7, 15, 25])
def test_ties_are_adopted_at_most_as_often_as_the_level_says(noise: Noise, rounds: int) -> None:
    random = np.random.default_rng(rounds)
    adopted = sum(
        compare(np.exp(noise(random, rounds)), np.exp(noise(random, rounds)), least_gain=0.0).adopted
        for _ in range(400)
    )
    # 400 times 1 %, and three standard deviations.
    assert adopted <= 400 * LEVEL + 3 * math.sqrt(400 * LEVEL)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_a_gain_of_ten_percent_is_seen_through_noise_and_drift(noise: Noise) -> None:
    random = np.random.default_rng(0)
    seen = 0
    for _ in range(50):
        drift = np.cumsum(random.normal(0, 0.02, 25))
        winner = 0.8 * np.exp(drift + noise(random, 25))
        seen += compare(winner, np.exp(drift + noise(random, 25)), least_gain=0.02).adopted
    assert seen >= 45


def test_a_gain_below_the_least_one_is_not_adopted_however_certain() -> None:
    exact = compare([0.99] * 25, [1.0] * 25, least_gain=0.02)
    assert not exact.adopted
    assert exact.noise == pytest.approx(0, abs=1e-12)
    assert exact.ratio == pytest.approx(0.99)
    assert compare([0.97] * 25, [1.0] * 25, least_gain=0.02).adopted


def test_with_too_few_rounds_nothing_is_certain() -> None:
    n = fewest_rounds()
    assert n == 7
    assert compare([0.5] * n, [1.0] * n, least_gain=0.02).adopted
    few = compare([0.5] * (n - 1), [1.0] * (n - 1), least_gain=0.02)
    assert not few.adopted and few.noise == math.inf
    none = compare([], [], least_gain=0.02)
    assert not none.adopted and none.noise == math.inf


@pytest.mark.parametrize("n", [7, 8, 9])
def test_the_bound_is_that_of_the_signed_rank_test(n: int) -> None:
    """Under a tie all 2^n signs of n differences are equally likely: for at most 1 % of them the bound is below zero."""
    sizes = np.array([1.0, 2.1, 3.3, 4.6, 6.0, 7.5, 9.1, 10.8, 12.6])[:n] / 100
    below = 0
    for signs in product((-1, 1), repeat=n):
        found = compare(np.exp(sizes * np.array(signs)), np.ones(n), least_gain=-1.0)
        below += math.log(found.ratio) + math.log1p(found.noise) < 0
    assert 1 <= below <= LEVEL * 2**n


def test_walsh_averages_are_means_of_all_pairs() -> None:
    assert walsh_averages(np.array([3.0, 1.0])).tolist() == [1.0, 2.0, 3.0]


def test_three_pairs_suffice_where_each_of_them_is_twice_as_fast_and_for_nothing_less() -> None:
    found = compare([0.4, 0.45, 0.42], [1.0, 1.0, 1.0], least_gain=0.02)
    assert found.adopted and 0 < found.noise < 0.1
    assert not compare([0.4, 0.45, 0.55], [1.0, 1.0, 1.0], least_gain=0.02).adopted
    assert not compare([0.4, 0.45], [1.0, 1.0], least_gain=0.02).adopted
    assert not compare([2.5, 2.2, 2.4], [1.0, 1.0, 1.0], least_gain=0.02).adopted
