"""`seqpar bench --compare`: what changed beyond the noise, on simulated runs whose truth is known."""

import dataclasses
import json
import random
import re

import pytest

from seqpar.errors import OptionError
from seqpar_bench.bench.changes.comparison import text
from seqpar_bench.bench.changes.differences import unchanged
from seqpar_bench.bench.changes.judgement import Change, Changes, changes
from seqpar_bench.bench.changes.noise import deviation
from seqpar_bench.bench.row import Run
from simulated_runs import ours, problems, simulated, with_row, with_yardsticks


def of(found: Changes, what: str) -> list[Change]:
    return [change for change in found.rows if change.what == what]


def changed(found: Changes) -> list[Change]:
    return [change for change in found.rows if change.what != "same"]


@pytest.mark.parametrize(("rounds", "outliers"), [(3, 0.02), (5, 0.05), (15, 0.15)])
@pytest.mark.parametrize("drift", [1.0, 1.4, 1 / 1.4])
def test_no_false_alarm_in_two_hundred_pairs_of_the_same_code(
    drift: float, rounds: int, outliers: float
) -> None:
    # Of three rounds it must be rare that all are disturbed: nothing tells that from slower code.
    alarms = []
    for seed in range(200):
        before = simulated(f"{seed} before", rounds=rounds, outliers=outliers)
        after = simulated(f"{seed} after", lambda row: drift, rounds=rounds, outliers=outliers)
        alarms += of(changes(before, after), "slower")
    assert alarms == []


def test_rounds_that_were_mostly_disturbed_are_no_slow_down() -> None:
    before, after = simulated("before", rounds=5), simulated("after", rounds=5)
    fast, *_ = sorted(after.rows[0].seconds)
    after = with_row(after, 0, seconds=(fast, fast * 1.01, fast * 3, fast * 3.01, fast * 3.02))
    before = with_row(before, 0, seconds=tuple(fast * x for x in (1, 1.01, 1.02, 1.03, 1.04)))
    assert of(changes(before, after), "slower") == []


def test_no_false_alarm_where_runs_differ_more_than_rounds_show() -> None:
    for seed in range(60):
        before = simulated(f"{seed} before", noise=0.01, between=0.05)
        after = simulated(f"{seed} after", lambda row: 1.2, noise=0.01, between=0.05)
        assert of(changes(before, after), "slower") == []


@pytest.mark.parametrize("rounds", [3, 15])
@pytest.mark.parametrize("yardsticks", [2, 6])
def test_a_neighbour_that_disturbs_one_problem_is_not_blamed_on_our_code(
    yardsticks: int, rounds: int
) -> None:
    disturbed = lambda row: 1.5 if row.operation == "qr" else 1.0
    unclear = 0
    for seed in range(40):
        few = {"rounds": rounds, "outliers": 0.02}
        before = with_yardsticks(simulated(f"{seed} before", **few), yardsticks)
        found = changes(before, with_yardsticks(simulated(f"{seed} after", disturbed, **few), yardsticks))
        assert [change for change in found.rows if change.what == "slower" and change.ours] == []
        assert {change.row.operation for change in of(found, "unclear")} <= {"qr"}
        unclear += len(of(found, "unclear"))
        assert found.regressions() == []
    assert unclear > 100
    assert re.search(r"slower, but (0\.9|1)\S* beside code of this problem that did not change", text(found))


def test_a_problem_that_was_disturbed_in_the_first_run_does_not_make_ours_faster() -> None:
    found = changes(
        simulated("before", lambda row: 1.5 if row.operation == "qr" else 1.0), simulated("after")
    )
    assert of(found, "faster") == []
    assert {change.why for change in of(found, "unclear")} == {"problem"}


def test_no_false_alarm_where_every_problem_is_disturbed_by_as_much_as_runs_differ() -> None:
    for seed in range(60):
        before = simulated(f"{seed} before", noise=0.02, between=0.02, places=0.2)
        found = changes(before, simulated(f"{seed} after", noise=0.02, between=0.02, places=0.2))
        assert [change for change in found.rows if change.what in ("slower", "faster")] == []


