"""The figures of autotune on made-up times and tiny problems: that they find out what they are to find out, and are written."""

import doctest
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from made_up_worker import MadeUp
from seqpar.dispatch import store
from seqpar_autotune.candidates import Candidate
from seqpar_autotune.outcome import Failure
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.worker import Worker
from seqpar_autotune.workload import Workload
from seqpar_bench import (
    autotune,
    autotune_again,
    autotune_buckets,
    autotune_solving,
    autotune_tables,
    buckets_cases,
)
from seqpar_bench.autotune_again import Again, compared, measured_again
from seqpar_bench.autotune_runs import Event, Ran, child
from seqpar_bench.autotune_runs import autotune as command
from seqpar_bench.figures import OPERATIONS
from seqpar_bench.record import Record
from tuned_stores import chunked, default, root, written

__all__ = ["root"]  # the fixture

ONES = np.ones((2, 64, 3), np.float32)
CALL = Workload.of(seqpar.linear_recurrence, ONES, ONES)
DEFAULT = {"branch": "host.sequential", "values": {}}
CHUNKED = {"branch": "reference.chunked", "values": {"chunk": 5}}


def result(gain: float | None = 2.0, **changes: Any) -> Event:
    """A line of the command on a call that was tuned; the default stays where there is no gain."""
    adopted = gain != 1.0
    given = {
        "event": "done",
        "workload": CALL.to_dict(),
        "name": CALL.name,
        "default": DEFAULT,
        "chosen": CHUNKED if adopted else DEFAULT,
        "default_seconds": 1e-3,
        "chosen_seconds": 1e-3 / (gain or 1.0),
        "gain": gain,
        "noise": 0.01,
        "adopted": adopted,
        "failures": {},
        "note": "",
        "outcome": {},
    }
    return given | changes


def failed(verdict: str, branch: str = "planted.crashing") -> Event:
    return {
        "event": "failed",
        "candidate": {"branch": branch, "values": {}},
        "verdict": verdict,
        "message": "",
    }


def begun(name: str) -> Event:
    return {"event": "workload", "name": name}


def ran(*events: Event, status: int = 0) -> Ran:
    return Ran(status, 50.0, events)


def made_up(ratio: float, noise: float = 0.005) -> Callable[[], Any]:
    """Workers on which a chunked recurrence takes so many times as long as the default."""

    def seconds(candidate: Candidate) -> float:
        return ratio * 1e-3 if candidate.method == "chunked" else 1e-3

    return lambda: MadeUp(seconds, noise=noise)("cpu", limit=1.0)


# --- a quick run that survives --------------------------------------------------------------------------------------------


def test_the_planted_kernel_hangs() -> None:
    matrices = np.ones((2, 64, 3, 3), np.float32)
    walk = Workload.of(seqpar.matrix_recurrence, matrices, ONES)
    with Worker(limit=1.0, imports=[autotune.PLANTED]) as worker:
        worker.prepare(walk)
        assert worker.check(Candidate("planted", "hanging")).verdict is Verdict.TIMEOUT


def test_the_command_goes_on_after_a_planted_crash(tmp_path: Path) -> None:
    words = ["--quick", "--framework", "numpy", "--device", "cpu", "--seconds", "30"]
    words += ["--op", "linear_recurrence", "--shape", "2,60,4"]
    found = command([*words, "--import", autotune.PLANTED], tmp_path)
    assert (found.status, found.verdicts("planted")) == (0, {"crash": 1})
    assert len(found.measured) == len(found.choices) == 1
    assert list(tmp_path.glob("*/linear_recurrence.*.jsonl"))


def test_a_run_is_judged_by_what_it_found_and_whether_it_went_on() -> None:
    events = (begun("a"), failed("crash"), result(name="a"), begun("b"), failed("timeout"), result(name="b"))
    record = Record("autotune")
    autotune.survived(record, ran(*events))
    assert all(figure.reached for figure in record.figures)
    assert record.tables["autotune failures"][0]["verdict"] == "crash"
    for worse in (
        events[:5],
        (*events[:4], result(name="b")),
        (*events, begun("c"), result(name="c", outcome=None)),
    ):
        record = Record("autotune")
        autotune.survived(record, ran(*worse))
        assert not all(figure.reached for figure in record.figures)


def test_a_run_that_fails_is_a_problem() -> None:
    record = Record("autotune")
    autotune.survived(record, ran(status=1))
    assert record.problems
    assert not any(figure.reached for figure in record.figures[1:4])


