"""Points given out once each: by the queue, by TPE, to several processes that share a storage."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from landscapes import Machine, ladder, smooth
from seqpar.errors import OptionError
from seqpar_autotune import claims, sampling
from seqpar_autotune.budget import Budget
from seqpar_autotune.outcome import LeftOut, Measured, Reading
from seqpar_autotune.sampling import Trials
from seqpar_autotune.search import search
from seqpar_autotune.space import Branch, Knob, Point, Space
from seqpar_autotune.storage import open_storage
from seqpar_autotune.verdict import Verdict

GRID = Space(
    (Branch("walk"), Branch("chunked", (Knob("chunk", tuple(range(6))), Knob("warps", tuple(range(5)))))),
    Point("walk"),
    lambda point: sum(point.config.values()) != 4,
)


def told(trials: Trials, points: list[Point]) -> None:
    for point in points:
        trials.tell(Measured(point, Verdict.OK, (1.0,), 1.0 + sum(point.config.values())))


def all_of(trials: Trials, count: int = 4) -> list[Point]:
    found: list[Point] = []
    while points := trials.claim(count):
        told(trials, points)
        found += points
    return found


def test_a_listed_space_is_given_out_whole_each_point_once_the_first_ones_first() -> None:
    points = list(GRID.points())
    first = [
        points[7],
        points[3],
        points[7],
        Point.of("chunked", chunk=2, warps=2),
        Point("of another space"),
    ]
    found = all_of(Trials(GRID, seed=0, first=first, whole=points))
    assert found[:2] == [points[7], points[3]]
    assert len(found) == len(set(found)) and set(found) == set(points)


def test_tpe_gives_out_every_eligible_point_once_and_then_no_more() -> None:
    """The space has 26 eligible points of 31; TPE alone proposes the good ones again and again."""
    found = all_of(Trials(GRID, seed=0))
    assert len(found) == len(set(found)) and set(found) == set(GRID.points())


def test_points_with_a_failure_are_given_out_once_as_well() -> None:
    trials = Trials(GRID, seed=0)
    found: list[Point] = []
    while points := trials.claim(5):
        for point in points:
            trials.tell(Measured(point, Verdict.CRASH, message="at once"))
        found += points
    assert len(found) == len(set(found)) == 26


def test_tpe_goes_where_the_good_points_are() -> None:
    landscape = smooth(2)
    trials = Trials(landscape.space, seed=0)
    found: list[float] = []
    while len(found) < 60:
        for point in trials.claim(6):
            found.append(landscape.seconds(point) / landscape.best)
            trials.tell(Measured(point, Verdict.OK, (1.0,), found[-1]))
    assert sum(found[-20:]) < 0.8 * sum(found[:20])


def test_what_is_known_is_not_given_out() -> None:
    points = list(GRID.points())
    known = [Measured(points[0], Verdict.OK, (1.0,), 0.5), Measured(points[1], Verdict.WRONG)]
    trials = Trials(GRID, seed=0, whole=points, known=known)
    assert set(all_of(trials)) == set(points[2:])
    assert {point: one.verdict for point, one in trials.elsewhere().items()} == {
        points[0]: Verdict.OK,
        points[1]: Verdict.WRONG,
    }


def test_what_was_claimed_and_released_is_free_for_others(tmp_path: Path) -> None:
    storage, points = tmp_path / "journal.log", list(GRID.points())
    one, other = (Trials(GRID, seed=seed, whole=points, storage=storage) for seed in (0, 1))
    claimed = one.claim(10)
    told(one, claimed[:4])
    assert not set(other.claim(10)) & set(claimed)
    other.release()
    one.release()
    assert set(all_of(other)) == set(points) - set(claimed[:4])
    assert set(other.elsewhere()) == set(claimed[:4])


def test_a_point_given_back_is_free_for_others_and_not_given_out_here_again(tmp_path: Path) -> None:
    storage, points = tmp_path / "journal.log", list(GRID.points())
    one, other = (Trials(GRID, seed=seed, whole=points, storage=storage) for seed in (0, 1))
    claimed = one.claim(4)
    one.give_back(claimed[0])
    told(one, claimed[1:])
    assert claimed[0] not in one.claim(100)
    one.release()
    assert claimed[0] in other.claim(100)


def test_a_search_that_was_short_of_time_closes_nothing_to_a_later_one(tmp_path: Path) -> None:
    landscape = ladder(6, [1.0, 1.5, 0.1, 1.5, 1.5, 1.5])
    first, second = Machine(landscape, 0), Machine(landscape, 1)
    in_time = {landscape.space.default, Point.of("only", k=4)}

    def short(points: Sequence[Point]) -> list[Reading]:
        readings = iter(first([point for point in points if point in in_time]))
        late = LeftOut(Verdict.INVALID, "left out: no time was left")
        return [next(readings) if point in in_time else late for point in points]

    storage = tmp_path / "journal.log"
    begun = search(landscape.space, short, storage=storage, clock=first.now)
    assert begun.why == "exhausted" and begun.choice == landscape.space.default
    rest = search(landscape.space, second, seed=1, storage=storage, clock=second.now)
    assert rest.choice == Point.of("only", k=2)
    assert {one.verdict for one in rest.measured} == {Verdict.OK}
    assert {one.point for one in rest.measured} == set(landscape.space.points())


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives is not asked elsewhere")
def test_points_that_a_killed_process_of_this_machine_had_in_hand_are_given_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Space((Branch("chunked", (Knob("chunk", tuple(range(4))),)),), Point.of("chunked", chunk=0))
    points, storage = list(space.points()), tmp_path / "journal.log"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with monkeypatch.context() as other:
        other.setattr(sampling, "owner", lambda: {**claims.owner(), "process": ended.pid})
        had = Trials(space, seed=0, whole=points, storage=storage).claim(2)
    # Of another machine nobody knows.
    with monkeypatch.context() as other:
        other.setattr(claims.socket, "gethostname", lambda: "elsewhere")
        assert not set(Trials(space, seed=1, whole=points, storage=storage).claim(1)) & set(had)
    found = Trials(space, seed=2, whole=points, storage=storage).claim(100)
    assert set(had) <= set(found) and len(found) == len(points) - 1


def test_two_that_take_turns_on_one_storage_share_the_points(tmp_path: Path) -> None:
    storage, points = tmp_path / "journal.log", list(GRID.points())
    both = [Trials(GRID, seed=0, whole=points, storage=storage) for _ in range(2)]
    found: list[Point] = []
    while new := [point for trials in both for point in trials.claim(3)]:
        for trials in both:
            told(trials, new)
        found += new
    assert len(found) == len(set(found)) == len(points)


def test_a_study_of_another_space_is_refused(tmp_path: Path) -> None:
    storage = tmp_path / "journal.log"
    Trials(GRID, seed=0, storage=storage, study="one")
    other = ladder(5, [1.0] * 5).space
    with pytest.raises(OptionError, match="study 'one' in this storage is of another space"):
        Trials(other, seed=0, storage=storage, study="one")
    Trials(other, seed=0, storage=storage, study="two")


PROGRAM = """
import sys
sys.path[:0] = [{tests!r}]
from landscapes import Machine, ladder
from seqpar_autotune.budget import Rigor
from seqpar_autotune.search import search

