"""Few shared rounds of many, more of fewer: better than many times of each, and never a failure among those that last."""

import math
import random
import statistics

from landscapes import Landscape, Machine, ladder, listed
from seqpar_autotune.halving import CLEARLY, FEW, halve, survivors
from seqpar_autotune.outcome import Failure
from seqpar_autotune.rounds import Rounds
from seqpar_autotune.space import Point
from seqpar_autotune.verdict import Verdict

PLAN = (2, 3, 5, 10)


def spread(seed: int) -> Landscape:
    """64 candidates, of which many are near the best and few far off."""
    chance = random.Random(f"spread {seed}")
    return ladder(
        64, [1e-3 * math.exp(chance.expovariate(2)) for _ in range(64)], default=chance.randrange(64)
    )


def halved(landscape: Landscape, seed: int) -> tuple[Point, int]:
    machine = Machine(landscape, seed)
    points = list(landscape.space.points())
    rounds = Rounds(machine, landscape.space.default, generator=random.Random(seed), clock=machine.now)
    for _ in range(PLAN[0]):
        rounds.run(points)
    order = halve(rounds, points, plan=PLAN[1:], keep=1 / 3, ratio=rounds.ratio, run=rounds.run)
    return order[0], rounds.samples


def medians(landscape: Landscape, seed: int, times: int) -> tuple[Point, int]:
    """Each candidate so many times, one candidate after the other."""
    machine = Machine(landscape, seed)
    points = list(landscape.space.points())
    found = {point: statistics.median(machine([point])[0] for _ in range(times)) for point in points}
    return min(points, key=found.__getitem__), 64 * times


def test_under_a_drifting_clock_halving_beats_five_times_as_many_times_of_each() -> None:
    regret: dict[str, list[float]] = {"halved": [], "medians": []}
    for seed in range(30):
        landscape = spread(seed)
        for name, (point, samples) in {
            "halved": halved(landscape, seed),
            "medians": medians(landscape, seed, 25),
        }.items():
            regret[name].append(landscape.seconds(point) / landscape.best - 1)
            assert samples <= (320 if name == "halved" else 1600)
    assert statistics.fmean(regret["halved"]) < 0.003
    assert statistics.fmean(regret["halved"]) < statistics.fmean(regret["medians"])


def test_survivors_are_a_part_never_a_few_and_none_that_is_clearly_slower() -> None:
    ratios = {Point(f"m{i}"): 1 + i / 100 for i in range(30)}
    order = list(ratios)
    assert survivors(order, keep=1 / 3, ratio=ratios.__getitem__) == order[:10]
    assert survivors(order[:9], keep=1 / 3, ratio=ratios.__getitem__) == order[:FEW]
    ratios[order[2]] = 1.01 * CLEARLY
    assert order[2] not in survivors(order[:4], keep=1 / 3, ratio=ratios.__getitem__)
    assert survivors([], keep=1 / 3, ratio=ratios.__getitem__) == []


def test_a_candidate_that_fails_in_a_later_round_does_not_last() -> None:
    landscape = listed({"slow": 1.0, "fast": 0.8, "frail": 0.7}, "slow")
    machine = Machine(landscape, 0)

    def evaluate(points):
        readings = machine(points)
        frail = Point("frail")
        if frail in points and machine.asked[frail] > 3:
            readings[points.index(frail)] = Failure(Verdict.CRASH, "at last")
        return readings

    points = list(landscape.space.points())
    rounds = Rounds(evaluate, landscape.space.default, generator=random.Random(0), clock=machine.now)
    for _ in range(2):
        rounds.run(points)
    order = halve(rounds, points, plan=(3, 5), keep=1.0, ratio=rounds.ratio, run=rounds.run)
    assert order[0] == Point("fast") and Point("frail") not in order


def test_halving_stops_where_there_is_no_time_and_keeps_the_order_so_far() -> None:
    landscape = spread(0)
    machine = Machine(landscape, 0)
    points = list(landscape.space.points())
    rounds = Rounds(machine, landscape.space.default, generator=random.Random(0), clock=machine.now)
    rounds.run(points)
    before = rounds.samples
    order = halve(
        rounds,
        points,
        plan=(3, 5),
        keep=1 / 3,
        ratio=rounds.ratio,
        run=rounds.run,
        may_run=lambda samples: False,
    )
    assert rounds.samples == before
    assert [rounds.ratio(point) for point in order] == sorted(rounds.ratio(point) for point in order)


def test_ratios_of_points_of_different_rounds_are_compared_without_the_drift() -> None:
    """The clock runs twice as slow in the second round: the plain times would say that `late` is the slower one."""
    seconds = {"default": 1.0, "early": 0.9, "late": 0.8}
    pace = [1.0]

    def evaluate(points):
        return [pace[0] * seconds[point.branch] for point in points]

    rounds = Rounds(evaluate, Point("default"), generator=random.Random(0), clock=lambda: 0.0)
    rounds.run([Point("early")])
    pace[0] = 2.0
    rounds.run([Point("late")])
    assert rounds.seconds[Point("late")] > rounds.seconds[Point("early")]
    for name, time in seconds.items():
        assert abs(rounds.ratio(Point(name)) - time) < 1e-6


def test_one_ruined_time_hardly_moves_the_estimate() -> None:
    chance = random.Random(0)
    ruin = iter([False] * 7 + [True] + [False] * 2)

    def evaluate(points):
        ruined = next(ruin)
        level = {"default": 1.0, "fast": 4.5 if ruined else 0.9}
        return [level[point.branch] * math.exp(chance.gauss(0, 0.01)) for point in points]

    rounds = Rounds(evaluate, Point("default"), generator=random.Random(0), clock=lambda: 0.0)
    for _ in range(10):
        rounds.run([Point("fast")])
    assert abs(rounds.ratio(Point("fast")) / 0.9 - 1) < 0.02
