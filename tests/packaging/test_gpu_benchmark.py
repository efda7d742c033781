"""The benchmark for GPUs, rehearsed on the CPU: it measures what it says, finds wrong answers, and ends in time."""

import itertools
import json
import os
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar_bench import peers
from seqpar_bench.answers import WrongAnswerError
from seqpar_bench.gpu import __main__ as command
from seqpar_bench.gpu import machine
from seqpar_bench.gpu import peers as gpu_peers
from seqpar_bench.gpu.answers import Inputs, Yardstick, inputs
from seqpar_bench.gpu.cases import CASES, TINY, Case
from seqpar_bench.gpu.contenders import Field, LeftOutError, Made, checked
from seqpar_bench.gpu.frameworks import JAX, CuPy, Frame, Torch
from seqpar_bench.gpu.rounds import Timed, interleaved
from seqpar_bench.gpu.table import Row, gains
from seqpar_bench.gpu.tall_answers import TallYardstick, tall_inputs
from seqpar_bench.gpu.tall_cases import TALL_CASES, TallCase
from seqpar_bench.gpu.tall_contenders import TallField
from seqpar_bench.measure import Samples

LINEAR = Case(shape=(2, 64, 5))
TIME_LAST = Case(shape=(2, 5, 64), axis=2)
MATRICES = Case(shape=(3, 40, 4), matrices=True)
HALF = Case(shape=(2, 64, 5), dtype="float16")


def frames() -> list[Frame]:
    everybody = Torch(gpu=False), CuPy(gpu=False), JAX(gpu=False)
    return [frame for frame in everybody if frame.missing() is None]


