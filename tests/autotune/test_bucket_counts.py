"""Buckets tuned against a simulated step: the optimum that trying everything finds, and never worse than without tuning."""

import doctest
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqpar import plan_buckets
from seqpar.errors import MeasurementError, OptionError
from seqpar_autotune import bucket_counts, refined_cost
from seqpar_autotune.bucket_counts import TunedBuckets, tune_buckets
from seqpar_autotune.outcome import Progress
from seqpar_autotune.plan_loop import PlanLoop, Settled
from seqpar_autotune.refined_cost import RefinedCost
from seqpar_autotune.verdict import Verdict

Time = Callable[[int, int], float]


class Step:
    """A step on a clock of its own, compiled once per shape."""

    def __init__(
        self, time: Time, *, compiling: float = 0.0, noise: float = 0.0, seed: int = 0, room: float = math.inf
    ) -> None:
        self.time, self.compiling, self.noise, self.room = time, compiling, noise, room
        self.now = 0.0
        self.seen: set[tuple[int, int]] = set()
        self.random = random.Random(seed)
        self.calls = 0

    def __call__(self, length: int, batch: int) -> None:
        if length * batch > self.room:
            raise MemoryError("simulated")
        self.calls += 1
        self.now += self.time(length, batch) * math.exp(self.random.gauss(0, self.noise))
        if (length, batch) not in self.seen:
            self.seen.add((length, batch))
            self.now += self.compiling

    def clock(self) -> float:
        return self.now


def plain(length: int, batch: int) -> float:
    return 0.002 + 2e-6 * length * batch