landscape = ladder(24, [1.0 + abs(i - 17) / 10 for i in range(24)])
machine = Machine(landscape, int(sys.argv[1]))
level = Rigor(evaluations=24, batch=2, rounds=(2, 3), final=9, whole=100)
outcome = search(landscape.space, machine, seed=0, rigor=level, storage=sys.argv[2], clock=machine.now)
print(outcome.choice.key, outcome.evaluations, len(outcome.measured))
"""


def test_two_processes_search_one_space_together(tmp_path: Path) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parents[1]))
    command = [sys.executable, "-W", "error", "-c", program]
    running = [
        subprocess.Popen(
            [*command, str(seed), str(tmp_path / "journal.log")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in (1, 2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    assert [err for _, err in answers] == ["", ""]
    for out, _ in answers:
        choice, _, rest = out.rpartition("} ")
        assert choice + "}" == 'only {"k": 17}'
    # Nothing was explored by both: each tried point is in the storage once as measured.
    import optuna

    study = optuna.load_study(study_name="seqpar", storage=open_storage(tmp_path / "journal.log"))
    measured = [t.user_attrs["point"] for t in study.trials if t.user_attrs.get("verdict") == "ok"]
    assert len(measured) == len(set(measured)) == 24


def test_a_search_goes_on_where_another_was_interrupted(tmp_path: Path) -> None:
    landscape = ladder(24, [1.0 + abs(i - 17) / 10 for i in range(24)])
    first, second = Machine(landscape, 0), Machine(landscape, 1)

    def interrupted(points):
        if len(first.rounds) == 3:
            raise KeyboardInterrupt
        return first(points)

    storage = tmp_path / "journal.log"
    begun = search(landscape.space, interrupted, storage=storage, clock=first.now)
    assert begun.why == "interrupted" and begun.evaluations == 16
    rest = search(landscape.space, second, seed=1, storage=storage, clock=second.now)
    assert rest.choice == Point.of("only", k=17)
    assert {one.point for one in rest.measured} == set(landscape.space.points())
    assert 8 <= rest.evaluations < 24


@pytest.mark.parametrize("shared", [False, True])
def test_optuna_says_nothing(shared: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog) -> None:
    landscape = smooth(0)
    machine = Machine(landscape, 0)
    storage = tmp_path / "journal.log" if shared else None
    search(landscape.space, machine, budget=Budget(evaluations=12), storage=storage, clock=machine.now)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
