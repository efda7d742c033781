"""A run of the tuner over made-up times: what it chooses, keeps and says, and that it holds its time. No candidate runs."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
import seqpar_autotune
from made_up_worker import MadeUp, call, chunked_wins, default_wins
from seqpar.dispatch.profile import host_profile
from seqpar.errors import BackendError, MissingExtraError, OptionError
from seqpar_autotune import lab, tuner
from seqpar_autotune.lab import Lab
from seqpar_autotune.outcome import Failure, LeftOut
from seqpar_autotune.progress import Display
from seqpar_autotune.tuner import Run, in_order, share_of, study_of, tune
from seqpar_autotune.verdict import Verdict


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuner, "least_seconds", lambda workload: 1e-4)
    seqpar.dispatch.memos.invalidate()
    return tmp_path


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in directory.rglob("*.jsonl") for line in path.read_text().splitlines()]


def tuned(made: MadeUp, *workloads: Any, **options: Any) -> Any:
    options = {"preset": "quick", "worker": made, "clock": made.clock, **options}
    return tune(list(workloads) or call(8, 8192, 4), **options)


def provenance(*shape: int) -> tuple[str, str]:
    ones = np.ones(shape, np.float32)
    why = seqpar.explain(seqpar.linear_recurrence, ones, ones)
    return f"{why.backend}.{why.method}", why.provenance


def test_what_wins_is_what_the_next_call_runs() -> None:
    assert provenance(8, 8192, 4) == ("host.sequential", "heuristic")
    report = tuned(MadeUp(chunked_wins))
    (result,) = report.results
    assert result.chosen is not None
    assert result.chosen.point.branch == "host.chunked"
    assert 1.5 < result.gain < 2.1
    assert provenance(8, 8192, 4) == ("host.chunked", "tuned")


def test_a_default_that_nothing_beats_stays() -> None:
    report = tuned(MadeUp(default_wins))
    assert report.gain == 1.0
    assert not report.wrong
    assert provenance(8, 8192, 4)[0] == "host.sequential"


def test_a_gain_within_the_noise_is_not_adopted() -> None:
    report = tuned(MadeUp(lambda candidate: 1e-3 if "seq" in candidate.label else 0.99e-3, noise=0.1))
    assert not report.results[0].outcome.adopted


def test_every_candidate_is_in_the_store_before_the_next_is_tried(own_cache: Path) -> None:
    made, missing = MadeUp(chunked_wins), []

    def look(candidate: Any) -> None:
        written = [(row["backend"], row["method"], row["config"]) for row in rows(own_cache)]
        before = [(one.backend, one.method, one.config) for _, one in made.tried]
        missing.extend(one for one in before if one not in written)

    made.before_round = look
    tuned(made)
    assert len(made.tried) > 3
    assert missing == []


def test_rows_say_whose_clock_counted(own_cache: Path) -> None:
    tuned(MadeUp(chunked_wins))
    told = [row["policy"] for row in rows(own_cache)]
    assert told and all(one == {"clock": "made up", "sets": 3, "memory": "cold"} for one in told)


def test_ctrl_c_keeps_what_was_measured_and_says_so(own_cache: Path) -> None:
    made = MadeUp(chunked_wins)

    def stop(candidate: Any) -> None:
        if len(made.tried) == 4:
            raise KeyboardInterrupt

    made.before_round = stop
    report = tuned(made, call(8, 8192, 4), call(8, 16384, 4))
    assert report.interrupted
    assert len(report.results) == 2
    assert "interrupted" in report.results[1].note
    assert "Interrupted" in str(report)
    assert {(row["method"], json.dumps(row["config"])) for row in rows(own_cache)} == {
        (one.method, json.dumps(one.config)) for _, one in made.tried
    }
    assert made.closed


def test_an_interrupt_before_anything_was_measured_is_no_error() -> None:
    made = MadeUp(chunked_wins)

    def stop(candidate: Any) -> None:
        raise KeyboardInterrupt

    made.before_round = stop
    report = tuned(made)
    assert report.interrupted
    assert "not finished: interrupted" in str(report)


def test_a_kernel_that_hangs_costs_its_limit_twice_and_is_then_left_out(own_cache: Path) -> None:
    def hangs(candidate: Any) -> Any:
        if candidate.label == "host.chunked":
            return Failure(Verdict.TIMEOUT, "no answer within 10 s")
        return 1e-3

    made = MadeUp(hangs)
    report = tuned(made, *(call(8, 1 << n, 4) for n in range(12, 17)))
    assert sum(one.label == "host.chunked" for _, one in made.tried) == 2
    assert report.failures == {Verdict.TIMEOUT: 2}
    assert "timeout" in str(report)
    assert made.clock.now - 1000 < 60
    # What was not tried is not in the store.
    written = {
        json.dumps([row["problem"], row["config"]]) for row in rows(own_cache) if row["method"] == "chunked"
    }
    assert len(written) == 2


def test_a_default_that_took_longer_than_its_limit_stays_and_the_way_out_is_said(own_cache: Path) -> None:
    def slow(candidate: Any) -> Any:
        if candidate.label == "host.sequential":
            return Failure(Verdict.TIMEOUT, "no answer within 10 s")
        return 9.0

    report = tuned(MadeUp(slow), seconds=600)
    (result,) = report.results
    assert not result.outcome.adopted and not report.measured and report.gain == 1.0
    assert "the default, host.sequential, took longer than a candidate may (no answer within 10 s)" in str(
        report
    )
    assert "--exhaustive" in json.loads(report.to_json())["results"][0]["note"]
    assert provenance(8, 8192, 4) == ("host.sequential", "heuristic")
    assert not any(row["adopted"] or row["kept"] for row in rows(own_cache))


def test_a_kernel_that_fails_for_some_knobs_stays_in() -> None:
    def some(candidate: Any) -> Any:
        if (candidate.config.get("chunk") or 0) > 8192:
            return Failure(Verdict.CRASH, "the process ended by SIGSEGV")
        return chunked_wins(candidate)

    report = tuned(MadeUp(some), call(8, 1 << 16, 4), preset="default")
    assert report.results[0].chosen.point.branch == "host.chunked"


def test_what_is_left_out_is_told_apart_from_what_failed() -> None:
    made, workload = MadeUp(chunked_wins), call(8, 8192, 4)
    worker, space = made("cpu", limit=1.0), tuner.space_for(workload, "quick")
    worker.prepare(workload)
    late = lab.Tester(Lab(made, 1.0), worker, workload.operation, space, None, Display(), until=0.0)
    readings = late(list(space.points()))
    # The default, and one beside it.
    assert [isinstance(one, LeftOut) for one in readings].count(False) == 2
    assert len(made.tried) == 2


@pytest.mark.parametrize("shared", [False, True])
def test_calls_with_one_name_along_different_axes_are_searched_apart(shared: bool, tmp_path: Path) -> None:
    ones = np.ones((64, 64, 6))
    calls = [seqpar_autotune.Workload.of(seqpar.linear_recurrence, ones, ones, axis=axis) for axis in (0, 1)]
    assert calls[0].name == calls[1].name
    made = MadeUp(default_wins)
    storage = tmp_path / "journal.log" if shared else None
    report = tuned(made, *calls, preset="default", seconds=60, storage=storage)
    first, second = (one.outcome.evaluations for one in report.results)
    assert first == second > 3


def test_a_study_is_of_one_call_on_one_kind_of_machine() -> None:
    one, here = call(8, 8192, 4), host_profile()
    other = dataclasses.replace(here, name="another")
    assert study_of(one, "any", here) == study_of(dataclasses.replace(one, weight=9.0), "any", here)
    names = {study_of(one, "any", profile) for profile in (here, other, None)}
    assert len(names | {study_of(one, "deterministic", here), study_of(call(8, 4096, 4), "any", here)}) == 5


def test_a_failure_is_not_tried_again_by_the_next_run() -> None:
    def wrong(candidate: Any) -> Any:
        if candidate.config.get("chunk") == 8192:
            return Failure(Verdict.WRONG, "12 times its bound")
        return chunked_wins(candidate)

    first, second = MadeUp(wrong), MadeUp(wrong)
    workload = call(8, 1 << 16, 4)
    tuned(first, workload, preset="default", seconds=600)
    tuned(second, workload, preset="default", seconds=600)
    chunks = [[one.config.get("chunk") for _, one in made.tried] for made in (first, second)]
    assert 8192 in chunks[0]
    assert 8192 not in chunks[1]
    assert len(chunks[1]) < len(chunks[0])


@pytest.mark.parametrize("seconds", [chunked_wins, default_wins])
def test_a_run_after_all_was_tried_comes_to_the_same_end_sooner(seconds: Any) -> None:
    first, second = MadeUp(seconds), MadeUp(seconds)
    reports = [tuned(made, preset="default", seconds=600) for made in (first, second)]
    branches = [report.results[0].chosen.point.branch for report in reports]
    assert branches[0] == branches[1]
    assert reports[1].measured
    assert len(second.tried) < len(first.tried)


@pytest.mark.parametrize("to_try", [0.05, 1.0, 4.0])
def test_the_time_is_held_however_slow_candidates_are(to_try: float) -> None:
    made = MadeUp(chunked_wins, to_try=to_try)
    workloads = [call(8, 1 << n, 4) for n in range(10, 16)]
    report = tuned(made, *workloads, preset="default", seconds=60)
    # Two candidates of each call are tried whatever they take, and what was begun is finished.
    assert made.clock.now - 1000 <= 60 + 2 * to_try + 1
    assert report.elapsed == pytest.approx(made.clock.now - 1000)
    assert len(report.measured) >= 5


def test_calls_for_which_no_time_was_left_are_named() -> None:
    made = MadeUp(chunked_wins, to_try=30.0)
    report = tuned(made, *(call(8, 1 << n, 4) for n in range(10, 16)), seconds=60)
    assert any("no time" in one.note for one in report.results)
    assert len(report.results) == 6


def test_on_a_slow_machine_every_call_has_a_little_time_unless_the_user_named_one() -> None:
    made = MadeUp(chunked_wins, to_try=10.0)
    report = tuned(made, *(call(8, 1 << n, 4) for n in range(10, 16)))
    assert not any("no time" in one.note for one in report.results)
    assert made.clock.now - 1000 < 180


def test_time_goes_half_by_weight_and_half_in_equal_parts() -> None:
    assert share_of(60, [(1, 1), (1, 1), (1, 1)]) == pytest.approx(20)
    assert share_of(60, [(2, 1), (1, 1), (0, 1)]) == pytest.approx(10 + 20)
    assert share_of(60, [(0, 1), (0, 1)]) == pytest.approx(30)
    assert share_of(60, [(1, 0)]) == 60


def test_the_weightiest_come_first_and_frameworks_stay_together() -> None:
    given = [
        call(4, 100, 2, weight=1),
        call(4, 200, 2, weight=5, framework="torch"),
        call(4, 300, 2, weight=3),
        call(4, 400, 2, weight=9, framework="torch"),
    ]
    order = [(one.framework, one.weight) for one in in_order(given)]
    assert order == [("torch", 9), ("torch", 5), ("numpy", 3), ("numpy", 1)]


def test_each_framework_and_device_has_a_worker_of_its_own() -> None:
    made = MadeUp(default_wins)
    tuned(made, call(8, 4096, 4), call(8, 8192, 4))
    assert made.made == ["cpu"]
    assert made.closed == 1


def test_a_call_that_cannot_be_prepared_costs_itself() -> None:
    made = MadeUp(chunked_wins)
    make = made.__call__

    class Poor(MadeUp):
        def __call__(self, device: str, **options: Any) -> Any:
            worker = make(device, **options)
            prepare = worker.prepare

            def once(workload: Any, *args: Any, **kw: Any) -> None:
                if workload.problem.time == 4096:
                    raise BackendError("Worker: the workload cannot be tuned: memory")
                prepare(workload, *args, **kw)

            worker.prepare = once  # type: ignore[method-assign]
            return worker

    poor = Poor(chunked_wins)
    report = tune([call(8, 4096, 4), call(8, 8192, 4)], preset="quick", worker=poor, clock=made.clock)
    assert "memory" in report.results[0].note
    assert report.results[1].outcome.adopted
    assert "memory" in str(report)


def test_one_candidate_is_nothing_to_choose() -> None:
    made = MadeUp(default_wins)
    workload = next(
        one
        for one in (seqpar_autotune.Workload.of(seqpar.plan_buckets, [3, 5, 9], 2, max_tokens=64),)
        if one.operation == "plan_buckets"
    )
    report = tuned(made, workload)
    assert "nothing to choose" in report.results[0].note
    assert made.tried == []


def test_the_quick_grade_leaves_the_plain_algorithms_out_and_the_default_one_tries_them() -> None:
    quick, default = MadeUp(default_wins), MadeUp(default_wins)
    tuned(quick)
    tuned(default, preset="default", seconds=600)
    assert not any(one.backend == "reference" for _, one in quick.tried)
    assert any(one.backend == "reference" for _, one in default.tried)


def test_plain_algorithms_stay_where_one_of_them_is_the_default() -> None:
    made = MadeUp(lambda candidate: 1e-3)
    add = seqpar.monoids.add
    tuned(made, seqpar_autotune.Workload.of(seqpar.associative_scan, add, np.ones((4, 5000))))
    assert len({one.method for _, one in made.tried}) > 1


def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    orders = []
    for name in ("one", "other"):
        made = MadeUp(chunked_wins)
        tuned(made, call(8, 1 << 16, 4), preset="default", seed=3, directory=tmp_path / name)
        orders.append(made.tried)
    assert orders[0] == orders[1]


def test_results_elsewhere_are_not_what_calls_go_by(tmp_path: Path) -> None:
    tuned(MadeUp(chunked_wins), directory=tmp_path / "elsewhere")
    assert provenance(8, 8192, 4)[1] == "heuristic"
    assert rows(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preset": "quik"}, "preset='quik' is not one of"),
        ({"numerics": "same"}, "numerics='same'"),
        ({"seconds": 0}, "seconds=0 is no time"),
        ({"seconds": float("inf")}, "seconds=inf is no time"),
        ({"progress": "loud"}, "progress='loud'"),
    ],
)
def test_options_that_mean_nothing_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        tuned(MadeUp(default_wins), **options)


def test_without_optuna_the_pip_line_is_named_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    made = MadeUp(default_wins)
    with pytest.raises(MissingExtraError, match="pip install 'seqpar\\[autotune\\]'"):
        tuned(made)
    assert made.made == []


def test_importing_the_package_loads_neither_optuna_nor_rich() -> None:
    program = (
        "import sys, seqpar_autotune as s; [getattr(s, name) for name in s.__all__]; "
        "sys.exit(bool({'optuna', 'rich', 'torch', 'jax'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_to_tune_is_named() -> None:
    with pytest.raises(OptionError, match="nothing to tune"):
        tune([], worker=MadeUp(default_wins))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"workloads": "qr"}, "operations=\\['qr'\\]"),
        ({"workloads": [3]}, "is no Workload"),
        ({"workloads": 3}, "is no Workload"),
        ({"operations": "qr"}, "Give operations=\\['qr'\\]"),
        ({"seconds": "x"}, "seconds='x' is no time"),
        ({"devices": ["cuda"], "frameworks": ["numpy"]}, "seqpar info"),
        ({"devices": ["cuda:0", "cpu", "cuda:1"]}, "two devices of one kind"),
        ({"devices": ["cuda:one"]}, "device='cuda:one' is no device"),
    ],
)
def test_what_is_no_argument_is_named_with_what_is(given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        tune(**given, preset="quick")


def test_a_share_that_is_too_short_is_told_from_a_time_that_is_up() -> None:
    made = MadeUp(chunked_wins)
    with Lab(made, 10.0, (), {}) as lab:
        run = Run([call(4, 512, 8)], lab, seconds=10.0, clock=made.clock)
        assert run._one(run.workloads[0], 0.1).note.startswith(
            "not begun: its share of the time that is left is 0.10 s"
        )
        made.clock.now += 20
        assert run._one(run.workloads[0], 0.1).note == "not begun: no time was left"