def tiled(length: int, batch: int) -> float:
    """Lengths in tiles of 48, with a jump where a cache is full: no formula of the cost model's."""
    return 0.001 + 1e-6 * 48 * -(-length // 48) * batch * (1.4 if length * batch > 3000 else 1.0)


def epoch(boundaries: tuple[int, ...], lengths: list[int], time: Time, batch: int, shape: float) -> float:
    """Of whole batches, and so much for each shape."""
    counts = np.bincount(np.searchsorted(boundaries, lengths), minlength=len(boundaries))
    return sum(
        -(-n // batch) * time(b, batch) for n, b in zip(counts, boundaries, strict=True)
    ) + shape * len(boundaries)


def best_of_all(lengths: list[int], time: Time, batch: int, shape: float, most: int) -> float:
    """Every choice of boundaries among the lengths."""
    *inner, last = sorted(set(lengths))
    chosen = (cut for q in range(most) for cut in itertools.combinations(inner, q))
    return min(epoch((*cut, last), lengths, time, batch, shape) for cut in chosen)


def drawn(seed: int, distinct: int = 9, samples: int = 400) -> list[int]:
    chance = random.Random(seed)
    some = sorted(chance.sample(range(20, 600), distinct))
    return some + [some[min(int(chance.expovariate(0.35)), distinct - 1)] for _ in range(samples)]


def tuned(step: Step, lengths: list[int], **options) -> TunedBuckets:
    return tune_buckets(step, lengths, clock=step.clock, **{"batch_size": 8, "max_buckets": 6, **options})


@pytest.mark.parametrize("module", [bucket_counts, refined_cost])
def test_docstring_examples_run(module) -> None:
    failed, attempted = doctest.testmod(module)
    assert failed == 0 and attempted > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("time, regret", [(plain, 1e-6), (tiled, 0.02)])
def test_the_best_of_all_boundaries_is_found(time: Time, regret: float, seed: int) -> None:
    lengths = drawn(seed)
    step = Step(time, compiling=0.5)
    found = tuned(step, lengths, epochs=50, seed=seed)
    best = best_of_all(lengths, time, 8, 0.5 / 50, most=6)
    assert found.shape_price == pytest.approx(0.5, rel=1e-6)
    truly = epoch(found.plan.boundaries, lengths, time, 8, 0.5 / 50)
    assert truly <= (1 + regret) * best
    assert found.seconds == pytest.approx(truly, rel=1e-6)


def test_it_beats_a_plan_by_padding_where_that_is_not_what_costs() -> None:
    """All the time goes into beginning a step: one bucket is best, and a plan by padding takes several."""
    lengths = drawn(0)
    found = tuned(Step(lambda length, batch: 0.01 + 1e-7 * length * batch, compiling=2.0), lengths, epochs=5)
    assert found.default.n_buckets > 2 and found.plan.n_buckets <= 2
    assert found.gain > 1.5
    assert found.seconds < found.default_seconds


@pytest.mark.parametrize("seed", range(6))
def test_under_noise_an_epoch_is_never_longer_than_without_tuning(seed: int) -> None:
    lengths = drawn(seed)
    step = Step(tiled, compiling=0.5, noise=0.05, seed=seed)
    found = tuned(step, lengths, epochs=50, seed=seed)
    truth = [epoch(plan.boundaries, lengths, tiled, 8, 0.5 / 50) for plan in (found.plan, found.default)]
    assert truth[0] <= 1.01 * truth[1]
    assert abs(found.default_seconds / truth[1] - 1) < 0.1
    assert truth[0] <= 1.05 * best_of_all(lengths, tiled, 8, 0.5 / 50, most=6)


def test_the_plan_without_tuning_stays_where_it_is_the_best() -> None:
    lengths = [100] * 50
    found = tuned(Step(plain), lengths)
    assert found.plan is found.default and found.gain == 1.0 and found.noise is None


def test_dear_compiling_leaves_fewer_buckets_the_fewer_epochs_there_are() -> None:
    lengths = drawn(1)
    numbers = [
        tuned(Step(plain, compiling=3.0), lengths, epochs=epochs).plan.n_buckets for epochs in (1, 10, 1000)
    ]
    assert numbers == sorted(numbers) and numbers[0] < numbers[-1]


def test_batch_sizes_and_multiples_are_chosen_as_well() -> None:
    lengths = drawn(2)
    found = tuned(Step(tiled), lengths, batch_size=[4, 16], multiple_of=(16, 48))
    assert found.plan.batch_sizes == (16,) * found.plan.n_buckets
    assert set(found.default.batch_sizes) == {4} and found.default.multiple_of == 16
    tried = {(h.config["batch_size"], h.config["multiple_of"]) for h in found.history if h.config}
    assert tried == set(itertools.product((4, 16), (16, 48)))


def test_shapes_without_room_are_no_error_and_not_taken() -> None:
    lengths = drawn(3)
    room = 8 * max(lengths)
    found = tuned(Step(plain, room=room), lengths, batch_size=[8, 64])
    assert set(found.plan.batch_sizes) == {8}
    verdicts = {h.verdict for h in found.history if h.config.get("batch_size") == 64}
    assert verdicts == {Verdict.MEMORY}
    assert all(length * batch <= room for length, batch in found.times)


def test_a_default_without_room_gives_way() -> None:
    lengths = drawn(3)
    found = tuned(Step(plain, room=8 * max(lengths)), lengths, batch_size=[64, 8])
    assert set(found.plan.batch_sizes) == {8} and found.default_seconds == math.inf
    assert math.isfinite(found.seconds) and found.gain == math.inf
    with pytest.raises(MeasurementError, match="no size fits into memory"):
        tuned(Step(plain, room=10), lengths)


def test_numbers_with_the_same_plan_are_measured_once() -> None:
    lengths = [50] * 40 + [100] * 40 + [400] * 9
    found = tuned(Step(plain), lengths, max_buckets=12)
    measured = [h.plan.boundaries for h in found.history if h.verdict is Verdict.OK]
    assert len(measured) == len(set(measured)) <= 3
    assert set(found.by_buckets) <= {1, 2, 3}


def test_history_and_times_hold_what_was_measured() -> None:
    lengths = drawn(4)
    step = Step(plain, compiling=0.1)
    found = tuned(step, lengths)
    assert set(found.times) == step.seen
    for one in found.history:
        if one.verdict is Verdict.OK:
            assert one.seconds == pytest.approx(epoch(one.plan.boundaries, lengths, plain, 8, 0.01), rel=1e-3)
    assert found.seconds <= min(found.by_buckets.values()) * (1 + 1e-9)
    text = str(found)
    assert (
        f"{found.plan.n_buckets} buckets" in text
        and text.count("<-") == 1
        and "a new shape costs 100 ms" in text
    )


def test_ranks_share_the_steps_of_an_epoch() -> None:
    lengths = drawn(0)
    alone, four = (tuned(Step(plain), lengths, ranks_per_step=ranks) for ranks in (1, 4))
    assert four.seconds == pytest.approx(alone.seconds / 4, rel=0.15)


def test_where_the_untuned_plan_does_not_fit_into_memory_the_others_have_times_of_their_own() -> None:
    step = Step(plain, room=3000)
    lengths = [length for length in range(10, 110, 10) for _ in range(40)]
    tuned = tune_buckets(step, lengths, batch_size=[64, 8], clock=step.clock, max_buckets=4)
    assert math.isinf(tuned.default_seconds) and tuned.gain == math.inf
    assert tuned.seconds == tuned.by_buckets[tuned.plan.n_buckets] == min(tuned.by_buckets.values())
    own = tuned.plan
    assert tuned.seconds == pytest.approx(
        sum(
            -(-count // batch) * plain(length, batch)
            for length, batch, count in zip(own.boundaries, own.batch_sizes, own.counts, strict=True)
        )
    )
    text = str(tuned)
    assert "do not fit into memory" in text and "inf" not in text and "nan" not in text
    assert [line.split()[3] for line in text.splitlines()[2:-1]] == ["-"] * len(tuned.by_buckets)


def test_seconds_are_kept_and_progress_is_told() -> None:
    lengths = drawn(5)
    told: list[Progress] = []
    step = Step(plain, compiling=0.2)
    all_of_it = tuned(Step(plain, compiling=0.2), lengths, max_buckets=9)
    limit = 20.0
    found = tuned(step, lengths, max_buckets=9, seconds=limit, observe=told.append)
    assert told and told[-1].evaluations == len(found.outcome.measured)
    assert step.now <= 1.5 * limit
    assert found.seconds <= found.default_seconds
    assert len(found.history) <= len(all_of_it.history)


@pytest.mark.parametrize("compiling", [0.0, 3.0])
@pytest.mark.parametrize("limit", [0.5, 4.0, 15.0, 40.0, 100.0, 400.0, 2000.0])
@pytest.mark.parametrize("slow", [1.0, 30.0])
def test_seconds_hold_all_that_is_done_however_slow_the_step(
    slow: float, limit: float, compiling: float
) -> None:
    """First calls, warming up, plans that ask for new shapes and the final: within 20 % and one step."""
    lengths = drawn(5, distinct=40)
    step = Step(lambda length, batch: slow * tiled(length, batch) * 20, compiling=compiling, noise=0.1)
    found = tuned(step, lengths, max_buckets=12, seconds=limit)
    longest = max(slow * 20 * 1.5 * tiled(length, batch) for length, batch in step.seen) + compiling
    assert step.now <= 1.2 * limit + longest
    assert math.isfinite(found.seconds) and found.seconds <= found.default_seconds
    assert found.times and str(found)
    assert found.outcome.why in ("time", "exhausted")


def test_a_search_that_is_done_early_leaves_a_second_plan_only_the_time_that_is_left() -> None:
    lengths = drawn(0)
    step = Step(lambda length, batch: 0.01 + 1e-7 * length * batch, compiling=2.0)
    for limit in range(10, 60, 5):
        step.now, step.seen = 0.0, set()
        tuned(step, lengths, epochs=5, seconds=limit)
        assert step.now <= 1.2 * limit + 2.1


def test_without_time_for_the_first_formula_the_plan_without_tuning_is_the_answer() -> None:
    step = Step(lambda length, batch: 10.0)
    found = tuned(step, drawn(0), seconds=15)
    assert step.calls == 2 and step.now == 20.0
    assert found.plan is found.default and found.outcome.why == "time" and found.history == ()
    assert set(found.times.values()) == {10.0} and found.gain == 1.0


def test_equal_seeds_and_times_give_equal_plans() -> None:
    lengths = drawn(6)
    first, again = (tuned(Step(tiled, noise=0.02), lengths, seed=3) for _ in range(2))
    assert first.plan.boundaries == again.plan.boundaries
    assert first.outcome == again.outcome


def test_ctrl_c_returns_the_best_so_far() -> None:
    lengths = drawn(7)
    step = Step(plain, compiling=0.1)

    def interrupted(length: int, batch: int) -> None:
        if step.calls == 100:
            raise KeyboardInterrupt
        step(length, batch)

    found = tune_buckets(interrupted, lengths, batch_size=8, max_buckets=6, clock=step.clock)
    assert found.outcome.why == "interrupted" and found.history
    assert found.seconds <= found.default_seconds


def test_an_error_of_the_step_is_the_users_to_see() -> None:
    def broken(length: int, batch: int) -> None:
        raise ValueError("wrong shape")

    with pytest.raises(MeasurementError, match="raised ValueError: wrong shape"):
        tune_buckets(broken, drawn(0), batch_size=8)


def test_pairs_of_lengths_are_refused() -> None:
    with pytest.raises(OptionError, match="lengths are pairs, which are planned on grids"):
        tune_buckets(lambda length, batch: None, [(3, 4), (5, 6)], batch_size=8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": []}, r"batch_size=\[\] leaves nothing to choose from"),
        ({"epochs": 0}, "epochs=0 is no number of epochs"),
        ({"epochs": math.nan}, "epochs=nan is no number of epochs"),
        ({"seconds": 0}, "seconds=0 is no time"),
        ({"seconds": float("inf")}, "seconds=inf is no time"),
        ({"seconds": -1.0}, "seconds=-1.0 is no time"),
        ({"n_buckets": 3}, "n_buckets= is what is found out here"),
        ({"cost": plain}, "cost= is what is found out here"),
        ({"batch_size": 2.5}, "batch_size=2.5 is not a whole number"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_the_step_runs(options: Any, words: str) -> None:
    step = Step(plain)
    with pytest.raises(OptionError, match=words):
        tune_buckets(step, [10, 20, 30], clock=step.clock, **{"batch_size": 4, **options})
    assert step.calls == 0


def test_numbers_of_numpy_are_numbers() -> None:
    def key(batch_size: Any) -> str:
        return tuned(Step(plain), drawn(0), batch_size=batch_size).plan.key

    assert key(np.int64(8)) == key(8)
    assert key(np.array([8, 16])) == key([8, 16])


def test_ctrl_c_behind_the_search_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle, searched = PlanLoop.settle, list[str]()

    def interrupted(self: PlanLoop, n_buckets: int, **rules: Any) -> Settled:
        if searched:
            raise KeyboardInterrupt
        return settle(self, n_buckets, **rules)

    def observe(progress: Progress) -> None:
        searched.extend([progress.phase] if progress.phase == "final" else [])

    monkeypatch.setattr(PlanLoop, "settle", interrupted)
    step = Step(lambda length, batch: 0.01 + 1e-7 * length * batch, compiling=2.0)
    found = tuned(step, drawn(0), epochs=5, observe=observe)
    assert searched and found.gain > 1.5


def test_the_refined_cost_is_exact_at_what_was_measured_and_nearer_than_the_formula_between() -> None:
    times = {(length, 8): tiled(length, 8) for length in (30, 90, 200, 320, 500)}
    cost = RefinedCost(times)
    for (length, batch), seconds in times.items():
        assert cost(length, batch) == pytest.approx(seconds, rel=1e-9)
    near = [(88, 8), (205, 8), (330, 8), (480, 8)]
    off = [abs(math.log(cost(*size) / tiled(*size))) for size in near]
    formula = [abs(math.log(cost.model(*size) / tiled(*size))) for size in near]
    assert sum(off) < sum(formula)
    assert cost.times([30, 90], [8, 8]).tolist() == [cost(30, 8), cost(90, 8)]


def test_a_histogram_is_taken_as_well() -> None:
    lengths = drawn(0)
    distinct, counts = np.unique(lengths, return_counts=True)
    found = tuned(Step(plain, compiling=0.5), (distinct, counts))
    assert found.plan.boundaries == tuned(Step(plain, compiling=0.5), lengths).plan.boundaries
    priced = plan_buckets((distinct, counts), boundaries=found.plan.boundaries, cost=plain, batch_size=8)
    assert found.seconds == pytest.approx(priced.exact_cost + 0.05 * priced.n_buckets, rel=1e-6)