def numpy() -> Frame:
    return CuPy(gpu=False)


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["(1, 8, 4)", "n = 4"])
def test_the_command_times_the_public_call_of_every_framework_forward_and_backward(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command.main([str(tmp_path), "--dry-run", "--no-tests", "--only", case])
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert (status, record["problems"]) == (0, [])
    timed = {(row["framework"], row["which"], row["numerics"]) for row in record["rows"] if row["seconds"]}
    for frame in frames():
        for which in ("forward", "backward"):
            assert {(frame.title, which, numerics) for numerics in ("any", "deterministic")} <= timed
    assert record["versions"]["numpy"] == np.__version__
    assert str(tmp_path) not in (tmp_path / "gpu.json").read_text()
    printed = capsys.readouterr().out
    assert (tmp_path / "table.txt").read_text() in printed
    assert "copy: " in printed


def test_the_command_times_tall_matrices_in_every_framework_and_finds_wrong_factors(
    tmp_path: Path, monkeypatch: Any
) -> None:
    chosen = [str(tmp_path), "--tall", "--dry-run", "--no-tests", "--only", "QR 1000000 x 64"]
    assert command.main(chosen) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    timed = {(row["framework"], row["which"], row["numerics"]) for row in rows if row["seconds"]}
    for frame in frames():
        for work in ("reduced", "r", "lstsq"):
            assert {(frame.title, work, numerics) for numerics in ("any", "deterministic")} <= timed
            assert any(row["peer"] and row["framework"] == frame.title and row["seconds"] for row in rows)
    monkeypatch.setattr(TallField, "_made", spoilt(TallField._made))
    assert command.main([*chosen[:-1], "QR 20 x 32"]) == 1
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert all("WrongAnswerError" in problem for problem in record["problems"])
    assert not any(row["seconds"] for row in record["rows"] if row["numerics"])


def test_a_factorisation_that_is_a_little_wrong_is_found() -> None:
    case = TallCase(shape=(3, 60, 6))
    given = tall_inputs(case, numpy())
    yardstick = TallYardstick(case, numpy(), given)
    q, r = seqpar.qr(given.a)
    assert 0 < yardstick.check("reduced", (q, r)) <= 1
    assert 0 < yardstick.check("r", r) <= 1
    x = seqpar.lstsq(given.a, given.b).x
    assert 0 < yardstick.check("lstsq", x) <= 1
    other = np.linalg.qr(given.a)
    assert yardstick.check("reduced", tuple(other), signs=False) <= 1
    nothing = r.copy()
    nothing[0, 0, 0] = np.nan
    wrong: list[tuple[Any, Any]] = [
        ("reduced", (q * (1 + 1e-3), r)),
        ("reduced", (q, r * (1 + 1e-3))),
        ("reduced", (q, r + 1e-3)),
        ("reduced", tuple(other)),
        ("r", r * (1 + 1e-3)),
        ("r", nothing),
        ("lstsq", x * (1 + 1e-2)),
    ]
    for work, found in wrong:
        with pytest.raises(WrongAnswerError):
            yardstick.check(work, found)


def test_where_there_is_no_gpu_the_command_says_so_and_fails(tmp_path: Path, monkeypatch: Any) -> None:
    for kind in (Torch, CuPy, JAX):
        monkeypatch.setattr(kind, "missing", lambda self: "sees no GPU")
    monkeypatch.setattr(machine, "hardware", dict)
    assert command.main([str(tmp_path), "--no-tests"]) == 1
    assert json.loads((tmp_path / "gpu.json").read_text())["problems"] == ["no framework finds a GPU"]


def problems(out: Path) -> tuple[int, list[str], list[dict[str, Any]]]:
    """Status, problems and rows of a rehearsal of the smallest case."""
    status = command.main([str(out), "--dry-run", "--no-tests", "--only", "(1, 8, 4)"])
    record = json.loads((out / "gpu.json").read_text())
    return status, record["problems"], record["rows"]


def spoilt(make: Any) -> Any:
    """Its results are no numbers."""

    def made(*given: Any) -> Made:
        right = make(*given)

        def thunk() -> Any:
            found = right.thunk()
            return tuple(x * np.nan for x in found) if isinstance(found, tuple | list) else found * np.nan

        return replace(right, thunk=thunk)

    return made


def test_a_wrong_answer_of_a_kernel_by_name_is_a_problem(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Field, "_kernel", spoilt(Field._kernel))
    status, found, rows = problems(tmp_path)
    wrong = [row for row in rows if row["note"].startswith("WrongAnswerError")]
    assert status == 1
    assert [f"{row['which']}, {row['framework']}, {row['method']}" for row in wrong] == [
        problem.removeprefix("(1, 8, 4) float32 ").partition(": WrongAnswerError")[0] for problem in found
    ]
    assert any(row["which"] == "forward" for row in wrong) == (find_spec("jax") is not None)
    alone = {row["framework"] for row in wrong if row["method"].startswith("kernel alone: ")}
    assert alone == {frame.title for frame in frames()}


def test_a_wrong_answer_of_a_peer_is_a_note(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("jax")
    monkeypatch.setattr(Field, "_peer", spoilt(Field._peer))
    status, found, rows = problems(tmp_path)
    wrong = {row["method"] for row in rows if row["note"].startswith("WrongAnswerError")}
    assert (status, found) == (0, [])
    assert wrong == {"jax.lax.associative_scan", "jax.lax.scan"}


def test_what_fails_while_it_is_timed_is_a_problem_if_it_is_ours(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        command, "interleaved", lambda entries, seconds: dict.fromkeys(entries, MemoryError("no more"))
    )
    status, found, rows = problems(tmp_path)
    failed = [row for row in rows if "no more" in row["note"]]
    theirs = [row for row in failed if row["peer"] or row["method"] in gpu_peers.YARDSTICKS]
    assert status == 1
    assert theirs
    assert len(found) == len(failed) - len(theirs)
    assert not any(row["method"] in problem for row in theirs for problem in found)


def test_a_framework_in_which_nothing_can_be_made_is_a_problem(tmp_path: Path, monkeypatch: Any) -> None:
    def broken(self: Field) -> Any:
        raise RuntimeError("no kernels")

    monkeypatch.setattr(Field, "contenders", broken)
    status, found, _ = problems(tmp_path)
    assert (status, len(found)) == (1, 2 * len(frames()))


def test_tests_that_cannot_run_are_a_problem(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert command.main([str(tmp_path), "--dry-run", "--no-times"]) == 1
    (problem,) = json.loads((tmp_path / "gpu.json").read_text())["problems"]
    assert problem.startswith("tests: not run: they need a source tree")


@pytest.mark.parametrize(
    ("status", "summary", "wrong"),
    [
        (0, "70 passed, 3 skipped in 60s", None),
        (1, "1 failed, 69 passed in 60s", "1 failed, 69 passed in 60s (pytest ended with 1)"),
        (2, "no summary: see tests.log", "no summary: see tests.log (pytest ended with 2)"),
        (0, "73 skipped in 2s", "none ran: 73 skipped in 2s"),
    ],
)
def test_only_tests_that_passed_are_no_problem(status: int, summary: str, wrong: str | None) -> None:
    assert machine.why_not_passed({"status": status, "summary": summary}, gpu=True) == wrong


def test_cases_that_there_are_not_cannot_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path), "--dry-run", "--only", "n = 5"])


