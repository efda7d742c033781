"""Pairs of lengths (input, output): the plan against every choice of its form, its batches, and what it refuses."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqpar
from seqpar import BucketPlan, PairPlan, plan_buckets
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

Array = Any
SOME = [(3, 9), (5, 2), (5, 4), (90, 80), (100, 20)]


def subsets(values: list[int]) -> list[tuple[int, ...]]:
    """All choices of rising boundaries of which the last is the last."""
    return [
        (*chosen, values[-1])
        for number in range(len(values))
        for chosen in itertools.combinations(values[:-1], number)
    ]


def every_choice(pairs: Array, counts: Array, price: Array) -> tuple[dict[int, float], dict[Any, float]]:
    """The least cost by number of buckets, and by numbers of first and of second boundaries: over first boundaries, each with
    second boundaries of its own."""
    firsts, seconds = sorted(set(pairs[:, 0].tolist())), sorted(set(pairs[:, 1].tolist()))
    total: dict[int, float] = {}
    split: dict[Any, float] = {}
    for outer in subsets(firsts):
        per_outer: list[dict[int, float]] = []
        where = np.searchsorted(outer, pairs[:, 0])
        for i, first in enumerate(outer):
            inside = where == i
            longest = pairs[inside, 1].max()
            least: dict[int, float] = {}
            for last in (s for s in seconds if s >= longest):
                for inner in subsets([s for s in seconds if s <= last]):
                    bucket = np.searchsorted(inner, pairs[inside, 1])
                    cost = float((price[first, np.asarray(inner)][bucket] * counts[inside]).sum())
                    least[len(inner)] = min(cost, least.get(len(inner), np.inf))
            per_outer.append(least)
        for numbers in itertools.product(*per_outer):
            cost = sum(costs[n] for costs, n in zip(per_outer, numbers, strict=True))
            total[sum(numbers)] = min(cost, total.get(sum(numbers), np.inf))
            key = len(outer), max(numbers)
            split[key] = min(cost, split.get(key, np.inf))
    return total, split


def instance(seed: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    firsts, seconds = (
        random.choice(np.arange(1, 12), int(random.integers(1, 4)), replace=False) for _ in "ab"
    )
    pairs = np.unique(np.stack([random.choice(firsts, 6), random.choice(seconds, 6)], axis=1), axis=0)
    return pairs, random.integers(1, 20, len(pairs)), random.integers(0, 60, (12, 12))


def of_the_grid(plan: BucketPlan) -> float:
    """What the best plan of this form costs: the plan itself, or what it says of that where another costs less."""
    assert plan.predicted_cost <= min(
        rival.cost for rival in plan.rivals.values() if len(rival.boundaries) <= plan.n_buckets
    )
    return plan.rivals["grid"].cost if "grid" in plan.rivals else plan.predicted_cost


@pytest.mark.parametrize("backend", ["host", "reference"])
def test_the_least_cost_is_that_of_brute_force_over_plans_of_this_form(backend: str) -> None:
    for seed in range(80):
        pairs, counts, price = instance(seed)
        options: dict[str, Any] = {
            "cost": lambda first, second, batch, price=price: float(price[first, second]),
            "batch_size": 1,
            "backend": backend,
        }
        total, split = every_choice(pairs, counts, price)
        for number in (1, 2, 3, 9):
            plan = plan_buckets((pairs, counts), number, **options)
            exact = min(cost for n, cost in total.items() if n <= number)
            assert of_the_grid(plan) == exact, (seed, number)
            assert min(plan.curve) <= min([plan.predicted_cost, *total.values()])
        for extra in (1.0, 50.0):
            plan = plan_buckets((pairs, counts), shape_price=extra, **options)
            assert of_the_grid(plan) == min(cost + extra * n for n, cost in total.items()), seed
        for outer, inner in ((1, 2), (2, 1), (2, 2)):
            plan = plan_buckets((pairs, counts), (outer, inner), **options)
            exact = min(cost for (o, i), cost in split.items() if o <= outer and i <= inner)
            assert plan.predicted_cost == exact, (seed, outer, inner)


PAIRS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=40).filter(
    lambda pairs: any(map(any, pairs))
)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.sampled_from([1, 5, (2, 2), None]), st.sampled_from([1, 8]), st.sampled_from([None, 300]))
def test_every_sample_is_in_the_first_bucket_that_holds_it_and_is_counted_there(
    pairs: list[tuple[int, int]], number: Any, step: int, budget: int | None
) -> None:
    plan = plan_buckets(pairs, number, multiple_of=step, max_tokens=budget)
    where = plan.bucket_of(pairs)
    for pair, bucket in zip(pairs, where, strict=True):
        holds = [all(x <= y for x, y in zip(pair, bound, strict=True)) for bound in plan.boundaries]
        assert bucket == holds.index(True)
    assert plan.boundaries == tuple(sorted(plan.boundaries))
    assert all(side % step == 0 and side > 0 for bound in plan.boundaries for side in bound)
    assert plan.counts == tuple(np.bincount(where, minlength=plan.n_buckets))
    assert plan.tokens == tuple(np.bincount(where, np.sum(pairs, axis=1), plan.n_buckets).astype(int))
    padded = sum(sum(plan.boundaries[bucket]) for bucket in where)
    assert plan.padding == 1 - np.sum(pairs) / padded
    assert plan.predicted_cost == padded
    if budget is not None:
        assert plan.batch_sizes == tuple(budget // sum(bound) for bound in plan.boundaries)
    # What a plan says of itself survives a file, and its text is narrow.
    again = BucketPlan.from_json(plan.to_json())
    assert again == plan
    assert type(again) is PairPlan
    assert again.key == plan.key
    assert max(map(len, str(plan).splitlines())) <= 100


@settings(max_examples=30, deadline=None)
@given(PAIRS, st.integers(1, 6))
def test_samples_can_move_to_the_next_bucket(pairs: list[tuple[int, int]], number: int) -> None:
    plan = plan_buckets(pairs, number)
    for bucket, ours in enumerate(plan.boundaries):
        following = plan.next_bucket(bucket)
        later = [
            k
            for k in range(bucket + 1, plan.n_buckets)
            if ours[0] <= plan.boundaries[k][0] and ours[1] <= plan.boundaries[k][1]
        ]
        assert following == (later[0] if later else -1)


def test_a_list_an_array_and_a_histogram_of_pairs_give_the_same_plan() -> None:
    plan = plan_buckets(SOME, 3)
    assert isinstance(plan, PairPlan)
    assert plan_buckets(np.asarray(SOME, np.int16), 3) == plan
    assert plan_buckets((SOME, [1] * len(SOME)), 3) == plan
    assert plan_buckets((np.asarray(SOME + SOME[:1]), [1, 1, 1, 1, 0, 1]), 3) == plan_buckets(
        [*SOME[:4], SOME[0], SOME[0]][:4] + [SOME[0]], 3
    )
    torch = pytest.importorskip("torch")
    assert plan_buckets(torch.tensor(SOME), 3) == plan


def test_two_dimensions_pay_where_lengths_do_not_go_together() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(1, 200, 20_000), random.integers(1, 200, 20_000)
    plan = plan_buckets(np.stack([first, second], axis=1), (4, 4))
    assert plan.n_buckets == 16
    # 16 buckets of one number leave the other length padded to its longest.
    assert plan.rivals["one_dimension"].cost > 1.1 * plan.predicted_cost
    assert plan.rivals["equal_mass"].cost > plan.predicted_cost
    free = plan_buckets(np.stack([first, second], axis=1), 16)
    assert free.predicted_cost <= plan.predicted_cost
    assert "grid of 64 x 128" in free.notes[0]


def together(seed: int = 0) -> Array:
    """Pairs of which the second is about as long as the first."""
    random = np.random.default_rng(seed)
    first = random.lognormal(4, 0.8, 3000).clip(1, 2000).astype(int)
    return np.stack([first, (first * random.uniform(0.5, 1.5, 3000)).astype(int) + 1], axis=1)


@pytest.mark.parametrize("options", [{"n_buckets": 6}, {"shape_price": 20_000.0}, {"max_padding": 0.3}])
def test_buckets_along_one_number_are_taken_where_they_cost_less(options: dict[str, Any]) -> None:
    pairs = together()
    plan = plan_buckets(pairs, **options)
    assert plan.predicted_cost < plan.rivals["grid"].cost
    assert plan.method.endswith("one dimension")
    assert "pairs: buckets along the " in plan.notes[0]
    assert "% less, and are taken instead of" in plan.notes[0]
    assert plan.padding < 0.3 or "max_padding" not in options
    # They serve as boundaries of one's own do, and who asks for rows and columns has them.
    given = plan_buckets(pairs, boundaries=plan.boundaries, shape_price=options.get("shape_price", 0.0))
    assert given.predicted_cost == plan.predicted_cost
    assert plan.curve[plan.n_buckets - 1] == pytest.approx(plan.predicted_cost)
    assert "grid of" in plan_buckets(pairs, (3, 2)).notes[0]
    assert "grid" not in plan_buckets(pairs, (3, 2)).rivals


@settings(max_examples=12, deadline=None)
@given(PAIRS, st.sampled_from([None, lambda first, second, batch: float(first * second)]))
def test_as_many_buckets_as_the_curve_says_cost_no_more_than_it_says(
    pairs: list[tuple[int, int]], cost: Any
) -> None:
    options = {} if cost is None else {"cost": cost, "batch_size": 1}
    for number, least in enumerate(plan_buckets(pairs, 3, **options).curve[:4], 1):
        assert plan_buckets(pairs, number, **options).predicted_cost <= least


def test_no_more_buckets_than_are_needed_for_little_padding() -> None:
    pairs = together()
    plan = plan_buckets(pairs, max_padding=0.3)
    assert plan_buckets(pairs, plan.n_buckets - 1).padding > 0.3


@settings(max_examples=20, deadline=None)
@given(PAIRS, st.integers(1, 6), st.sampled_from([None, 300]))
def test_rivals_cost_what_their_boundaries_cost(
    pairs: list[tuple[int, int]], number: int, budget: int | None
) -> None:
    plan = plan_buckets(pairs, number, max_tokens=budget)
    for rival in plan.rivals.values():
        given = plan_buckets(pairs, boundaries=rival.boundaries, max_tokens=budget)
        assert (rival.cost, rival.padding) == (given.predicted_cost, given.padding)


def test_the_baselines_are_what_they_say() -> None:
    rivals = plan_buckets([(1, 10), (2, 1), (3, 10), (6, 1)], (2, 2)).rivals
    # Half of the 12 input steps: {1, 2, 3} and {6}; then half of their 21 output steps: {1, 10} in one, for both are 10.
    assert rivals["equal_mass"].boundaries == ((3, 10), (6, 1))
    assert rivals["equal_mass"].cost == 3 * 13 + 7
    # As many buckets as the plan has, three. By the sum: 3, 7, and 11 with 13, padded to (3, 10).
    assert rivals["one_dimension"].cost == 3 + 7 + 2 * 13


def test_a_budget_is_about_both_lengths() -> None:
    plan = plan_buckets(SOME, 4, max_tokens=400, batch_multiple_of=2, ranks_per_step=2)
    assert plan.batch_sizes == tuple(400 // sum(bound) // 2 * 2 for bound in plan.boundaries)
    assert plan.exact_cost is not None and plan.exact_cost > plan.predicted_cost
    # The longest of both in one bucket do not fit, though each sample does.
    with pytest.raises(
        OptionError, match=r"with 1 buckets .*do not fit into a batch together \(max_tokens=110\)"
    ):
        plan_buckets([(10, 100), (100, 10)], 1, max_tokens=110)
    assert plan_buckets([(10, 100), (100, 10)], 2, max_tokens=110).boundaries == ((10, 100), (100, 10))
    with pytest.raises(OptionError, match=r"with 1 x 2 buckets"):
        plan_buckets([(10, 100), (100, 10), (100, 9), (10, 99)], (1, 2), max_tokens=110)


def test_curves_with_numbers_that_cannot_be_survive_json() -> None:
    plan = plan_buckets([(10, 100), (100, 10)], 2, max_tokens=110)
    assert plan.curve[0] == np.inf
    assert "null" in json.dumps(json.loads(plan.to_json())["curve"])
    assert BucketPlan.from_json(plan.to_json()) == plan
    assert "inf" not in str(plan)


def test_samples_that_do_not_fit_are_refused_cut_or_left_out_and_counted() -> None:
    with pytest.raises(OptionError, match=r"sample \(90, 80\) does not fit with max_tokens=150 \(1 of 5"):
        plan_buckets(SOME, 2, max_tokens=150)
    plan = plan_buckets(SOME, 2, max_tokens=150, on_overflow="drop")
    assert (plan.dropped, plan.samples) == (1, 4)
    assert plan.bucket_of(SOME).tolist().count(-1) == 1
    cut = plan_buckets(SOME, 2, max_length=(95, 50), on_overflow="truncate")
    assert (cut.truncated, cut.samples, cut.limit) == (2, 5, (95, 50))
    assert cut.bucket_of(SOME).min() == 0
    both = plan_buckets(SOME, 2, max_length=50, on_overflow="drop")
    assert (both.dropped, both.samples) == (2, 3)
    # (90, 80) is left out, and of all others no output is longer than 20.
    assert plan.limit == (100, 20)
    assert BucketPlan.from_json(plan.to_json()) == plan
    with pytest.raises(OptionError, match=r"which of its lengths to cut is not said\. Give max_length"):
        plan_buckets(SOME, 2, max_tokens=150, on_overflow="truncate")
    with pytest.raises(OptionError, match=r"bucket_of: lengths\[1\]=\(100, 81\) fits into no bucket"):
        plan_buckets(SOME, 3).bucket_of([(3, 3), (100, 81)])


def test_boundaries_of_ones_own_are_priced_and_kept() -> None:
    plan = plan_buckets(SOME, boundaries=[(5, 10), (100, 80)], max_tokens=400)
    assert plan.boundaries == ((5, 10), (100, 80))
    assert plan.counts == (3, 2)
    assert plan.predicted_cost == 3 * 15 + 2 * 180
    assert plan.batch_sizes == (26, 2)
    with pytest.raises(OptionError, match=r"sample \(90, 80\) does not fit with the boundaries"):
        plan_buckets(SOME, boundaries=[(5, 10), (100, 20)])
    with pytest.raises(OptionError, match="do not rise"):
        plan_buckets(SOME, boundaries=[(100, 80), (5, 10)])
    with pytest.raises(OptionError, match="n_buckets=3 and 1 boundaries were given"):
        plan_buckets(SOME, 3, boundaries=[(100, 90)])


def test_without_a_number_padding_is_at_most_a_tenth_if_32_buckets_reach_that() -> None:
    random = np.random.default_rng(0)
    first = random.integers(50, 200, 5000)
    plan = plan_buckets(np.stack([first, first // 2], axis=1))
    assert plan.padding <= 0.1
    assert plan_buckets(np.stack([first, first // 2], axis=1), plan.n_buckets - 1).padding > 0.1
    rough = plan_buckets(random.integers(1, 500, (5000, 2)))
    assert rough.padding > 0.1
    assert "give n_buckets or shape_price" in rough.notes[-1]


@pytest.mark.parametrize(
    ("lengths", "options", "kind", "message"),
    [
        (np.zeros((0, 2), int), {}, OptionError, "lengths is empty"),
        ([(0, 0)], {}, OptionError, "all 1 pairs are zero"),
        ([(3, -1)], {}, OptionError, "lengths contains -1"),
        ([(3.5, 1)], {}, DtypeError, r"lengths contains 3\.5"),
        ([(2**61, 2**61)], {}, OptionError, r"more than 2\*\*62 steps"),
        ((SOME, [1]), {}, ShapeError, "5 pairs and 1 counts"),
        (SOME, {"n_buckets": (2, 2, 2)}, OptionError, r"n_buckets=\(2, 2, 2\) is not a number or a pair"),
        (SOME, {"n_buckets": (0, 2)}, OptionError, "each of n_buckets=0"),
        (
            SOME,
            {"cost": lambda a, b, n: -1.0, "batch_size": 1},
            OptionError,
            r"cost\(length_in=3, .* is -1\.0",
        ),
        (SOME, {"cost": lambda a, b, n: 1.0}, OptionError, "no rule says how large one is"),
        (
            SOME,
            {"cost": {(1, 1): 2.0}, "batch_size": 1},
            ArrayTypeError,
            r"function \(length_in, length_out, batch\)",
        ),
        (SOME, {"whole_batches": True}, OptionError, "whole_batches=True is for single lengths"),
        (SOME, {"whole_batches": "no"}, OptionError, "whole_batches='no' is not a boolean"),
        (SOME, {"max_length": (1, 2, 3)}, OptionError, "max_length="),
        (SOME, {"on_overflow": "wrap"}, OptionError, "on_overflow='wrap'"),
        (SOME, {"backend": "abacus"}, OptionError, "backend='abacus' is not one of"),
    ],
)
def test_what_cannot_be_is_refused(
    lengths: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^plan_buckets: .*{message}"):
        plan_buckets(lengths, **{"n_buckets": 2, **options})


def test_explain_says_that_it_is_about_single_lengths() -> None:
    with pytest.raises(OptionError, match="explain is about single lengths"):
        seqpar.explain(plan_buckets, SOME, 2)


def test_a_plan_of_pairs_is_saved_and_drawn(tmp_path: Path) -> None:
    plan = plan_buckets(SOME, 3)
    plan.save(tmp_path / "plan.json")
    assert BucketPlan.load(tmp_path / "plan.json") == plan
    found = json.loads(plan.to_json())
    found["boundaries"][0] = [1, 2, 3]
    with pytest.raises(OptionError, match="boundaries are not pairs"):
        BucketPlan.from_json(json.dumps(found))
    pytest.importorskip("matplotlib")
    figure = plan.plot(tmp_path / "plan.png")
    assert len(figure.axes[0].texts) == plan.n_buckets


@pytest.mark.parametrize("number", [6, (3, 2)])
@pytest.mark.parametrize("along", [False, True])
def test_the_picture_shows_each_sample_in_its_bucket(number: Any, along: bool) -> None:
    pytest.importorskip("matplotlib")
    samples = together() if along else np.random.default_rng(1).integers(1, 100, (5000, 2))
    plan = plan_buckets(samples, number)
    axes = plan.plot().axes[0]
    # What is drawn later lies above: of each sample the last opaque rectangle, and the last of all, that hold it.
    seen, base = np.full((2, len(samples), 2), -1.0)
    for drawn in axes.patches:
        (left, low), right, top = (
            drawn.get_xy(),
            drawn.get_x() + drawn.get_width(),
            drawn.get_y() + drawn.get_height(),
        )
        inside = (samples > (left, low)).all(axis=1) & (samples <= (right, top)).all(axis=1)
        seen[inside] = right, top
        if drawn.get_alpha() is None:
            base[inside] = right, top
    expected = np.asarray(plan.boundaries)[plan.bucket_of(samples)]
    assert (seen == expected).all() and (base == expected).all()
    # And its share of the samples is written where the bucket is seen.
    for text, bucket in zip(axes.texts, range(plan.n_buckets), strict=True):
        assert plan.bucket_of(np.ceil([text.get_position()]).astype(int)) == bucket


def test_what_a_bucket_holds_is_served_be_it_longer_than_the_data() -> None:
    options: dict[str, Any] = {"boundaries": [(100, 100)], "batch_size": 2}
    own = {
        rule: plan_buckets([(50, 40)], on_overflow=rule, **options) for rule in ("error", "truncate", "drop")
    }
    for plan in own.values():
        assert plan.limit == (100, 100)
        assert plan.bucket_of([(60, 60)]).tolist() == [0]
    plan = own["truncate"]
    batch = next(iter(seqpar.BucketSampler(plan, [(60, 60)], seed=0)))
    assert batch.tokens == 120
    masks = plan.collate(plan.wrap([(np.ones(60), np.ones(60))]).__getitems__(batch)).mask
    assert [mask.sum() for mask in masks] == [60, 60]
    # Boundaries that are rounded up likewise, as far as `max_length` goes.
    assert plan_buckets([(90, 50), (30, 40)], 1, multiple_of=16).limit == (96, 64)
    capped = plan_buckets(
        [(90, 50), (30, 40)], 1, multiple_of=16, max_length=(70, 60), on_overflow="truncate"
    )
    assert (capped.boundaries, capped.limit) == (((80, 64),), (70, 60))
    assert plan_buckets([(50, 40)], max_length=60, **options).limit == (60, 60)