def test_what_became_slower_in_a_disturbed_problem_is_found_and_by_how_much_beside_the_others() -> None:
    disturbed = lambda row: 1.5 if row.operation == "qr" else 1.0
    slow = lambda row: disturbed(row) * (1.4 if row.name == "host.chunked" else 1.0)
    found = changes(simulated("before"), simulated("after", slow))
    assert {change.row.name for change in of(found, "slower")} == {"host.chunked"}
    (change,) = (c for c in of(found, "slower") if (c.row.operation, c.row.framework) == ("qr", "torch"))
    assert change.ratio == pytest.approx(2.1, rel=0.1)
    assert change.beside == pytest.approx(1.4, rel=0.1)
    assert change.size == change.beside


def test_one_yardstick_of_a_problem_is_too_few_to_take_its_word() -> None:
    disturbed = lambda row: 1.5 if row.operation == "qr" else 1.0
    runs = (simulated("before"), simulated("after", disturbed))
    found = changes(*(with_yardsticks(run, 1) for run in runs))
    assert {change.row.operation for change in of(found, "slower")} == {"qr"}
    assert all(change.beside is None for change in found.rows)


@pytest.mark.parametrize(
    ("factor", "rounds", "yardsticks", "least"),
    [(1.5, 3, 2, 25), (1.5, 3, 6, 34), (1.3, 7, 2, 26), (1.3, 7, 6, 36), (1.3, 15, 2, 36), (1.3, 15, 6, 39)],
)
def test_how_often_a_slower_kernel_is_found(factor: float, rounds: int, yardsticks: int, least: int) -> None:
    slow = lambda row: (
        factor if (row.operation, row.framework, row.name) == ("qr", "torch", "host.chunked") else 1.0
    )
    found = 0
    for seed in range(40):
        few = {"rounds": rounds, "outliers": 0.02}
        before = with_yardsticks(simulated(f"{seed} before", **few), yardsticks)
        after = with_yardsticks(simulated(f"{seed} after", slow, **few), yardsticks)
        found += len(changes(before, after).regressions())
    assert least <= found <= 40


def test_a_kernel_that_became_a_fifth_slower_is_found_and_nothing_else() -> None:
    slow = lambda row: (
        1.2 if (row.operation, row.framework, row.name) == ("qr", "torch", "host.chunked") else 1.0
    )
    hits = 0
    for seed in range(40):
        found = changes(simulated(f"{seed} before"), simulated(f"{seed} after", slow))
        for change in changed(found):
            assert (change.row.operation, change.row.framework) == ("qr", "torch")
            assert change.row.name == "host.chunked"
            assert change.what in ("slower", "unclear")
            if change.what == "slower":
                assert 1.1 < change.size < 1.3
                assert change.interval is not None
                assert change.interval[0] > 1
                hits += 1
    # 15 rounds that scatter by 5 %: a margin of about 14 %, which chance adds to or takes from.
    assert hits >= 35


def test_a_kernel_that_became_slower_is_found_on_a_machine_that_is_slower_as_well() -> None:
    slow = lambda row: 1.4 * (1.3 if row.name == "host.chunked" else 1.0)
    found = changes(simulated("before"), simulated("after", slow))
    assert {change.row.name for change in of(found, "slower")} == {"host.chunked"}
    assert all(1.2 < change.size < 1.4 for change in of(found, "slower"))


def test_a_slow_down_of_all_our_rows_at_once_is_not_taken_for_a_drift() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 1.3 if ours(row) else 1.0))
    assert len(of(found, "slower")) == sum(map(ours, problems()))
    assert len(found.regressions(10)) == len(of(found, "slower"))


def test_a_drift_of_everything_is_reported_and_blamed_on_nobody() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 1.4))
    assert changed(found) == []
    drift = found.drifts["cpu"]
    assert drift is not None
    assert drift.ratio.value == pytest.approx(0.336, abs=0.03)
    assert any("1.4" in warning and "machine" in warning for warning in found.warnings)


def test_yardsticks_that_alone_became_faster_do_not_make_ours_slower() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 1.0 if ours(row) else 0.7))
    assert of(found, "slower") == []
    assert found.regressions(10) == []
    assert len(of(found, "unclear")) == sum(map(ours, problems()))
    assert "not so on the clock" in text(found)


def test_faster_is_told_from_slower() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 0.7 if row.name == "seqpar" else 1.0))
    assert {change.row.name for change in of(found, "faster")} == {"seqpar"}
    assert of(found, "slower") == []
    assert found.regressions() == []


def test_what_changed_most_stands_first() -> None:
    grown = {"seqpar": 1.5, "host.chunked": 3.0}
    found = changes(simulated("before"), simulated("after", lambda row: grown.get(row.name, 1.0)))
    sizes = [change.size for change in of(found, "slower")]
    assert sizes == sorted(sizes, reverse=True)
    assert found.rows[0].row.name == "host.chunked"