def test_cases_that_do_not_fit_into_the_time_are_named(tmp_path: Path) -> None:
    start = time.monotonic()
    assert command.main([str(tmp_path), "--dry-run", "--no-tests", "--minutes", "0.3"]) == 1
    assert time.monotonic() - start < 15
    (problem,) = json.loads((tmp_path / "gpu.json").read_text())["problems"]
    assert problem.startswith("out of time: left out (6, 48, 6) forward, (6, 48, 6) backward")


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are signals")
def test_tests_that_take_too_long_are_interrupted_and_still_summed_up(tmp_path: Path) -> None:
    tests = tmp_path / "tests" / "gpu"
    tests.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tests / "test_slow.py").write_text(
        "import time, pytest\npytestmark = pytest.mark.gpu\n"
        "def test_quick(): pass\ndef test_wrong(): assert 0\ndef test_slow(): time.sleep(120)\n"
    )
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        start = time.monotonic()
        found = machine.run_tests(12.0, tmp_path)
    finally:
        os.chdir(before)
    assert time.monotonic() - start < 55
    assert not found["ended by itself"]
    assert found["status"] != 0
    assert "1 failed, 1 passed" in found["summary"]
    assert [line.split(" - ")[0] for line in found["failures"]] == [
        "FAILED tests/gpu/test_slow.py::test_wrong"
    ]


# --- the device -----------------------------------------------------------------------------------------------------------


class Event:
    """An event of a device whose clock its work moves, in milliseconds."""

    now = 0.0

    def __init__(self, enable_timing: bool = True) -> None:
        self.at = float("nan")

    def record(self) -> None:
        self.at = Event.now

    def synchronize(self) -> None:
        assert self.at == Event.now

    def elapsed_time(self, end: "Event") -> float:
        return end.at - self.at


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_times_are_those_of_the_devices_events(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(Event=Event, get_elapsed_time=lambda start, end: start.elapsed_time(end))
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(cuda=cuda))
    frame = Torch(gpu=True) if name == "torch" else CuPy(gpu=True)

    def work() -> None:
        Event.now += 3.0

    assert frame.seconds(work, repeats=5) == pytest.approx(3e-3)


def test_a_gpu_is_described_by_its_driver_and_by_a_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimpleNamespace(returncode=0, stdout="Fast Card, 580.1, 143771 MiB\n")
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: answer)
    properties = {
        "name": b"Fast Card",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 132,
        "l2CacheSize": 60 << 20,
        "totalGlobalMem": 141 << 30,
    }
    runtime = SimpleNamespace(getDeviceProperties=lambda number: properties, runtimeGetVersion=lambda: 13000)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    monkeypatch.setitem(sys.modules, "torch", None)  # which makes importing it fail
    facts = machine.hardware()
    assert (facts["name"], facts["driver_version"], facts["memory.total"]) == (
        "Fast Card",
        "580.1",
        "143771 MiB",
    )
    assert (facts["multiprocessors"], facts["compute capability"]) == (132, "9.0")