def test_failures_of_others_are_not_those_that_were_planted() -> None:
    assert not ran(failed("crash", "host.chunked")).verdicts("planted")


# --- measured again -------------------------------------------------------------------------------------------------------


def test_choices_that_are_faster_and_slower_are_told_from_noise() -> None:
    for ratio, slower in ((0.5, False), (1.0, False), (1.2, True)):
        again = measured_again([result()], 5, made_up(ratio))[CALL.name]
        assert isinstance(again, Again)
        assert again.ratio == pytest.approx(ratio, rel=0.02)
        assert again.slower is slower
        assert 0 < again.noise < 0.02
        assert len(again.tuned.seconds) == 15


def test_the_interval_of_equals_holds_one_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        tuned, default = np.exp(random.normal(0, 0.05, (2, 15)))
        again = compared("call", tuned.tolist(), default.tolist())
        missed += abs(np.log(again.ratio)) > np.log1p(again.noise)
    # 5 % of 400 are 20, and 35 are four standard deviations more.
    assert missed <= 37


def test_what_comes_first_takes_turns() -> None:
    order: list[str] = []

    class Watching:
        def prepare(self, workload: Workload, seed: int = 0) -> None: ...

        def close(self) -> None: ...

        def round(self, candidates: Any) -> list[Any]:
            order.append(candidates[0].method)
            # Whoever is second is slower.
            return [1.0, 2.0]

    again = measured_again([result()], 16, Watching)[CALL.name]
    assert isinstance(again, Again)
    assert order == ["chunked", "sequential"] * 8
    assert again.ratio == pytest.approx(1.0)


def test_a_choice_that_fails_when_it_is_measured_again_is_told() -> None:
    failing = MadeUp(lambda candidate: Failure(Verdict.CRASH, "SIGSEGV"))
    again = measured_again([result()], 5, lambda: failing("cpu", limit=1.0))[CALL.name]
    assert isinstance(again, str)
    assert "SIGSEGV" in again


@pytest.mark.usefixtures("root")
def test_a_new_process_says_what_is_tuned() -> None:
    written(default(), chunked(adopted=True, ratio=0.5))
    other = Workload.of(seqpar.linear_recurrence, ONES[:, :9], ONES[:, :9])
    said = child("autotune_explained", store.user_directory(), [CALL.to_dict(), other.to_dict()])
    assert said[0] == {"provenance": "tuned", "runs": "reference.chunked", "asked": "seqpar.explain"}
    assert said[1]["provenance"] == "heuristic"


# --- records and tables ---------------------------------------------------------------------------------------------------


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """No processes: choices are explained and measured again as this dictionary says."""
    given: dict[str, Any] = {"provenance": "tuned", "ratio": 0.5}

    def said(module: str, cache: Path, workloads: list[Any]) -> list[dict[str, str]]:
        return [{"provenance": given["provenance"], "runs": "", "asked": ""} for _ in workloads]

    monkeypatch.setattr(autotune, "child", said)
    for module in (autotune, autotune_solving):
        again = lambda results, rounds: measured_again(results, rounds, made_up(given["ratio"]))
        monkeypatch.setattr(module, "measured_again", again)
    yield given


def written_to(record: Record, path: Path) -> dict[str, Any]:
    record.write(path / "autotune.json")
    found: dict[str, Any] = json.loads((path / "autotune.json").read_text())
    return found


def test_choices_are_a_table_with_both_gains(simulated: dict[str, Any], tmp_path: Path) -> None:
    record = Record("autotune")
    events = (
        result(),
        result(1.0, name="stays"),
        result(None, name="default crashes"),
        result(name="x", outcome=None),
    )
    autotune.chosen(record, "1", "quick", ran(*events), tmp_path, 5)
    assert all(figure.reached for figure in record.figures)
    # Of two and one; the one without a default is no part of a mean.
    assert record.figures[-1].value == pytest.approx(2**0.5, rel=0.02)
    rows = written_to(record, tmp_path)["tables"]["autotune"]
    _, text = autotune_tables.choices(rows)
    assert [row[3] for row in text[:3]] == [
        "reference.chunked chunk=5",
        "the same",
        "reference.chunked chunk=5",
    ]
    assert [row[5] for row in text[:3]] == ["2.00 x", "", "default fails"]
    assert text[0][7] == "2.00 x"
    assert len(autotune_tables.wrong(rows, [])[1]) == 1
    assert "as long" in autotune_tables.wrong(rows, [])[1][0][3]