@pytest.mark.parametrize("rounds", [1, 2])
def test_one_or_two_rounds_blame_nobody_and_say_how_little_they_tell(rounds: int) -> None:
    for seed in range(100):
        before, after = simulated(f"{seed} before", rounds=rounds), simulated(f"{seed} after", rounds=rounds)
        assert {change.what for change in changes(before, after).rows} <= {"same", "unclear"}
    tenfold = simulated("after", lambda row: 10.0 if row.name == "seqpar" else 1.0, rounds=rounds, outliers=0)
    found = changes(simulated("before", rounds=rounds, outliers=0), tenfold)
    assert {change.row.name for change in of(found, "unclear")} == {"seqpar"}
    assert found.regressions() == []
    assert found.noise is not None
    assert found.noise > 0.3
    assert f"{rounds} round" in text(found)
    assert "too few to tell" in text(found)


def test_without_yardsticks_the_clock_decides_and_a_warning_says_so() -> None:
    before, after = simulated("before"), simulated("after", lambda row: 1.4)
    for run in (before, after):
        run.rows = [row for row in run.rows if ours(row)]
    found = changes(before, after)
    assert found.drifts == {"cpu": None}
    assert len(of(found, "slower")) == len(after.rows)
    assert any("nothing tells a slower machine from slower code" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("package", "kept"), [("scipy", {"copy", "framework loop"}), ("torch", {"numpy"}), ("python", {"copy"})]
)
def test_yardsticks_whose_versions_changed_are_not_used(package: str, kept: set[str]) -> None:
    # What became slower with its new version is no yardstick; what is left says that the machine did not change.
    new = {"scipy": lambda row: row.kind == "peer", "torch": lambda row: row.framework == "torch"}
    spoilt = new.get(package, lambda row: row.kind in ("own", "peer"))
    after = simulated("after", lambda row: 1.5 if spoilt(row) and not ours(row) else 1.0)
    if package == "python":
        after.machine["python"] = "3.12.1"
    else:
        after.versions[package] = "99.0"
    found = changes(simulated("before"), after)
    drift = found.drifts["cpu"]
    assert drift is not None
    whole = [row for row in problems() if not ours(row)]
    assert drift.yardsticks == len([row for row in whole if row.name in kept or row.framework in kept])
    assert abs(drift.ratio.value) < 0.05
    assert [change for change in of(found, "slower") if ours(change.row)] == []
    assert any(warning.startswith(package) and "->" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("name", "framework", "distribution"),
    [
        ("fla chunk_hgrn", "torch", "fla-core"),
        ("accelerated_scan.warp", "torch", "accelerated-scan"),
        ("lax.scan, inputs first", "jax", "jaxlib"),
        ("CuPy loop", "cupy", "cupy-cuda12x"),
        ("NumPy loop", "numpy", "numpy"),
    ],
)
def test_a_peer_is_a_yardstick_only_while_its_own_distribution_stays(
    name: str, framework: str, distribution: str
) -> None:
    row = dataclasses.replace(next(problems()), name=name, framework=framework, kind="peer")
    before = Run(date="", versions={distribution: "1", "scipy": "1"})
    assert unchanged(row, before, Run(date="", versions={distribution: "1", "scipy": "2"}))
    assert not unchanged(row, before, Run(date="", versions={distribution: "2", "scipy": "1"}))
    assert not unchanged(dataclasses.replace(row, kind="kernel"), before, before)


def test_a_device_has_a_drift_of_its_own() -> None:
    def both(run: Run, factor: float) -> Run:
        moved = [
            dataclasses.replace(row, device="cuda", seconds=tuple(factor * x for x in row.seconds))
            for row in run.rows
        ]
        return dataclasses.replace(run, rows=[*run.rows, *moved])

    found = changes(both(simulated("before"), 1), both(simulated("after"), 1.5))
    assert changed(found) == []
    assert found.drifts["cuda"] is not None
    assert found.drifts["cpu"] is not None
    assert found.drifts["cuda"].ratio.value > 0.3 > abs(found.drifts["cpu"].ratio.value)


