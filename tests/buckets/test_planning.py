"""The boundaries of `seqpar.plan_buckets` against every choice there is, and against figures that were published beforehand."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqpar
from seqpar import plan_buckets

Array = Any
BACKENDS = ("host", "reference")


def every_choice(
    ends: list[int], lengths: Array, counts: Array, price: Callable[[int], float], extra: float = 0.0
) -> list[float]:
    """The least cost of at most 1, 2, ... buckets over all sets of boundaries; a sequence goes to the first that holds it."""
    least = []
    for number in range(1, len(ends) + 1):
        costs = []
        for chosen in itertools.combinations(ends[:-1], number - 1):
            bounds = np.asarray([*chosen, ends[-1]])
            where = np.searchsorted(bounds, lengths)
            prices = np.asarray([price(int(bound)) for bound in bounds])
            costs.append(float((prices[where] * counts).sum()) + extra * number)
        least.append(min(costs))
    return least


def instance(seed: int) -> tuple[Array, Array, int]:
    """Few distinct lengths, how many sequences have each, and what boundaries are multiples of."""
    random = np.random.default_rng(seed)
    lengths = np.sort(random.choice(40, int(random.integers(1, 7)), replace=False)) + int(seed % 3 > 0)
    if lengths[-1] == 0:
        lengths[-1] = 1
    return lengths, random.integers(1, 20, lengths.size), int(random.choice([1, 1, 4, 8]))


def rounded(lengths: Array, step: int) -> list[int]:
    return sorted({max(step, int(-(-length // step) * step)) for length in lengths})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", range(4))
def test_the_least_cost_is_that_of_brute_force_for_any_price(part: int, backend: str) -> None:
    # 1200 instances. Prices are whole numbers of up to 60, rising or not: sums are exact, and many choices tie.
    for seed in range(part * 300, part * 300 + 300):
        lengths, counts, step = instance(seed)
        table = np.random.default_rng([seed, 1]).integers(0, 60, 60)
        ends = rounded(lengths, step)
        options: dict[str, Any] = {
            "cost": lambda length, batch, table=table: float(table[length]),
            "batch_size": 1,
            "multiple_of": step,
            "backend": backend,
        }
        exact = np.minimum.accumulate(every_choice(ends, lengths, counts, lambda b, t=table: float(t[b])))
        for number in range(1, len(ends) + 1):
            plan = plan_buckets((lengths, counts), number, **options)
            assert plan.predicted_cost == exact[number - 1], (seed, number)
            # More buckets than differ in price do not pay.
            assert plan.curve == tuple(exact[: len(plan.curve)]), (seed, number)
            assert set(plan.boundaries) <= set(ends)
            assert min(exact) == plan.curve[-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_free_number_of_buckets_at_a_price_is_that_of_brute_force(backend: str) -> None:
    for seed in range(300):
        lengths, counts, step = instance(seed)
        random = np.random.default_rng([seed, 2])
        table, extra = random.integers(0, 60, 60), float(random.integers(1, 200))
        costs = every_choice(rounded(lengths, step), lengths, counts, lambda b, t=table: float(t[b]), extra)
        options: dict[str, Any] = {
            "cost": lambda length, batch, table=table: float(table[length]),
            "batch_size": 1,
            "multiple_of": step,
            "shape_price": extra,
            "backend": backend,
        }
        plan = plan_buckets((lengths, counts), **options)
        assert plan.predicted_cost == min(costs), seed
        for most in (1, 2):
            bounded = plan_buckets((lengths, counts), max_buckets=most, **options)
            assert bounded.predicted_cost == min(costs[:most]), seed
            assert bounded.n_buckets <= most


def test_prices_divide_the_time_of_a_step_among_its_samples() -> None:
    def time(length: int, batch: int) -> float:
        return 7.0 + length * (2.0 + 0.5 * batch)

    random = np.random.default_rng(0)
    for _ in range(100):
        lengths = np.unique(random.integers(1, 60, 6))
        counts, budget = random.integers(1, 100, lengths.size), int(random.integers(60, 400))
        costs = every_choice(
            lengths.tolist(), lengths, counts, lambda b, budget=budget: time(b, budget // b) / (budget // b)
        )
        plan = plan_buckets((lengths, counts), 3, cost=time, max_tokens=budget)
        assert plan.predicted_cost == pytest.approx(min(costs[:3]), rel=1e-12)
        assert plan.batch_sizes == tuple(budget // b for b in plan.boundaries)


LOGNORMAL = {"short": (5, 1.0, 16, 1024, 200_000), "long": (6, 1.2, 1, 32768, 1_000_000)}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        name: np.clip(np.rint(random.lognormal(mean, sigma, number)), low, high).astype(int)
        for name, (mean, sigma, low, high, number) in LOGNORMAL.items()
    }


@pytest.mark.parametrize(
    ("which", "buckets", "best", "equal_duration", "quantile", "uniform", "powers_of_two"),
    [
        ("short", 4, 30.20, 33.00, 40.35, 38.29, 27.1),
        ("short", 8, 16.42, 19.90, 22.38, 21.72, 27.1),
        ("short", 16, 8.48, 10.87, 11.32, 11.75, 27.1),
        ("short", 32, 4.23, 5.76, 6.29, 6.14, 27.1),
        ("long", 8, 30.59, 37.47, 82.00, 80.50, None),
        ("long", 16, 16.21, 19.99, 68.80, 64.62, None),
        ("long", 32, 8.30, 10.20, 51.43, 44.09, None),
    ],
)
def test_padding_of_lognormal_lengths_is_what_exhaustive_search_found(
    drawn: dict[str, Array],
    which: str,
    buckets: int,
    best: float,
    equal_duration: float,
    quantile: float,
    uniform: float,
    powers_of_two: float | None,
) -> None:
    # From an independent search over all cuts, and from what lhotse (equal duration) and fairseq (quantiles) do.
    plan = plan_buckets(drawn[which], buckets)
    assert plan.n_buckets == buckets
    assert round(100 * plan.padding, 2) == best
    found = {name: round(100 * rival.padding, 2) for name, rival in plan.rivals.items()}
    assert found["equal_duration"] == equal_duration
    assert found["quantile"] == quantile
    assert found["uniform"] == uniform
    if powers_of_two is not None:
        assert round(found["powers_of_two"], 1) == powers_of_two


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_kernels_find_the_same_cuts(drawn: dict[str, Array], backend: str) -> None:
    plans = [plan_buckets(drawn["short"], 16, backend=name) for name in BACKENDS]
    assert plans[0] == plans[1]
    assert plan_buckets(drawn["short"], 16, backend=backend).method == f"{backend}.hull"


LENGTHS = st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 6), st.sampled_from([1, 8]), st.randoms(use_true_random=False))
def test_order_and_scale_of_the_counts_change_no_boundary(
    lengths: list[int], buckets: int, step: int, random: Any
) -> None:
    plan = plan_buckets(lengths, buckets, multiple_of=step)
    shuffled = random.sample(lengths, len(lengths))
    assert plan_buckets(shuffled, buckets, multiple_of=step) == plan
    values, counts = np.unique(lengths, return_counts=True)
    thousand = plan_buckets((values, counts * 1000), buckets, multiple_of=step)
    assert thousand.boundaries == plan.boundaries
    assert thousand.predicted_cost == 1000 * plan.predicted_cost
    assert thousand.padding == plan.padding
    assert thousand.key == plan.key


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 6), st.sampled_from([1, 8]))
def test_every_sequence_is_in_the_first_bucket_that_holds_it_and_is_counted_there(
    lengths: list[int], buckets: int, step: int
) -> None:
    plan = plan_buckets(lengths, buckets, multiple_of=step)
    where = plan.bucket_of(lengths)
    bounds = np.asarray([0, *plan.boundaries])
    assert all(bound % step == 0 for bound in plan.boundaries)
    assert (np.asarray(lengths) <= bounds[where + 1]).all()
    assert ((np.asarray(lengths) > bounds[where]) | (where == 0)).all()
    assert plan.counts == tuple(np.bincount(where, minlength=plan.n_buckets))
    assert plan.tokens == tuple(np.bincount(where, lengths, plan.n_buckets).astype(int))
    padded = bounds[where + 1].sum()
    assert plan.padding == 1 - sum(lengths) / padded
    assert plan.predicted_cost == padded
    assert [plan.next_bucket(i) for i in range(plan.n_buckets)] == [*range(1, plan.n_buckets), -1]


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_more_buckets_never_cost_more(lengths: list[int]) -> None:
    curve = plan_buckets(lengths, 1).curve
    assert all(one > other for one, other in itertools.pairwise(curve))
    assert len(curve) == min(32, len({max(1, length) for length in lengths}))
    # Each bucket more saves no more than the one before it.
    saved = -np.diff(curve)
    assert all(one >= other for one, other in itertools.pairwise(saved))


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(1, 6))
def test_no_rival_of_as_many_buckets_costs_less(lengths: list[int], buckets: int) -> None:
    plan = plan_buckets(lengths, buckets)
    for name, rival in plan.rivals.items():
        if len(rival.boundaries) <= plan.n_buckets:
            assert rival.cost >= plan.predicted_cost, name
        assert rival.boundaries[-1] == plan.boundaries[-1]


def test_a_histogram_a_list_and_arrays_give_the_same_plan() -> None:
    lengths = np.random.default_rng(3).integers(1, 500, 400)
    values, counts = np.unique(lengths, return_counts=True)
    plan = plan_buckets(lengths.tolist(), 5, max_tokens=2000)
    assert plan_buckets((values, counts), 5, max_tokens=2000) == plan
    assert plan_buckets((values.tolist(), counts.tolist()), 5, max_tokens=2000) == plan
    order = np.random.default_rng(4).permutation(values.size)
    assert plan_buckets((values[order], counts[order]), 5, max_tokens=2000) == plan
    for dtype in ("int8", "uint8", "int32", "uint64"):
        small = lengths % 100 + 1
        assert plan_buckets(small.astype(dtype), 5) == plan_buckets(small.tolist(), 5), dtype
    # Repeated lengths in a histogram add up, and lengths that no sequence has are none.
    assert plan_buckets(([7, 7, 9, 5], [1, 2, 1, 0]), 2) == plan_buckets([7, 7, 7, 9], 2)


@pytest.mark.parametrize("framework", ["torch", "jax.numpy"])
def test_arrays_of_a_framework_are_read_on_the_host(framework: str) -> None:
    library = pytest.importorskip(framework)
    make = library.tensor if framework == "torch" else library.asarray
    lengths, counts = [3, 5, 8, 90, 100], [1, 2, 1, 4, 3]
    assert plan_buckets(make(lengths), 2) == plan_buckets(lengths, 2)
    assert plan_buckets((make(lengths), make(counts)), 2) == plan_buckets((lengths, counts), 2)
    assert plan_buckets(lengths, 2).bucket_of(make(lengths)).tolist() == [0, 0, 0, 1, 1]


def test_two_lengths_in_a_tuple_are_no_histogram() -> None:
    assert plan_buckets((3, 9), 2).boundaries == (3, 9)


def test_huge_lengths_and_counts_are_planned_exactly() -> None:
    plan = plan_buckets(([2**40, 2**41, 2**41 + 1], [1, 2**19, 2**20]), 2)
    assert plan.boundaries == (2**41, 2**41 + 1) or plan.boundaries == (2**40, 2**41 + 1)
    assert sum(plan.tokens) == 2**40 + 2**60 + 2**61 + 2**20
    assert plan.predicted_cost == sum(n * b for n, b in zip(plan.counts, plan.boundaries, strict=True))
    far = plan_buckets([1, 2**61], 2)
    assert far.boundaries == (1, 2**61)
    assert far.padding == 0


def test_lengths_of_zero_are_padded_to_the_first_boundary() -> None:
    plan = plan_buckets([0, 0, 5], 2)
    assert plan.boundaries == (1, 5)
    assert plan.counts == (2, 1)


def test_without_a_number_padding_is_at_most_a_tenth_with_as_few_buckets_as_possible() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 3000)
    plan = plan_buckets(lengths)
    assert plan.padding <= 0.1
    assert plan_buckets(lengths, plan.n_buckets - 1).padding > 0.1
    coarse = plan_buckets(lengths, max_padding=0.3)
    assert coarse.padding <= 0.3 < plan_buckets(lengths, coarse.n_buckets - 1).padding
    assert not plan.notes


def test_without_a_number_there_are_at_most_32_buckets_and_a_note_says_that_padding_is_left() -> None:
    # As many steps of each length: two lengths in one bucket double those of the shorter.
    histogram = (2 ** np.arange(41), 2 ** np.arange(41)[::-1])
    plan = plan_buckets(histogram)
    assert plan.n_buckets == 32
    assert plan.padding > 0.1
    assert any("give n_buckets or shape_price" in note for note in plan.notes)
    assert plan_buckets(histogram, max_buckets=41).padding <= 0.1


def test_more_buckets_than_lengths_are_clipped_and_a_note_says_so() -> None:
    plan = plan_buckets([3, 3, 7], 5)
    assert plan.boundaries == (3, 7)
    assert "5 buckets were asked for, and 2 are" in plan.notes[0]


def test_boundaries_of_ones_own_are_priced_and_kept() -> None:
    plan = plan_buckets([3, 5, 90, 100], boundaries=[10, 50, 100], max_tokens=200)
    assert plan.boundaries == (10, 50, 100)
    assert plan.counts == (2, 0, 2)
    assert plan.batch_sizes == (20, 4, 2)
    assert plan.predicted_cost == 2 * 10 + 2 * 100
    assert plan.method == "given"
    best = plan_buckets([3, 5, 90, 100], 3, max_tokens=200)
    assert plan.rivals["optimum"] == (best.boundaries, best.predicted_cost, best.padding)
    assert plan.curve == best.curve
    assert set(plan.rivals) == {"optimum", *best.rivals}


def test_the_optimum_beside_boundaries_of_ones_own_has_the_same_sequences() -> None:
    plan = plan_buckets([3, 5, 90, 100], boundaries=[16, 64], multiple_of=16, on_overflow="truncate")
    best = plan_buckets([3, 5, 64, 64], 2, multiple_of=16)
    assert plan.rivals["optimum"].cost == best.predicted_cost
    assert plan.truncated == 2
    assert "optimum" in str(plan)


def test_whole_batches_are_counted_in_groups_of_all_ranks() -> None:
    plan = plan_buckets([10] * 7, 1, batch_size=2, ranks_per_step=3)
    assert plan.predicted_cost == 70
    assert plan.exact_cost == 12 * 10
    assert plan.gap == pytest.approx(120 / 70 - 1)
    assert plan_buckets([10] * 7, 1).exact_cost is None


def test_batches_are_the_least_that_every_rule_allows() -> None:
    class Half:
        def batch_size(self, length: int) -> int:
            return 5000 // (length * length)

    lengths = [10, 20, 50]
    assert plan_buckets(lengths, 3, max_tokens=400).batch_sizes == (40, 20, 8)
    assert plan_buckets(lengths, 3, max_tokens=400, batch_size=30).batch_sizes == (30, 20, 8)
    assert plan_buckets(lengths, 3, max_tokens=400, batch_size=30, memory=Half()).batch_sizes == (30, 12, 2)
    assert plan_buckets(lengths, 3, max_tokens=400, batch_multiple_of=8).batch_sizes == (40, 16, 8)
    assert plan_buckets(lengths, 3).batch_sizes is None


def test_a_cost_with_times_is_asked_once_for_all_boundaries() -> None:
    asked = []

    class Cost:
        def __call__(self, length: float, batch: float) -> float:
            raise AssertionError("asked for a single time")

        def times(self, lengths: Array, batches: Array) -> Array:
            asked.append(len(lengths))
            return np.asarray(lengths) * 2.0

    plan = plan_buckets(np.arange(1, 50), 3, cost=Cost(), batch_size=2)
    assert plan.boundaries == plan_buckets(np.arange(1, 50), 3).boundaries
    assert asked[0] == 49
    assert len(asked) <= 1 + len(plan.rivals)


def test_a_cost_is_asked_at_lengths_that_do_not_occur_and_at_none_beyond_the_longest() -> None:
    lengths, asked = [3, 5, 5, 8, 90, 100], set()

    def cost(length: int, batch: int) -> float:
        asked.add(length)
        return 1e-3 * length

    plan_buckets(lengths, 2, batch_size=2, cost=cost)
    assert asked > set(lengths) and 4 in asked and max(asked) == 100


def test_a_mapping_of_times_is_read_between_its_entries() -> None:
    grid = {(length, batch): 0.01 * length * batch for length in (10, 100) for batch in (1, 10)}
    plan = plan_buckets([10, 40, 100], 2, cost=grid, max_tokens=100)
    assert plan.boundaries == plan_buckets([10, 40, 100], 2).boundaries


def test_explain_says_which_kernel_searches() -> None:
    why = seqpar.explain(plan_buckets, [3, 5, 9], 2)
    assert (why.backend, why.method, why.provenance) == ("host", "hull", "heuristic")
    forced = seqpar.explain(plan_buckets, [3, 5, 9], 2, backend="reference")
    assert (forced.backend, forced.provenance) == ("reference", "explicit")
    assert plan_buckets([3, 5, 9], 2, backend="reference").method == "reference.hull"


def test_the_key_is_the_same_on_every_machine_and_knows_what_decides_the_batches() -> None:
    plan = plan_buckets([3, 5, 5, 8, 90, 100], 2, max_tokens=400)
    assert plan.key == KEY
    assert 0 <= plan.key < 2**63
    assert plan_buckets([3, 5, 5, 8, 90, 99, 100], 2, max_tokens=400).key == plan.key
    assert plan_buckets([3, 5, 5, 8, 90, 100], 2, max_tokens=500).key != plan.key
    assert plan_buckets([3, 5, 5, 8, 90, 101], 2, max_tokens=400).key != plan.key
    cut = plan_buckets([3, 5, 5, 8, 90, 100], 2, max_tokens=400, on_overflow="truncate")
    assert cut.key != plan.key


KEY = 3959863607951301873
