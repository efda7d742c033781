"""`seqpar bench` as it is typed, with a planted operation in place of the real ones."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from seqpar import commands
from seqpar_bench.bench import command, problems, session
from seqpar_bench.bench.contest import Effort, Wanted
from seqpar_bench.bench.hardware import begun
from seqpar_bench.bench.problems import OPERATIONS, Choice, chosen
from seqpar_bench.bench.row import Run, read
from seqpar_bench.bench.session import Session
from seqpar_bench.bench.watching import Display

from bench_planted import Planted  # isort: skip


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(OPERATIONS):
        monkeypatch.delitem(OPERATIONS, name)
    monkeypatch.setitem(OPERATIONS, "planted", "bench_planted")
    monkeypatch.setitem(session.EFFORTS, "quick", Effort(seconds=0.1, rounds=2))
    monkeypatch.setitem(command.EFFORTS, "quick", Effort(seconds=0.1, rounds=2))
    monkeypatch.setitem(problems.LENGTHS, "quick", (64, 256))


def bench(*words: str) -> int:
    return commands.main(["bench", *words], program="seqpar")


QUICK = ("--quick", "--framework", "numpy")


def test_it_measures_shows_tables_and_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*QUICK, "--out", str(tmp_path / "report")) == 0
    shown = capsys.readouterr()
    assert "seqpar (host.sequential)" in shown.out
    assert "[3/3] planted a sum 256 float32" in shown.err
    run = read(tmp_path / "report" / "bench.json")
    assert {row.length for row in run.rows} == {4096, 64, 256}
    assert {row.name for row in run.rows if not row.sweep} == {
        "copy",
        "matrix product",
        "seqpar",
        "own",
        "slow",
    }
    assert set(run.limits["cpu"]) == {"copy", "float32"}
    assert run.troubles == run.left_out == [] and not run.interrupted and run.elapsed > 0
    assert (tmp_path / "report" / "index.html").exists()


def test_json_is_all_that_is_on_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*QUICK, "--json", "--no-sweeps", "--no-peers") == 0
    stored = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in stored["rows"]} == {"copy", "matrix product", "seqpar", "own"}


def test_the_command_is_kept_without_the_places_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/seqpar", "bench", "--out", "/home/somebody/report"])
    assert command._typed(sys.argv) == "seqpar bench --out report"


def test_a_shape_and_a_dtype_replace_those_of_the_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--op", "planted", "--shape", "77", "--dtype", "float64", "--list") == 0
    assert capsys.readouterr().out == "planted a sum 77 float64\n"


@pytest.mark.parametrize(("words", "message"), [
    (["--op", "plantd"], "planted"),
    (["--shape", "4"], "--shape is of one operation"),
    (["--op", "planted", "--shape", "4,5"], "--shape 4,5 is no shape of planted, which takes one size"),
    (["--dtype", "float31"], "float32"),
    (["--framework", "tensorflow"], "not one of 'cupy', 'jax', 'numpy', 'torch'"),
    (["--backend", "hosts"], "--backend='hosts' is not one of"),
    (["--only-sweeps", "--no-sweeps"], "Give one of them"),
    (["--compare", "a", "b", "--quick"], "measures nothing"),
    (["--device", "tpu"], "none of cpu and cuda"),
    (["--pass", "sideways"], "neither forward nor gradient"),
    (["--pass", "gradient"], "there is no problem of that kind"),
    (["--fail-above", "10"], "Give two runs"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_said(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--shape", "4,x"], ["--shape", "0"], ["--minutes", "-1"], ["--fail-above", "much"]]
)
def test_values_that_are_none_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(*words)
    assert ended.value.code == 2
    assert "Give " in capsys.readouterr().err


def test_a_report_cannot_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    assert bench(*QUICK, "--out", str(tmp_path / "taken")) == 1
    assert "is a file, and a report is a folder" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_ctrl_c_shows_and_writes_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(Display):
        def problem(self, problem: object, number: int) -> None:
            if number == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(command, "display_for", Impatient)
    assert bench(*QUICK, "--out", str(tmp_path)) == 130
    run = read(tmp_path / "bench.json")
    assert run.interrupted
    assert {row.length for row in run.rows} == {4096}
    assert "seqpar (host.sequential)" in capsys.readouterr().out


def test_what_is_left_out_for_want_of_time_is_named() -> None:
    run = begun("seqpar bench")
    ticks = iter(range(0, 10**9, 10))
    one = Session(run, "quick", Wanted(frameworks=("numpy",)), seconds=5.0, clock=lambda: float(next(ticks)))
    one.measure([Planted(), Planted(shape=(9,))], "cpu")
    assert run.rows == []
    assert run.left_out == [
        "planted a sum 4096 float32: no time was left",
        "planted a sum 9 float32: no time was left",
    ]
    assert run.troubles == []


def test_what_does_not_fit_into_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "memory_left", lambda: 1000)
    run = begun("seqpar bench")
    Session(run, "quick", Wanted(frameworks=("numpy",))).measure([Planted()], "cpu")
    assert run.rows == []
    assert run.troubles == []
    (why,) = run.left_out
    assert why.startswith("planted a sum 4096 float32: takes ")


def test_a_sweep_goes_on_without_those_that_were_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session.SWEPT, "quick", 0.0)
    run = begun("seqpar bench")
    given = [p for p in chosen(Choice("quick"), "cpu") if p.sweep]
    Session(run, "quick", Wanted(frameworks=("numpy",)), Effort(0.1, 2)).measure(given, "cpu")
    assert [(row.length, row.verdict) for row in run.rows if row.name == "seqpar"] == [
        (64, "ok"),
        (256, "left out"),
    ]
    assert "at 64" in next(row.note for row in run.rows if row.verdict == "left out")


def test_one_of_ours_that_fails_is_a_problem_and_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Right for ones, which `check` expects, and not for twos.
    import bench_planted

    monkeypatch.setattr(bench_planted, "PROBLEMS", (Planted(grade="quick", dtype="float16", shape=(4096,)),))
    assert bench(*QUICK, "--no-sweeps") == 1
    assert "seqpar: wrong" in capsys.readouterr().out


def test_a_run_in_which_nothing_of_ours_was_timed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    # The planted problem has no kernel of that name, so that peers alone take part.
    assert bench(*QUICK, "--no-sweeps", "--backend", "reference") == 1
    assert (
        "nothing of seqpar was timed with --framework numpy and --backend reference"
        in capsys.readouterr().out
    )


def test_whoever_is_killed_later_has_the_rows_of_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Display):
        def problem(self, problem: object, number: int) -> None:
            if number == 1:
                found.append(read(tmp_path / "bench.json"))

    found: list[Run] = []
    monkeypatch.setattr(command, "display_for", Killed)
    assert bench(*QUICK, "--out", str(tmp_path)) == 0
    assert {row.length for row in found[0].rows} == {4096}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX's signals")
def test_a_signal_that_ends_the_process_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Display):
        def problem(self, problem: object, number: int) -> None:
            if number == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(command, "display_for", Ended)
    assert bench(*QUICK, "--out", str(tmp_path)) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert read(tmp_path / "bench.json").interrupted
    assert (tmp_path / "index.html").exists()


def test_folders_of_reports_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*QUICK, "--no-sweeps", "--out", str(tmp_path)) == 0
    capsys.readouterr()
    assert bench("--compare", str(tmp_path), str(tmp_path)) == 0
    assert "the same" in capsys.readouterr().out


def test_a_part_of_a_name_chooses_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--problem", "A SUM", "--quick", "--no-sweeps", "--list") == 0
    assert capsys.readouterr().out == "planted a sum 4096 float32\n"
    assert bench("--problem", "a product", "--quick") == 1


def test_names_of_kernels_are_checked_without_frameworks_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(name: str) -> object:
        return None if name in ("torch", "jax", "cupy") else object()

    def kernels(operation: str, framework: str) -> tuple[object, ...]:
        assert framework == "numpy", "its module would be imported"
        return ()

    monkeypatch.setattr(command.importlib.util, "find_spec", without)
    monkeypatch.setattr(command.registry, "kernels", kernels)
    assert bench("--backend", "hosts", "--list") == 1
    assert "--backend='hosts' is not one of 'reference'" in capsys.readouterr().err
    assert bench("--list", "--quick") == 0
