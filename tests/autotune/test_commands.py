"""`seqpar autotune`: what its words ask for, what it prints and how it ends; once for real, with kernels that crash and lie."""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted_kernels
import seqpar
from made_up_worker import MadeUp, chunked_wins
from seqpar.commands import main
from seqpar.dispatch.registry import remove_backend
from seqpar.errors import MissingExtraError, OptionError
from seqpar_autotune import commands, tuner
from seqpar_autotune.commands import INTERRUPTED, command, problems
from seqpar_autotune.explicit import explicit, sizes
from seqpar_autotune.outcome import Failure
from seqpar_autotune.presets import workloads
from seqpar_autotune.recording import record
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.workload import Workload


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path / "cache"))
    seqpar.dispatch.memos.invalidate()
    return tmp_path / "cache"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """The command over made-up times."""
    made = MadeUp(chunked_wins)
    monkeypatch.setattr(tuner, "least_seconds", lambda workload: 1e-4)

    def tune(workloads: Any, **options: Any) -> Any:
        return tuner.tune(workloads, worker=made, clock=made.clock, **options)

    monkeypatch.setattr(commands, "tune", tune)
    return made


def asked(*words: str) -> list[Workload]:
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return problems(parser.parse_args(words))


ONE = ("--op", "linear_recurrence", "--shape", "8,8192,4")


def test_one_problem_is_named_by_operation_sizes_and_dtype() -> None:
    (found,) = asked(*ONE, "--dtype", "float64")
    assert found.name == "linear_recurrence 8x8192x4 float64 numpy:cpu"
    ones = np.ones((8, 8192, 4))
    assert found.problem == Workload.of(seqpar.linear_recurrence, ones, ones).problem


def test_the_backward_pass_comes_along_when_asked_for() -> None:
    found = asked(*ONE, "--backward")
    assert [one.operation for one in found] == ["linear_recurrence", "linear_recurrence_backward"]


def test_frameworks_and_devices_are_those_that_were_named() -> None:
    pytest.importorskip("torch")
    found = asked(*ONE, "--framework", "numpy", "--framework", "torch", "--device", "cpu")
    assert [one.framework for one in found] == ["numpy", "torch"]


def test_presets_can_be_cut_down_to_an_operation() -> None:
    found = asked("--quick", "--op", "qr", "--framework", "numpy")
    assert {one.operation for one in found} == {"qr"}


WITH_PROBLEMS = sorted(
    name
    for name, rules in seqpar.dispatch.operation.all_operations().items()
    if any(not preset.frameworks or "numpy" in preset.frameworks for preset in rules.presets())
)


@pytest.mark.parametrize("operation", WITH_PROBLEMS)
def test_every_operation_with_problems_takes_sizes_as_its_own(operation: str) -> None:
    given = next(
        one for one in workloads("exhaustive", [operation], ["numpy"], ["cpu"]) if one.operation == operation
    )
    shape = given.problem.shape
    assert explicit(operation, shape, "float64", frameworks=["numpy"])[0].problem.shape == shape


@pytest.mark.parametrize(
    ("operation", "shape"),
    [("qr", (4000, 16)), ("matrix_recurrence", (3, 500, 6, 1)), ("associative_scan", (5, 700))],
)
def test_axes_that_are_never_cut_take_other_sizes_as_well(operation: str, shape: tuple[int, ...]) -> None:
    (found,) = explicit(operation, shape, frameworks=["numpy"])
    assert found.problem.shape == shape
    found.rules.abstract(found.static, found.metas)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--shape", "4,5,6"), "Give one --op"),
        (("--dtype", "float32"), "Give --op and --shape"),
        ((*ONE[:2], "--shape", "4;5"), "is no shape"),
        ((*ONE[:2], "--shape", "4,x,3"), "is no shape"),
        ((*ONE[:2], "--shape", "4,5,6,7,8"), "Its problems look like"),
        ((*ONE, "--dtype", "floaty"), "is no type of numbers"),
        (("--op", "linear_recurence"), "Did you mean 'linear_recurrence'"),
        ((*ONE, "--dtype", "int32"), "dtype='int32' is not one of 'bfloat16', 'complex128'"),
        ((*ONE, "--framework", "tensorflow"), "framework='tensorflow' is not one of 'cupy'"),
        (("--quick", "--framework", "tensorflow"), "framework='tensorflow' is not one of 'cupy'"),
        (
            (*ONE, "--framework", "numpy", "--device", "cuda"),
            "none of numpy makes arrays on cuda.*seqpar info",
        ),
        (("--framework", "numpy", "--device", "cuda"), "none of numpy makes arrays on cuda.*seqpar info"),
        (
            ("--op", "lstsq", "--shape", "1000,8"),
            "Those of associative_scan, .* can; .*seqpar_autotune.record",
        ),
        (("--op", "solve_recurrence"), "seqpar_autotune.tune_recurrence"),
        ((*ONE, "--device", "cuda:x"), "device='cuda:x' is no device"),
        (
            (*ONE, "--device", "cuda:0", "--device", "cuda:1"),
            "'cuda:0' and 'cuda:1' are two devices of one kind",
        ),
        (("--from", "none.jsonl"), "cannot be read"),
        (("--from", "none.jsonl", "--shape", "4,5,6"), "sizes of its own"),
        (("--from", "none.jsonl", "--dtype", "bfloat16"), "dtypes and backward passes of their own"),
        (("--from", "none.jsonl", "--backward"), "dtypes and backward passes of their own"),
    ],
)
def test_words_that_ask_for_nothing_are_named(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        asked(*words)


def test_a_framework_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else found(name))
    for words in (ONE, ("--quick",)):
        with pytest.raises(MissingExtraError, match="not installed. Run `pip install 'seqpar\\[cupy"):
            asked(*words, "--framework", "cupy")


def test_the_command_names_itself_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", "--shape", "4,5,6"]) == 1
    assert capsys.readouterr().err == "seqpar autotune: --shape is of one operation. Give one --op.\n"


def test_a_dry_run_counts_what_its_grade_searches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", *ONE, "--dry-run", "--quick"]) == 0
    quick = capsys.readouterr().out
    assert "reference" not in quick
    assert f" {tuner.space_for(asked(*ONE)[0], 'quick').size} " in quick


def test_a_dry_run_of_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", "--op", "lstsq", "--dry-run"]) == 1
    assert "nothing to tune" in capsys.readouterr().err


def test_shapes_are_read_however_they_are_typed() -> None:
    assert sizes("8,65536,1536") == sizes("8x65536x1536") == sizes("(8, 65536, 1536)") == (8, 65536, 1536)


def test_recorded_problems_are_weighted_and_can_be_cut_down(tmp_path: Path) -> None:
    path = str(tmp_path / "run.jsonl")
    with record(path):
        for _ in range(3):
            seqpar.linear_recurrence(np.ones((2, 64, 3)), np.ones((2, 64, 3)))
        seqpar.qr(np.eye(30, 3))
    assert {one.operation for one in asked("--from", path)} == {"linear_recurrence", "qr"}
    assert all(one.weight > 0 for one in asked("--from", path))
    assert [one.operation for one in asked("--from", path, "--op", "qr")] == ["qr"]
    with pytest.raises(OptionError, match="holds no call"):
        asked("--from", path, "--op", "cell")


def test_a_dry_run_lists_problems_and_sizes_and_tunes_nothing(
    made: MadeUp, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["autotune", *ONE, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "linear_recurrence 8x8192x4 float32 numpy:cpu" in text
    assert "host.sequential" in text
    assert "host.chunked" in text
    assert text.endswith("\n1 call.\n")
    assert made.tried == []
    assert not own_cache.exists()


def test_a_dry_run_is_data_when_asked_for(made: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", *ONE, "--backward", "--dry-run", "--json"]) == 0
    forward, backward = map(json.loads, capsys.readouterr().out.splitlines())
    assert (forward["event"], forward["name"]) == ("planned", "linear_recurrence 8x8192x4 float32 numpy:cpu")
    assert forward["combinations"] > 1 and forward["default"] == "host.sequential"
    assert "host.chunked" in forward["others"] and backward["name"].startswith("linear_recurrence_backward")
    assert made.tried == []


@pytest.mark.parametrize("seconds", ["inf", "nan", "0"])
def test_a_time_without_end_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", *ONE, "--seconds", seconds]) == 1
    assert "is no time. Give a positive number." in capsys.readouterr().err


@pytest.mark.parametrize("module", ["nosuchmodule", "seqpar.nosuch", ""])
def test_a_module_that_cannot_be_imported_is_named(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", *ONE, "--dry-run", "--import", module]) == 1
    assert f"--import {module!r} cannot be imported" in capsys.readouterr().err


def test_a_run_prints_its_table_and_where_results_are(
    made: MadeUp, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["autotune", *ONE, "--seconds", "30"]) == 0
    text = capsys.readouterr().out
    assert "host.chunked chunk=4096" in text
    assert str(own_cache) in text
    ones = np.ones((8, 8192, 4), np.float32)
    assert seqpar.explain(seqpar.linear_recurrence, ones, ones).provenance == "tuned"


def test_json_is_all_that_is_printed_when_asked_for(made: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autotune", *ONE, "--json", "--quick"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "begin"
    assert events[-1]["event"] == "end"


def test_ctrl_c_is_told_by_the_exit_status(made: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(candidate: Any) -> None:
        if len(made.tried) == 2:
            raise KeyboardInterrupt

    made.before_round = stop
    assert main(["autotune", *ONE]) == INTERRUPTED
    assert "is kept" in capsys.readouterr().out


def test_a_run_that_measured_nothing_is_told_by_the_exit_status(made: MadeUp) -> None:
    made.seconds = lambda candidate: Failure(Verdict.CRASH, "SIGSEGV")
    assert main(["autotune", *ONE, "--quick"]) == 1


def test_what_was_searched_before_goes_on_from_a_storage(made: MadeUp, tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    assert main(["autotune", *ONE, "--storage", str(journal)]) == 0
    assert journal.exists()


def test_the_grades_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["autotune", "--quick", "--exhaustive"])
    assert "not allowed with" in capsys.readouterr().err


def test_the_package_runs_as_a_module() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "seqpar_autotune", "--help"], capture_output=True, text=True, check=True
    )
    assert "--exhaustive" in found.stdout


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(planted_kernels.__file__).parent))
    kernels = [one for one in planted_kernels.KERNELS if one.method in ("good", "abort", "leave", "wrong")]
    monkeypatch.setattr(planted_kernels, "KERNELS", tuple(kernels))
    planted_kernels.plant()
    yield
    remove_backend(planted_kernels.NAME)


@pytest.mark.usefixtures("planted")
def test_kernels_that_crash_and_lie_cost_themselves_only(
    capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    words = ["--op", "linear_recurrence", "--shape", "2,64,3", "--quick", "--seconds", "60"]
    assert main(["autotune", *words, "--import", "planting"]) == 0
    text = capsys.readouterr().out
    assert "planted.abort: 1 crash" in text
    assert "planted.leave: 1 crash" in text
    assert "planted.wrong: 1 wrong" in text
    ones = np.ones((2, 64, 3), np.float32)
    chosen = seqpar.explain(seqpar.linear_recurrence, ones, ones)
    assert chosen.method not in ("abort", "leave", "wrong")
    verdicts = {
        (row["method"], row["verdict"])
        for path in own_cache.rglob("*.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    assert {("abort", "crash"), ("leave", "crash"), ("wrong", "wrong"), ("sequential", "ok")} <= verdicts
