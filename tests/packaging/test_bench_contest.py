"""A contest of `seqpar bench`: who is timed, who is not and why, whatever a contestant does to the process it runs in."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench_planted import Planted
from seqpar_autotune.worker import Worker
from seqpar_bench.bench.contest import Contest, Effort, Wanted, spread, without_places
from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.row import Row

NUMPY = Wanted(frameworks=("numpy",))
LITTLE = Effort(seconds=0.2, rounds=3)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("cpu", limit=3.0) as found:
        yield found


def rows(worker: Worker, *who: str, wanted: Wanted = NUMPY, **given: object) -> dict[str, Row]:
    contest = Contest(Planted(who=who), "cpu", worker, wanted, LITTLE, **given)  # type: ignore[arg-type]
    return {row.name: row for row in contest.rows()}


def test_everybody_who_is_right_has_times_an_error_and_a_share_of_the_limit(worker: Worker) -> None:
    found = rows(worker, "own", "slow", "kernels")
    assert list(found) == [
        "copy", "matrix product", "seqpar", "host.sequential", "reference.tree", "own", "slow"
    ]  # fmt: skip
    for row in found.values():
        assert row.verdict == "ok", row
        assert len(row.seconds) == 3
    ours = found["seqpar"]
    assert ours.ran == "host.sequential"
    assert ours.error is not None and ours.error < 1e-6
    assert ours.limit is not None and ours.median is not None and ours.share == ours.limit / ours.median
    assert found["copy"].limit is None


def test_speedups_are_over_the_own_way(worker: Worker) -> None:
    found = rows(worker, "own", "slow")
    own, slow = found["own"], found["slow"]
    assert own.speedup == pytest.approx(1.0)
    assert own.median is not None and slow.median is not None and slow.speedup is not None
    assert slow.speedup == pytest.approx(own.median / slow.median, rel=0.5)
    assert slow.speedup < 0.1


def test_of_several_own_ways_the_fastest_counts(worker: Worker) -> None:
    found = rows(worker, "slow own", "own")
    assert found["own"].speedup == pytest.approx(1.0)
    slow = found["slow own"].speedup
    assert slow is not None and slow < 0.1


def test_without_an_own_way_there_is_no_speedup(worker: Worker) -> None:
    assert rows(worker, "slow")["slow"].speedup is None


@pytest.mark.parametrize("name", ["wrong", "nan"])
def test_a_wrong_answer_has_no_times_and_says_how_wrong_it_is(worker: Worker, name: str) -> None:
    row = rows(worker, "own", name)[name]
    assert (row.verdict, row.seconds) == ("wrong", ())
    assert "allowed" in row.note


def test_what_is_right_once_and_wrong_later_is_found(worker: Worker) -> None:
    row = rows(worker, "own", "once")["once"]
    assert row.verdict == "wrong"
    assert row.note.startswith("after many calls ")


def test_what_writes_into_its_operands_is_wrong_and_others_keep_theirs(worker: Worker) -> None:
    found = rows(worker, "writes", "own", "slow")
    assert (found["writes"].verdict, found["writes"].note) == ("wrong", "writes into its operand 2")
    assert found["own"].verdict == found["slow"].verdict == "ok"


def test_an_answer_of_another_dtype_is_wrong(worker: Worker) -> None:
    row = rows(worker, "own", "wide")["wide"]
    assert (row.verdict, row.note) == ("wrong", "gives float64, not float32")


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_limits_are_measured_whatever_frameworks_take_part(worker: Worker, framework: str) -> None:
    pytest.importorskip(framework)
    found = rows(worker, wanted=replace(NUMPY, frameworks=(framework,)))
    assert {name: (row.framework, row.verdict) for name, row in found.items()} == {
        "copy": ("numpy", "ok"),
        "matrix product": ("numpy", "ok"),
        "seqpar": (framework, "ok"),
    }
    assert found["seqpar"].limit is not None


def test_what_raises_shows_its_error(worker: Worker) -> None:
    row = rows(worker, "own", "raises")["raises"]
    assert (row.verdict, row.note) == ("crash", "RuntimeError: this <peer> has another opinion")


@pytest.mark.parametrize(("name", "verdict", "word"), [
    ("dies", "crash", "SIGSEGV"),
    ("dies later", "crash", "SIGSEGV"),
    ("hangs", "timeout", "no answer within"),
])  # fmt: skip
def test_what_ends_the_process_costs_nobody_else_its_times(
    worker: Worker, name: str, verdict: str, word: str
) -> None:
    found = rows(worker, "own", name, "slow")
    assert found[name].verdict == verdict
    assert word in found[name].note
    assert {n: row.verdict for n, row in found.items() if n != name} == dict.fromkeys(
        ("copy", "matrix product", "seqpar", "own", "slow"), "ok"
    )


def test_errors_are_shown_without_the_places_of_the_machine() -> None:
    home, here = Path.home(), Path(sys.prefix)
    told = without_places(f"OSError: {here}/lib/x.so: cannot open {home}/secret")
    assert told == "OSError: <python>/lib/x.so: cannot open ~/secret"


def test_what_is_not_installed_says_how_to_install_it(worker: Worker) -> None:
    row = rows(worker, "own", "missing")["missing"]
    assert (row.verdict, row.note) == ("missing", "not installed: pip install no-such-thing")


def test_what_takes_too_long_is_left_out_with_the_reason(worker: Worker) -> None:
    row = rows(worker, "own", "too long")["too long"]
    assert (row.verdict, row.note) == ("left out", "takes too long beyond 16 steps")


def test_what_a_sweep_has_given_up_is_left_out(worker: Worker) -> None:
    found = rows(worker, "own", skip={("numpy", "own"): "took 9 s at 256"})
    assert (found["own"].verdict, found["own"].note) == ("left out", "took 9 s at 256")


def test_a_framework_that_is_not_there_is_one_row(worker: Worker) -> None:
    contest = Contest(replace(Planted(), dtype="bfloat16"), "cpu", worker, NUMPY, LITTLE)
    (row,) = contest.rows()
    assert (row.framework, row.verdict, row.note) == ("numpy", "missing", "has no bfloat16")


def test_filters_take_kernels_by_backend_and_method_and_keep_the_own_way(worker: Worker) -> None:
    everybody = ("own", "slow", "kernels")
    host = rows(worker, *everybody, wanted=replace(NUMPY, backends=("host",), peers=False))
    assert list(host) == ["copy", "matrix product", "host.sequential", "own"]
    tree = rows(worker, *everybody, wanted=replace(NUMPY, methods=("tree",)))
    assert list(tree) == ["copy", "matrix product", "reference.tree", "own", "slow"]
    alone = rows(worker, *everybody, wanted=replace(NUMPY, kernels=False, peers=False))
    assert list(alone) == ["copy", "matrix product", "seqpar", "own"]


def test_a_problem_is_the_same_after_its_way_to_another_process() -> None:
    problem = Planted(who=("own", "slow"), dtype="float64", shape=(7,), sweep="over length")
    assert Problem.from_dict(problem.to_dict()) == problem


def test_spread_is_half_of_the_middle_half_over_the_median() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1 / 3)
    assert spread([1.0]) is None