def test_a_choice_that_slows_a_call_down_misses_its_figures(
    simulated: dict[str, Any], tmp_path: Path
) -> None:
    simulated["ratio"] = 1.3
    record = Record("autotune")
    autotune.chosen(record, "1", "quick", ran(result()), tmp_path, 5)
    missed = [figure.text for figure in record.figures if not figure.reached]
    assert len(missed) == 3
    assert "slower" in missed[0]
    assert CALL.name in missed[1]


def test_a_run_without_any_choice_shows_nothing(simulated: dict[str, Any], tmp_path: Path) -> None:
    record = Record("autotune")
    autotune.chosen(record, "1", "quick", ran(result(1.0)), tmp_path, 5, least=1)
    assert [figure.reached for figure in record.figures] == [False, True, True]


def test_a_mean_may_lose_its_noise_and_no_more() -> None:
    row = {"default seconds": 1e-3, "gain again": 0.98, "noise again": 0.03}
    stays = {**row, "gain again": 1.0, "noise again": None}
    told, mean, noise = autotune.mean_gain([row, stays, {**row, "default seconds": None}])
    assert told == "2 of 3 calls measured"
    assert mean == pytest.approx(0.98**0.5)
    assert noise == pytest.approx(0.015, rel=0.02)
    assert autotune.mean_gain([])[1:] == (1.0, 0.0)


def test_choices_that_no_process_knows_miss_their_figure(simulated: dict[str, Any], tmp_path: Path) -> None:
    simulated["provenance"] = "heuristic"
    record = Record("autotune")
    autotune.chosen(record, "1", "quick", ran(result()), tmp_path, 5)
    assert not record.figures[0].reached


def solved(name: str, gain: float, more: float = 1.0) -> Event:
    """A problem of `solve_recurrence`, where something that has to be asked for may be faster still."""
    newton = {"branch": "steps.newton", "values": {"damping": None, "window": 256}}
    faster = more > 1.0
    others = {"winner": newton, "final": {"ratio": 1 / more}, "adopted": True} if faster else None
    return result(gain, name=name, others=others, faster="newton would be faster" if faster else "")


def test_methods_of_solve_recurrence_are_a_table(
    simulated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [
        solved("a", 2.0),
        solved("b", 1.0),
        solved("c", 1.0, 4.0),
        result(name="d", outcome=None, note="no"),
    ]
    monkeypatch.setattr(autotune_solving, "tuned", lambda cache: {"results": problems})
    record = Record("autotune")
    autotune_solving.methods(record, 5)
    values = [figure.value for figure in record.figures]
    assert values[0] == 3
    assert values[1] == 1
    assert values[2:4] == [pytest.approx(2 ** (1 / 3), rel=0.02), pytest.approx(2.0, rel=0.02)]
    assert record.problems == ["2: d: no"]
    rows = written_to(record, tmp_path)["tables"]["autotune methods"]
    assert [row["method"] for row in rows] == ["chunked", "sequential", "newton"]
    _, text = autotune_tables.methods(rows)
    assert [row[7] for row in text] == ["reference.chunked chunk=5", "the same", "steps.newton window=256"]
    assert [row[8] for row in text[1:]] == ["1.00 x", "4.00 x"]


def test_numbers_of_buckets_are_tuned_and_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    small = buckets_cases.Workload(3.0, 0.5, 2, 60, 300)
    for name, value in (("SHORT", small), ("BUDGET", 240), ("MOST", 3), ("SECONDS", 1.0)):
        monkeypatch.setattr(autotune_buckets, name, value)
    record = Record("autotune")
    autotune_buckets.buckets(record, 1)
    (figure,) = record.figures
    assert figure.value > 0
    rows = written_to(record, tmp_path)["tables"]["autotune buckets"]
    _, text = autotune_tables.counts(rows)
    assert sum("without tuning" in row[3] for row in text) == 1


def test_all_parts_are_figures_of_the_command() -> None:
    parts = OPERATIONS["autotune"]
    assert list(parts) == ["1", "2", "3"]
    assert parts["2"] == (autotune_solving.methods, autotune.operations)


def test_examples_in_docstrings_run() -> None:
    for module in (autotune, autotune_again):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed
