"""The whole search on simulated machines: how good its choices are, what it never does, and that it keeps what it measured."""

import json
import math
import random
import statistics
from collections.abc import Sequence

import pytest

from landscapes import Landscape, Machine, Recording, ladder, listed, smooth
from seqpar.errors import OptionError
from seqpar_autotune.budget import Budget, Rigor
from seqpar_autotune.outcome import Measured, Outcome, Progress, Reading
from seqpar_autotune.search import search
from seqpar_autotune.space import Branch, Knob, Point, Space
from seqpar_autotune.verdict import Verdict

BROKEN = (Verdict.WRONG, Verdict.CRASH, Verdict.TIMEOUT, Verdict.MEMORY, Verdict.COMPILE, Verdict.INVALID)


def on(landscape: Landscape, seed: int = 0, *, machine: Machine | None = None, **options) -> Outcome:
    machine = machine or Machine(landscape, seed)
    return search(landscape.space, machine, seed=seed, clock=machine.now, **options)


def tried(outcome: Outcome) -> list[str]:
    return [one.point.key for one in outcome.measured]


# How good it is.


def test_regret_on_a_large_space_is_small_also_where_the_fastest_points_are_wrong() -> None:
    """4,200 combinations, 120 of them measured; every second time a twentieth of the points is three times faster and wrong."""
    regrets = []
    for seed in range(3):
        landscape = smooth(seed, wrong=0.05 * (seed % 2))
        outcome = on(landscape, seed)
        regrets.append(landscape.regret(outcome))
        assert outcome.evaluations == 120 and outcome.why == "budget"
        assert landscape.verdict(outcome.choice) is Verdict.OK
        assert landscape.seconds(outcome.choice) < 0.95 * landscape.seconds(landscape.space.default)
    assert statistics.median(regrets) <= 0.02
    assert max(regrets) <= 0.10


@pytest.mark.parametrize("ruined", [0.0, 0.05])
def test_regret_on_a_small_space_is_smaller_since_all_of_it_is_tried(ruined: float) -> None:
    regrets = []
    for seed in range(20):
        chance = random.Random(seed)
        times = [1e-3 * math.exp(chance.expovariate(2)) for _ in range(64)]
        landscape = ladder(64, times, default=chance.randrange(64))
        outcome = on(landscape, seed, machine=Machine(landscape, seed, ruined=ruined))
        assert outcome.why == "exhausted" and outcome.evaluations == 64
        regrets.append(landscape.regret(outcome))
    assert statistics.median(regrets) <= 0.005
    # The least gain worth another method is 2 %, and noise comes on top of it.
    assert max(regrets) <= 0.03


def test_few_evaluations_do_better_than_as_many_points_at_random() -> None:
    regrets, at_random = [], []
    for seed in range(4):
        landscape = smooth(seed)
        regrets.append(landscape.regret(on(landscape, seed, budget=Budget(evaluations=40))))
        points = list(landscape.space.points())
        best = min(map(landscape.seconds, random.Random(seed).sample(points, 40)))
        at_random.append(best / landscape.best - 1)
    assert statistics.fmean(regrets) < statistics.fmean(at_random)


# The default stays unless something is certainly better.


@pytest.mark.parametrize("noise", [{"noise": 0.02}, {"noise": 0.05, "ruined": 0.05}])
def test_ties_almost_never_replace_the_default(noise: dict[str, float]) -> None:
    landscape = listed({f"m{i}": 1e-3 for i in range(6)}, "m0")
    adopted = sum(
        on(landscape, seed, machine=Machine(landscape, seed, **noise), rigor="quick").adopted
        for seed in range(100)
    )
    # 200 searches in all, of which 1 % at most may be wrong, and chance.
    assert adopted <= 3


def test_a_gain_is_adopted_and_stated_with_its_noise() -> None:
    for seed in range(10):
        landscape = listed({"old": 1.0, "new": 0.8, "other": 0.9}, "old")
        outcome = on(landscape, seed)
        assert outcome.adopted and outcome.choice == Point("new")
        assert outcome.noise is not None and 0 < outcome.noise < 0.05
        assert abs(outcome.gain - 1.25) < 2 * 1.25 * outcome.noise


def test_the_default_stays_where_it_is_the_best_and_there_is_no_final() -> None:
    outcome = on(listed({"old": 1.0, "new": 1.3}, "old"))
    assert not outcome.adopted and outcome.final is None and outcome.gain == 1.0
    assert outcome.choice == outcome.default.point == Point("old")


# Candidates that misbehave.


@pytest.mark.parametrize("verdict", BROKEN)
def test_the_fastest_candidate_is_not_chosen_when_it_is_broken(verdict: Verdict) -> None:
    landscape = listed({"old": 1.0, "broken": 0.1, "new": 0.7}, "old", {"broken": verdict})
    machine = Machine(landscape, 0)
    outcome = on(landscape, machine=machine)
    assert outcome.choice == Point("new")
    (broken,) = (one for one in outcome.measured if one.point == Point("broken"))
    assert broken.verdict is verdict and broken.message == f"simulated: {verdict}" and broken.seconds == ()
    assert machine.asked[Point("broken")] == 1


def test_a_default_that_everything_else_fails_beside_stays() -> None:
    times = {"old": 1.0, **{f"m{i}": 0.1 for i in range(len(BROKEN))}}
    broken = {f"m{i}": verdict for i, verdict in enumerate(BROKEN)}
    outcome = on(listed(times, "old", broken))
    assert not outcome.adopted and outcome.choice == Point("old")
    assert {one.verdict for one in outcome.measured} == {Verdict.OK, *BROKEN}


def test_a_default_that_does_not_run_is_replaced_by_the_best_that_does() -> None:
    landscape = listed({"old": 1.0, "new": 3.0, "other": 2.0}, "old", {"old": Verdict.CRASH})
    outcome = on(landscape)
    assert outcome.adopted and outcome.choice == Point("other") and outcome.final is None
    assert outcome.gain == math.inf


def test_a_default_that_was_only_cut_off_is_not_replaced() -> None:
    landscape = listed({"old": 1.0, "new": 9.0, "other": 9.5}, "old", {"old": Verdict.TIMEOUT})
    outcome = on(landscape)
    assert not outcome.adopted and outcome.choice == Point("old") and outcome.gain == 1.0
    assert outcome.winner is not None and outcome.winner.point == Point("new")
    assert outcome.default.verdict is Verdict.TIMEOUT


def test_where_nothing_runs_there_is_no_winner() -> None:
    landscape = listed({"old": 1.0, "new": 1.0}, "old", {"old": Verdict.CRASH, "new": Verdict.WRONG})
    outcome = on(landscape)
    assert outcome.winner is None and not outcome.adopted and outcome.samples == 0
    assert outcome.choice == Point("old")


@pytest.mark.parametrize("time", [math.inf, math.nan, 0.0, -1e-9])
def test_times_that_are_none_are_refused(time: float) -> None:
    outcome = on(listed({"old": 1.0, "odd": time, "new": 0.8}, "old"))
    assert outcome.choice == Point("new")
    assert next(o for o in outcome.measured if o.point == Point("odd")).verdict is Verdict.UNSTABLE


def failing_from(round_of: int, machine: Machine, which: str):
    """Later than in its check: what works for a while and then crashes."""

    def evaluate(points: Sequence[Point]) -> list[Reading]:
        readings = machine(points)
        for i, point in enumerate(points):
            if point == Point(which) and machine.asked[point] >= round_of:
                machine.landscape.verdict = lambda p: Verdict.CRASH if p == Point(which) else Verdict.OK
                readings[i] = machine._read(point)
        return readings

    return evaluate


@pytest.mark.parametrize("round_of", [1, 2, 3, 8, 12, 20, 27])
def test_a_winner_that_fails_at_any_moment_gives_way_to_the_next(round_of: int) -> None:
    landscape = listed({"old": 1.0, "frail": 0.5, "new": 0.7, "other": 0.9}, "old")
    machine = Machine(landscape, 0)
    outcome = search(landscape.space, failing_from(round_of, machine, "frail"), clock=machine.now)
    assert outcome.adopted and outcome.choice == Point("new")
    assert outcome.final is not None and abs(outcome.final.ratio - 0.7) < 0.05


@pytest.mark.parametrize("round_of", [2, 12, 30])
def test_a_default_that_fails_at_any_moment_gives_way(round_of: int) -> None:
    landscape = listed({"old": 0.5, "new": 0.7, "other": 0.9}, "old")
    machine = Machine(landscape, 0)
    outcome = search(landscape.space, failing_from(round_of, machine, "old"), clock=machine.now)
    assert outcome.adopted == (outcome.default.verdict is Verdict.CRASH)
    assert outcome.choice == (Point("new") if outcome.adopted else Point("old"))


# Budgets.


@pytest.mark.parametrize("evaluations", [1, 7, 40])
def test_no_more_points_are_tried_than_the_budget_names(evaluations: int) -> None:
    outcome = on(smooth(0), budget=Budget(evaluations=evaluations))
    assert outcome.evaluations == evaluations == len(set(tried(outcome)))


@pytest.mark.parametrize("seconds", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("compiling", [0.0, 0.05])
def test_seconds_are_kept_but_for_a_last_evaluation_and_the_shortest_final(
    seconds: float, compiling: float
) -> None:
    landscape = ladder(200, [0.005 * (1 + abs(i - 120) / 60) for i in range(200)], default=10)
    machine = Machine(landscape, 0, compiling=compiling)
    outcome = on(landscape, machine=machine, budget=Budget(seconds=seconds))
    assert outcome.elapsed == machine.time <= 1.1 * seconds + 0.05
    assert outcome.why in ("time", "exhausted")
    if outcome.why == "time":
        # What was given is used.
        assert outcome.elapsed >= 0.5 * seconds
    assert outcome.adopted or seconds == 0.5


def test_a_hang_costs_its_time_limit_once_and_the_search_still_ends_in_time() -> None:
    times = {"old": 0.01, "hangs": 1.0, **{f"m{i}": 0.009 for i in range(50)}}
    landscape = listed(times, "old", {"hangs": Verdict.TIMEOUT})
    machine = Machine(landscape, 0)
    outcome = on(landscape, machine=machine, budget=Budget(seconds=20))
    assert machine.asked[Point("hangs")] == 1
    assert 5 < outcome.elapsed < 20


def test_exploring_ends_near_the_physical_limit() -> None:
    landscape = ladder(60, [1.0] + [0.5] * 59)
    outcome = on(landscape, limit=0.5, good_enough=0.9)
    assert outcome.why == "good_enough" and outcome.evaluations < 60 and outcome.adopted
    assert on(landscape, limit=0.1).why == "exhausted"


def test_a_rigor_of_ones_own_is_taken() -> None:
    careful = Rigor(evaluations=5, batch=2, rounds=(1, 2), final=9, whole=3)
    landscape = listed({"old": 1.0, "new": 0.8}, "old")
    assert len(on(landscape, rigor=careful).final.winner) == 9


# What is tried.


def test_small_spaces_are_tried_whole_and_each_point_once_until_halving() -> None:
    landscape = ladder(300, [1.0 + i / 100 for i in range(300)], default=250)
    told: list[Progress] = []
    machine = Machine(landscape, 0)
    outcome = on(landscape, machine=machine, observe=told.append)
    assert outcome.why == "exhausted" and len(set(tried(outcome))) == outcome.evaluations == 300
    new: dict[Point, list[int]] = {}
    for number, progress in enumerate(told):
        if progress.phase == "explore":
            for one in progress.measured:
                new.setdefault(one.point, []).append(number)
    beside = {landscape.space.default, *(p.best.point for p in told if p.best is not None)}
    # But for the default and the best so far, a point is in the rounds of one batch.
    assert all(rounds[-1] - rounds[0] <= 1 for point, rounds in new.items() if point not in beside)


def test_warm_points_come_first_after_the_default_also_between_the_values_of_a_knob() -> None:
    landscape = ladder(400, [1.0] * 400)
    landscape.seconds = lambda point: 1.0 + abs(point.config["k"] - 200.5)
    warm = [Point.of("only", k=201), Point.of("only", k=200.5)]
    outcome = on(landscape, warm=warm, budget=Budget(evaluations=10))
    assert set(tried(outcome)[:2]) == {warm[1].key, landscape.space.default.key}
    assert warm[0].key in tried(outcome)[:9]
    assert outcome.choice == warm[1]
    # A point that may not run is not run because somebody recommends it.
    refused = Space(landscape.space.branches, landscape.space.default, lambda point: point.config["k"] < 200)
    outcome = search(refused, Machine(landscape, 0), warm=warm, budget=Budget(evaluations=10))
    assert not {p.key for p in warm} & set(tried(outcome))


def test_every_method_is_tried_once_from_its_own_start() -> None:
    landscape = smooth(0)
    outcome = on(landscape, budget=Budget(evaluations=4))
    assert {one.point.branch for one in outcome.measured} == {"walk", "chunked", "tree"}


def test_known_failures_are_not_tried_again_and_known_winners_are_measured_again() -> None:
    landscape = ladder(30, [1.0 - i / 100 for i in range(30)])
    bad, good = Point.of("only", k=29), Point.of("only", k=28)
    known = [Measured(bad, Verdict.CRASH, message="then"), Measured(good, Verdict.OK, (0.7,), 0.72)]
    machine = Machine(landscape, 0)
    outcome = on(landscape, machine=machine, known=known)
    assert bad not in machine.asked and machine.asked[good] > 10
    assert outcome.choice == good
    assert next(one for one in outcome.measured if one.point == bad).elsewhere


def test_deterministic_leaves_out_methods_that_are_not() -> None:
    space = Space((Branch("fast", deterministic=False), Branch("slow"), Branch("safe")), Point("slow"))
    landscape = Landscape(space, lambda point: {"fast": 0.1, "safe": 0.8, "slow": 1.0}[point.branch])
    assert on(landscape, numerics="deterministic").choice == Point("safe")
    assert on(landscape).choice == Point("fast")
    with pytest.raises(OptionError, match="Did you mean 'deterministic'"):
        on(landscape, numerics="determinstic")


# Same seeds, interruptions, progress, records.


def test_equal_seeds_and_times_give_equal_outcomes_and_other_seeds_other_points() -> None:
    landscape = smooth(3)
    options = {"budget": Budget(evaluations=30)}
    first, again = (on(landscape, 5, **options) for _ in range(2))
    assert first == again
    other = search(landscape.space, Machine(landscape, 5), seed=6, **options)
    assert set(tried(other)) != set(tried(first))


@pytest.mark.parametrize("rounds", [0, 1, 3, 20, 40, 50])
def test_ctrl_c_at_any_moment_keeps_everything_measured(rounds: int) -> None:
    landscape = ladder(40, [1.0 - i / 100 for i in range(40)])
    machine = Machine(landscape, 0)
    told: list[Progress] = []

    def evaluate(points: Sequence[Point]) -> list[Reading]:
        if len(machine.rounds) == rounds:
            raise KeyboardInterrupt
        return machine(points)

    outcome = search(landscape.space, evaluate, clock=machine.now, observe=told.append)
    assert outcome.why == "interrupted"
    assert outcome.samples == sum(machine.asked.values()) == sum(len(one.seconds) for one in outcome.measured)
    assert set(tried(outcome)) == {point.key for point in machine.asked}
    assert len(told) == rounds
    # In the final there may be pairs enough to be certain; before it nothing replaces the default.
    assert not outcome.adopted or (outcome.final is not None and len(outcome.final.winner) >= 7)


def test_ctrl_c_in_the_final_of_the_next_does_not_choose_the_one_that_failed() -> None:
    landscape = listed({"old": 1.0, "frail": 0.5, "new": 0.7}, "old")
    machine = Machine(landscape, 0)
    failing = failing_from(20, machine, "frail")

    def evaluate(points: Sequence[Point]) -> list[Reading]:
        if len(machine.rounds) >= 40:
            raise KeyboardInterrupt
        return failing(points)

    outcome = search(landscape.space, evaluate, clock=machine.now)
    assert outcome.why == "interrupted"
    assert outcome.winner is not None and outcome.winner.point == Point("new")


def test_progress_says_what_is_so() -> None:
    landscape = smooth(1)
    machine = Machine(landscape, 1)
    told: list[Progress] = []
    outcome = on(landscape, 1, machine=machine, observe=told.append, budget=Budget(evaluations=30))
    assert [p.evaluations for p in told] == sorted(p.evaluations for p in told)
    assert told[-1].evaluations == outcome.evaluations == 30
    assert all(p.planned == 30 and p.seconds is None for p in told)
    assert [p.elapsed for p in told] == sorted(p.elapsed for p in told)
    phases = [p.phase for p in told]
    assert phases == sorted(phases, key=("explore", "halve", "final").index)
    # One message per round, with the points of that round.
    assert [{m.point for m in p.measured} for p in told] == [set(points) for points in machine.rounds]
    for p in told:
        assert p.best is not None and p.best.verdict is Verdict.OK
        assert p.default is not None and p.default.ratio == 1.0


def test_an_outcome_is_kept_by_json_and_replayed_to_the_same_choice() -> None:
    landscape = listed({"old": 1.0, "new": 0.8, "broken": 0.1}, "old", {"broken": Verdict.WRONG})
    outcome = on(landscape)
    again = Outcome.from_dict(json.loads(json.dumps(outcome.to_dict())))
    assert again == outcome
    replayed = search(landscape.space, Recording.of(again), clock=lambda: 0.0)
    assert replayed.choice == outcome.choice and replayed.adopted


def test_an_evaluator_that_forgets_a_point_is_told_so() -> None:
    landscape = listed({"old": 1.0, "new": 0.8}, "old")
    with pytest.raises(RuntimeError, match="gave 1 readings for 2 points"):
        search(landscape.space, lambda points: [1.0])


def test_unordered_knobs_are_searched_as_well() -> None:
    colours = Knob("colour", tuple("abcdefghij"), ordered=False)
    sizes = Knob("size", tuple(range(40)))
    space = Space((Branch("only", (colours, sizes)),), Point.of("only", colour="a", size=0))
    landscape = Landscape(
        space, lambda p: 1.0 + (p.config["colour"] != "g") + ((p.config["size"] - 25) / 40) ** 2
    )
    outcome = on(landscape, budget=Budget(evaluations=60))
    assert outcome.choice.config["colour"] == "g" and landscape.regret(outcome) < 0.05