@pytest.mark.parametrize("verdict", ["wrong", "crash", "timeout", "memory", "compile", "invalid", "unstable"])
def test_what_ran_and_fails_now_is_a_regression_whatever_the_limit(verdict: str) -> None:
    after = with_row(simulated("after"), 1, verdict=verdict, seconds=(), note="error 0.1\nand more")
    found = changes(simulated("before"), after)
    (change,) = changed(found)
    assert change.what == "broken"
    assert found.regressions(1000) == [change]
    assert f"{verdict}: error 0.1" in text(found)


def test_a_peer_that_fails_or_is_slower_is_listed_and_no_regression() -> None:
    after = simulated("after", lambda row: 2.0 if (row.kind, row.operation) == ("own", "qr") else 1.0)
    found = changes(simulated("before"), with_row(after, 4, verdict="crash", seconds=()))
    assert {change.what for change in changed(found)} == {"broken", "slower"}
    assert found.regressions() == []


def test_what_was_mended_and_what_still_fails_are_told_apart() -> None:
    before = with_row(simulated("before"), 0, verdict="wrong", seconds=())
    before = with_row(before, 1, verdict="crash", seconds=())
    found = changes(before, with_row(simulated("after"), 1, verdict="wrong", seconds=()))
    assert [(change.what, change.row.name) for change in changed(found)] == [
        ("mended", "seqpar"),
        ("still failing", "host.sequential"),
    ]
    assert found.regressions() == []


@pytest.mark.parametrize("verdict", ["missing", "left out"])
def test_what_was_not_measured_this_time_is_gone_and_no_regression(verdict: str) -> None:
    after = with_row(simulated("after"), 0, verdict=verdict, seconds=(), note="pip install it")
    found = changes(simulated("before"), after)
    assert [(change.what, change.row.name) for change in changed(found)] == [("gone", "seqpar")]
    assert found.regressions() == []
    assert f"{verdict}: pip install it" in text(found)


TROUBLE = "qr features last 4x4096x256 float32"


@pytest.mark.parametrize("said", [": Worker: the process crashed", ", torch host.chunked: crash: why"])
def test_rows_of_ours_that_vanish_with_a_problem_in_trouble_are_regressions(said: str) -> None:
    after = simulated("after")
    after.rows = [row for row in after.rows if row.operation != "qr"]
    after.troubles = [TROUBLE + said]
    found = changes(simulated("before"), after)
    assert {(change.row.operation, change.row.kind) for change in found.regressions(1000)} == {
        ("qr", "seqpar"),
        ("qr", "kernel"),
    }
    assert {change.what for change in found.regressions(1000)} == {"lost"}
    assert found.fails(1000)
    assert f"the second run went wrong: {TROUBLE}{said}" in found.warnings
    (line, *_) = (line for line in text(found, 1000).splitlines() if line.startswith("lost"))
    assert line.endswith(said.lstrip(":, "))
    assert text(found, 1000).splitlines()[-1].startswith("6 of ours slower by more than 1000 %")


@pytest.mark.parametrize(
    "trouble",
    [
        f"{TROUBLE} gradient: Worker: the process crashed",
        "qr features last 4x4096x25 float32: Worker: the process crashed",
        "lstsq features last 4x4096x256 float32: Worker: the process crashed",
    ],
)
def test_what_went_wrong_elsewhere_makes_no_regression_of_rows_that_are_gone(trouble: str) -> None:
    after = simulated("after")
    after.rows = [row for row in after.rows if row.operation != "qr"]
    after.troubles = [trouble]
    found = changes(simulated("before"), after)
    assert len(of(found, "gone")) == 12
    assert not found.fails()


def test_what_time_did_not_suffice_for_is_gone_and_no_regression() -> None:
    after = simulated("after")
    after.rows = [row for row in after.rows if row.operation != "qr"]
    after.left_out = [f"{TROUBLE}: no time was left"]
    found = changes(simulated("before"), after)
    assert len(of(found, "gone")) == 12
    assert found.warnings == []
    assert not found.fails()


def test_what_failed_before_is_not_lost_with_its_problem() -> None:
    before = with_row(simulated("before"), 0, verdict="crash", seconds=())
    after = simulated("after")
    gone = after.rows.pop(0)
    after.troubles = [TROUBLE.replace("qr", gone.operation) + ": Worker: the process crashed"]
    found = changes(before, after)
    assert [change.what for change in changed(found)] == ["gone"]
    assert not found.fails()


def without_ours(run: Run) -> Run:
    return dataclasses.replace(run, rows=[row for row in run.rows if not ours(row)])


def test_a_comparison_of_nothing_of_ours_fails_and_names_what_is_gone() -> None:
    found = changes(simulated("before"), without_ours(simulated("after")))
    assert len(found.regressions(1000)) == sum(map(ours, problems()))
    assert found.fails(1000)
    assert "nothing of ours was compared" in text(found)
    assert text(found, 1000).splitlines()[-1].endswith("which is a failure")


def test_one_row_of_ours_is_enough_to_compare() -> None:
    after = without_ours(simulated("after"))
    after.rows.append(next(row for row in simulated("after").rows if ours(row)))
    found = changes(simulated("before"), after)
    assert found.compared == 1
    assert not found.fails()
    assert "nothing of ours" not in text(found, 10)


@pytest.mark.parametrize("before", [Run(date=""), without_ours(simulated("before"))])
def test_where_the_first_run_has_nothing_of_ours_there_is_nothing_to_pass(before: Run) -> None:
    found = changes(before, simulated("after"))
    assert found.compared == 0
    assert found.fails()
    assert changes(Run(date=""), Run(date="")).fails()


def test_a_row_of_ours_that_failed_in_both_runs_was_not_compared() -> None:
    runs = (
        with_row(dataclasses.replace(run, rows=run.rows[:6]), 0, verdict="wrong", seconds=())
        for run in (simulated("before"), simulated("after"))
    )
    found = changes(*(dataclasses.replace(run, rows=[run.rows[0], *run.rows[3:]]) for run in runs))
    assert {change.what for change in found.rows if change.ours} == {"still failing"}
    assert found.fails()


def test_times_at_both_ends_of_what_is_read_have_ratios_that_are_numbers() -> None:
    before = with_row(simulated("before"), 0, seconds=(2e-30, 1e-3, 9e8, 9e8))
    found = changes(before, with_row(simulated("after"), 0, seconds=(9e8, 9e8, 9e8, 2e-30)))
    json.dumps(found.to_dict(), allow_nan=False)
    assert text(found, 10)


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    after = with_row(simulated("after"), 0, verdict="crash", seconds=(), note="\x1b[2J\ud800 bad")
    after.troubles = ["\ud800\x1b[2J"]
    shown = text(changes(simulated("before"), after), 10)
    assert "\x1b" not in shown
    assert "crash: ?[2J? bad" in shown
    shown.encode()


def test_what_is_missing_in_both_runs_is_not_listed() -> None:
    runs = (with_row(simulated(name), 0, verdict="missing", seconds=()) for name in ("before", "after"))
    found = changes(*runs)
    assert changed(found) == []
    assert len(found.rows) == len(list(problems())) - 1


def test_runs_over_different_problems_compare_what_they_share() -> None:
    before, after = simulated("before"), simulated("after")
    before.rows = [row for row in before.rows if row.operation != "qr"]
    after.rows = [row for row in after.rows if row.operation != "lstsq"]
    found = changes(before, after)
    assert {change.row.operation for change in of(found, "new")} == {"qr"}
    assert {change.row.operation for change in of(found, "gone")} == {"lstsq"}
    assert len(of(found, "same")) == 36
    assert found.regressions() == []
    # A new problem that fails was never right before.
    failing = dataclasses.replace(
        after,
        rows=[
            dataclasses.replace(row, verdict="wrong", seconds=()) if row.operation == "qr" else row
            for row in after.rows
        ],
    )
    assert changes(before, failing).regressions() == []


def test_regressions_begin_above_the_limit() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 1.5 if row.name == "seqpar" else 1.0))
    assert len(found.regressions(40)) == 10
    assert found.regressions(60) == []


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_times_that_are_no_times_are_called_damage(bad: object) -> None:
    with pytest.raises(OptionError, match="damaged"):
        changes(simulated("before"), with_row(simulated("after"), 0, seconds=(1.0, bad)))


def test_the_deviation_is_that_of_the_middle_of_the_numbers() -> None:
    draw = random.Random(0)
    numbers = [draw.gauss(0, 2) for _ in range(2000)]
    assert deviation(numbers) == pytest.approx(2, rel=0.1)
    assert deviation([*numbers, *[1e6] * 200]) == pytest.approx(2, rel=0.25)
    few = [deviation([draw.gauss(0, 2) for _ in range(5)]) for _ in range(500)]
    assert sum(few) / len(few) == pytest.approx(2, rel=0.15)