# --- answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [LINEAR, TIME_LAST, MATRICES, HALF], ids=str)
@pytest.mark.parametrize("maker", frames(), ids=lambda frame: frame.name)
def test_answers_of_every_framework_are_right_and_a_changed_number_is_found(case: Case, maker: Frame) -> None:
    given = inputs(case, maker)
    yardstick = Yardstick(case, maker, given)
    states, pull_back = seqpar.vjp(case.function, given.a, given.b, axis=case.axis)
    da, db = pull_back(given.g)
    assert 0 < yardstick.forward(states) <= 1
    assert 0 < yardstick.backward(da, db) <= 1
    # The last sequence is always compared; any other is held against the recurrence.
    for at in (tuple(n - 1 for n in case.shape), tuple(n // 2 for n in case.shape)):
        wrong = maker.numpy(states).astype(case.dtype)
        wrong[at] += 0.3
        with pytest.raises(WrongAnswerError):
            yardstick.forward(_like(states, wrong))
    last = maker.numpy(da).astype(case.dtype)
    last[(-1,) * last.ndim] += 0.3
    with pytest.raises(WrongAnswerError, match="times what rounding can explain"):
        yardstick.backward(_like(da, last), db)


def _like(x: Any, values: Any) -> Any:
    """Values as an array of the framework of x."""
    module = type(x).__module__.partition(".")[0]
    if module == "torch":
        import torch

        return torch.from_numpy(values)
    if module == "numpy":
        return values
    import jax

    return jax.numpy.asarray(values)


@pytest.mark.parametrize("case", [LINEAR, MATRICES], ids=str)
def test_what_is_not_a_number_is_wrong(case: Case) -> None:
    given = inputs(case, numpy())
    h = case.call(given.a, given.b).copy()
    h[(1,) * h.ndim] = np.nan
    with pytest.raises(WrongAnswerError):
        Yardstick(case, numpy(), given).forward(h)


def test_a_wrong_kernel_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(LINEAR, numpy())
    field = Field(LINEAR, "forward", numpy(), given, Yardstick(LINEAR, numpy(), given))
    (first, *_) = field.contenders()
    assert checked(first, field).what.startswith("host.")
    right = Case.call
    monkeypatch.setattr(Case, "call", lambda *given, **options: right(*given, **options) * 1.01)
    with pytest.raises(WrongAnswerError):
        checked(first, field)


@pytest.mark.parametrize("case", [LINEAR, TIME_LAST, HALF], ids=str)
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_peers_get_the_layout_they_want_and_their_answers_come_back_in_that_of_the_case(
    case: Case, which: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins that compute what accelerated-scan and flash-linear-attention do, in their layouts."""
    pytest.importorskip("torch")
    seen: list[tuple[str, tuple[int, ...], bool]] = []

    def scan(gates: Any, tokens: Any) -> Any:  # (B, C, T)
        seen.append(("scan", tuple(tokens.shape), gates.is_contiguous()))
        return peers.torch_loop(gates, tokens, -1)

    def hgrn(x: Any, g: Any) -> Any:  # (B, T, D), logarithms
        seen.append(("hgrn", tuple(x.shape), g.is_contiguous()))
        return peers.torch_loop(g.exp(), x, 1), None

    there = SimpleNamespace(scan=scan, chunk_hgrn=hgrn, fused_recurrent_hgrn=hgrn)
    monkeypatch.setattr(gpu_peers, "_there", lambda frame, module: there)
    frame = Torch(gpu=False)
    given = inputs(case, frame)
    field = Field(case, which, frame, given, Yardstick(case, frame, given))
    names = []
    for contender in field.contenders():
        if contender.peer:
            names.append(contender.name)
            if case is HALF and contender.name == "accelerated_scan.warp":
                with pytest.raises(LeftOutError, match="illegal memory access"):
                    checked(contender, field)
                continue
            checked(contender, field)
    hgrns = ["fla chunk_hgrn", "fla fused_recurrent_hgrn"]
    assert names == ["accelerated_scan.warp", "accelerated_scan.scalar", *hgrns]
    assert set(seen) == {("scan", (2, 5, 64), True), ("hgrn", (2, 64, 5), True)}


def test_the_reference_code_is_never_timed_as_the_public_call() -> None:
    given = inputs(LINEAR, numpy())
    field = Field(LINEAR, "forward", numpy(), given, Yardstick(LINEAR, numpy(), given))
    only_reference = {name: x for name, x in registry.backends().items() if name not in ("host",)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "backends", lambda: only_reference)
        registry.invalidate()
        try:
            (first, *_) = field.contenders()
            with pytest.raises(LeftOutError, match="the automatic choice is the reference code"):
                checked(first, field)
        finally:
            patch.undo()
            registry.invalidate()


def test_frameworks_read_the_same_memory() -> None:
    first, *others = frames()
    x = first.random(1, (4, 5), "float32")
    for frame in others:
        np.testing.assert_array_equal(frame.numpy(frame.take(x)), first.numpy(x))
        np.testing.assert_array_equal(first.numpy(first.take(frame.take(x))), first.numpy(x))


# --- numbers --------------------------------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_least_traffic() -> None:
    case = CASES[0]
    size = 4 * 8 * 65_536 * 1536
    assert (case.bytes_moved("forward"), case.bytes_moved("backward")) == (3 * size, 5 * size)
    states = 4 * 256 * 16_384 * 4  # bytes of b; A has four times as many
    matrices = next(case for case in CASES if str(case) == "n = 4, batch 256, T = 16384")
    assert (matrices.bytes_moved("forward"), matrices.bytes_moved("backward")) == (6 * states, 11 * states)


def test_bytes_of_tall_matrices_are_those_that_are_read_and_written_once() -> None:
    first = TALL_CASES[0]
    assert first.bytes_moved("reduced") == 4 * (2 * 64_000_000 + 64 * 64)
    assert first.bytes_moved("r") == 4 * (64_000_000 + 64 * 64)
    assert TallCase(shape=(20, 32, 32)).bytes_moved("lstsq") == 4 * 20 * (32 * 32 + 32 + 32)


def test_goals_are_those_of_torch_and_for_others_within_15_percent() -> None:
    assert CASES[0].goal("torch", "any", "forward") == 0.80
    assert CASES[0].goal("cupy", "deterministic", "backward") == pytest.approx(0.85 * 0.58, abs=1e-3)
    assert TINY.goal("torch", "any", "forward") is None


def test_a_share_is_bytes_over_time_over_the_copy() -> None:
    row = Row(
        shape="",
        dtype="",
        which="forward",
        framework="",
        samples=Samples((2.0,)),
        moved=600,
        copy=400.0,
        goal=0.75,
    )
    assert (row.share, row.reached) == (0.75, True)
    assert Row(shape="", dtype="", which="", framework="", goal=0.75, note="wrong").reached is False


def test_gains_compare_the_public_call_with_peers_on_the_same_problem() -> None:
    same = {"shape": "s", "dtype": "d", "which": "forward", "framework": "f", "moved": 1, "copy": 1.0}
    ours = Row(**same, numerics="any", samples=Samples((1.0,)))
    peer = Row(**same, method="theirs", peer=True, samples=Samples((3.0,)))
    other = Row(**{**same, "shape": "t"}, method="elsewhere", peer=True, samples=Samples((9.0,)))
    assert list(gains([ours, peer, other])) == ["s, d, forward, f: 3.00 times as fast as theirs"]


def test_rounds_take_each_turn_about_and_slow_things_once() -> None:
    class Clock(CuPy):
        def seconds(self, thunk: Any, repeats: int) -> float:
            calls.append((thunk(), repeats))
            return 0.6 if thunk() == "slow" else 1e-3

    calls: list[tuple[object, int]] = []
    clock = Clock(gpu=False)
    entries = {name: Timed(clock, lambda name=name: name) for name in ("quick", "slow", "other")}
    samples = interleaved(entries, seconds=0.0)
    assert [len(x.seconds) for x in samples.values() if isinstance(x, Samples)] == [3, 1, 3]
    rounds = calls[6:]  # each was called twice before
    assert rounds == [
        ("quick", 5),
        ("slow", 1),
        ("other", 5),
        ("other", 5),
        ("quick", 5),
        ("other", 5),
        ("quick", 5),
    ]


def test_what_fails_while_it_is_timed_ends_alone() -> None:
    """Memory may run out in the third round."""
    calls = itertools.count()

    def breaks() -> None:
        if next(calls) > 4:
            raise MemoryError("no more")

    entries = {"breaks": Timed(numpy(), breaks), "other": Timed(numpy(), lambda: None)}
    found = interleaved(entries, seconds=0.0)
    assert isinstance(found["breaks"], MemoryError)
    assert isinstance(found["other"], Samples)
    assert len(found["other"].seconds) == 3


def test_inputs_are_random_and_alike_for_every_pass() -> None:
    first, again = inputs(LINEAR, numpy()), inputs(LINEAR, numpy())
    assert isinstance(first, Inputs)
    for x, y in zip(first, again, strict=True):
        assert np.array_equal(x, y)
        assert len(np.unique(x)) > x.size // 2
