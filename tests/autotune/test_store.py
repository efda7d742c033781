"""Writing of tuned results: one line per candidate, many processes at once, disks that are full or cannot be written to."""

import errno
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqpar.dispatch import store as reading
from seqpar.dispatch.profile import HardwareProfile, host_profile
from seqpar.linear_recurrence_reference import ChunkedLoop
from seqpar_autotune import store as writing
from seqpar_autotune.outcome import Final, Measured, Outcome
from seqpar_autotune.rows import Record, code_of, records_of, shortened
from seqpar_autotune.space import Point
from seqpar_autotune.store import Recorder
from seqpar_autotune.verdict import Verdict
from tuned_stores import OTHER, chunked, default, explained, problem, recorder, root, written

__all__ = ["root"]  # the fixture

NAMED = {
    *(
        "schema",
        "operation",
        "problem",
        "backend",
        "method",
        "kernel",
        "config",
        "default",
        "verdict",
        "message",
    ),
    *(
        "adopted",
        "kept",
        "times_us",
        "vs_default",
        "noise",
        "numerics",
        "policy",
        "check",
        "rigor",
        "sampler",
        "when",
    ),
}


def lines(root: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(root.glob("*/*.jsonl")) for line in path.read_text().splitlines()
    ]


def test_a_line_has_everything_that_is_known_of_a_candidate(root: Path) -> None:
    with recorder(policy={"mode": "wall", "cache": "cold"}, rigor="quick", sampler="tpe:seed=3") as one:
        one.write(chunked(ratio=0.71, noise=0.006, adopted=True, check={"tail": True}))
    (line,) = lines(root)
    assert set(line) == NAMED
    assert (line["schema"], line["operation"], line["config"]) == (1, "linear_recurrence", {"chunk": 5})
    assert (line["times_us"], line["vs_default"], line["noise"]) == ([1.0, 2.0], 0.71, 0.006)
    assert (line["policy"], line["rigor"], line["sampler"]) == (
        {"mode": "wall", "cache": "cold"},
        "quick",
        "tpe:seed=3",
    )
    assert line["kernel"].startswith("sha256:") and line["check"] == {"tail": True}
    assert reading.profile_in(root / host_profile().digest) == host_profile()


def test_a_file_is_of_one_operation_and_run_in_the_folder_of_its_environment(root: Path) -> None:
    written(chunked(), run="first")
    written(chunked(), run="second", profile=OTHER)
    found = {str(path.relative_to(root)) for path in root.glob("*/*.jsonl")}
    assert found == {
        f"{host_profile().digest}/linear_recurrence.first.jsonl",
        f"{OTHER.digest}/linear_recurrence.second.jsonl",
    }


def test_what_was_written_is_chosen_in_the_same_process_at_once(root: Path) -> None:
    assert explained().provenance == "heuristic"
    with recorder() as one:
        one.write(chunked(adopted=True))
        assert (explained().provenance, explained().config) == ("tuned", ChunkedLoop(chunk=5))
        one.write(default(kept=True))
    assert (explained().provenance, explained().method) == ("tuned", "sequential")
    assert "measured, and nothing beat this default" in str(explained())


def test_failures_are_lines_and_are_never_chosen(root: Path) -> None:
    written(
        *(chunked(verdict=verdict, message="why", seconds=()) for verdict in Verdict if verdict != Verdict.OK)
    )
    assert [line["verdict"] for line in lines(root)] == [str(v) for v in Verdict if v != Verdict.OK]
    assert explained().provenance == "heuristic"


def test_numbers_of_numpy_and_numbers_that_are_none_become_json(root: Path) -> None:
    written(chunked(np.int64(5), seconds=(float("nan"), np.float32(1e-6)), ratio=float("inf"), adopted=True))
    (line,) = lines(root)
    assert (line["config"], line["times_us"], line["vs_default"]) == ({"chunk": 5}, [None, 1.0], None)
    assert explained().config == ChunkedLoop(chunk=5)


def test_a_workload_stands_for_its_problem(root: Path) -> None:
    class Workload:
        problem = problem(77)

    with Recorder("linear_recurrence", Workload(), host_profile()) as one:
        one.write({"backend": "reference", "method": "chunked", "config": {"chunk": 3}, "adopted": True})
    assert explained(77).config == ChunkedLoop(chunk=3)


WRITER = """
import dataclasses, sys
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import host_profile
from seqpar_autotune.rows import Record
from seqpar_autotune.store import Recorder
number, each = int(sys.argv[1]), int(sys.argv[2])
problem = Problem(
    operation="linear_recurrence", framework="numpy", device="cpu", shape=(2, 64 + number, 3), axis=1,
    dtypes=("float32", "float32", None, None), layout="inner",
)
arguments = "linear_recurrence", problem, host_profile()
with Recorder(*arguments, run="shared") as shared, Recorder(*arguments) as own:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(each):
        for one in (shared, own):
            assert one.write(Record(backend="a", method="b", config={"chunk": 1 + i}, message=str(number) * 3000))
"""


def test_four_processes_that_write_at_once_lose_nothing(root: Path) -> None:
    each = 50
    environment = {**os.environ, "SEQPAR_CACHE_DIR": str(root)}
    command = [sys.executable, "-c", WRITER]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(each)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    found = lines(root)
    assert len(list(root.glob("*/*.jsonl"))) == 5
    counts: dict[tuple[int, int], int] = {}
    for line in found:
        key = (line["problem"]["time"], line["config"]["chunk"])
        counts[key] = counts.get(key, 0) + 1
    assert counts == {(64 + number, 1 + i): 2 for number in range(4) for i in range(each)}


def test_a_disk_that_becomes_full_is_one_warning_and_results_serve_the_process(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with recorder() as one:
        monkeypatch.setattr(writing.os, "write", full)
        with pytest.warns(
            RuntimeWarning, match=r"cannot be written .*No space left.*SEQPAR_CACHE_DIR"
        ) as told:
            assert not one.write(chunked())
            assert not one.write(chunked(adopted=True))
        assert len(told) == 1 and one.unwritten == 2
        assert (explained().provenance, explained().config) == ("tuned", ChunkedLoop(chunk=5))
        monkeypatch.setattr(writing.os, "write", real)
        assert one.write(chunked(7))  # when there is room again
    assert [line["config"]["chunk"] for line in lines(root)] == [7]


def test_a_line_that_was_cut_off_costs_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, []

    def half(file: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: len(data) // 2])

    with recorder(run="a") as one:
        monkeypatch.setattr(writing.os, "write", half)
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            assert not one.write(chunked())
        monkeypatch.setattr(writing.os, "write", real)
        assert one.write(chunked(7, adopted=True))
    with pytest.warns(RuntimeWarning, match=r"line 1 of linear_recurrence\.a\.jsonl is not a tuned result"):
        assert explained().config == ChunkedLoop(chunk=7)


def test_a_line_that_another_recorder_left_cut_off_costs_no_other(root: Path) -> None:
    written(chunked(3))
    path = next(root.glob("*/*.jsonl"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(RuntimeWarning, match=r"line 1 of linear_recurrence\.a\.jsonl is not a tuned result"):
        written(chunked(7, adopted=True))
        assert explained().config == ChunkedLoop(chunk=7)


def test_a_real_limit_of_the_system_is_a_warning_too(root: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX's")
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with recorder() as one:
            assert one.write(chunked())
            resource.setrlimit(resource.RLIMIT_FSIZE, (one.path.stat().st_size + 100, before[1]))
            with pytest.warns(RuntimeWarning, match="cannot be written"):
                assert not one.write(chunked(7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(errno.EROFS, "Read-only file system")]
)
def test_a_directory_that_cannot_be_written_to_is_a_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    # Not by its mode: to the superuser every directory can be written.
    def refused(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", refused)
    with recorder() as one, pytest.warns(RuntimeWarning, match=error.strerror):
        assert not one.write(chunked(adopted=True))
    assert explained().provenance == "tuned"
    assert not root.exists()


def test_a_file_in_the_place_of_the_store_is_a_warning(root: Path) -> None:
    root.write_text("not a directory")
    with recorder() as one, pytest.warns(RuntimeWarning, match="cannot be written"):
        assert not one.write(chunked())
    assert explained().provenance == "heuristic"


def test_nothing_is_written_outside_of_the_directory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(chunked(adopted=True))
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
    package = Path(reading.__file__).parent
    assert not [path for path in package.rglob("*.jsonl") if host_profile().digest in str(path)]


def test_a_directory_of_ones_own_is_used_as_given(root: Path, tmp_path: Path) -> None:
    with recorder(directory=tmp_path / "mine") as one:
        one.write(chunked(adopted=True))
        assert one.path.is_relative_to(tmp_path / "mine")
    assert explained().provenance == "heuristic"


def outcome(adopted: bool, why: str = "exhausted", final: Final | None = None) -> Outcome:
    first = Measured(Point.of("host.sequential"), Verdict.OK, (3e-6,), 1.0)
    best = Measured(Point.of("reference.chunked", chunk=5), Verdict.OK, (2e-6,), 0.7)
    broken = Measured(Point.of("reference.tree", leaf=8), Verdict.CRASH, message="signal 11")
    return Outcome(
        winner=best if final is not None else first,
        default=first,
        final=final,
        adopted=adopted,
        measured=(first, best, broken),
        evaluations=3,
        samples=2,
        elapsed=1.0,
        seed=0,
        why=why,  # type: ignore[arg-type]
    )


WON = Final((2e-6,), (3e-6,), 0.68, 0.01, True)
LOST = Final((3e-6,), (3e-6,), 0.995, 0.01, False)


def test_the_winner_of_a_search_is_adopted_with_ratio_and_noise_of_the_final(root: Path) -> None:
    with recorder() as one:
        one.settle(outcome(True, final=WON))
    found = {line["method"]: line for line in lines(root)}
    assert (found["chunked"]["adopted"], found["chunked"]["vs_default"], found["chunked"]["noise"]) == (
        True,
        0.68,
        0.01,
    )
    assert (found["sequential"]["default"], found["sequential"]["kept"]) == (True, False)
    assert (found["tree"]["verdict"], found["tree"]["message"]) == ("crash", "signal 11")
    assert explained().provenance == "tuned"


@pytest.mark.parametrize(
    "given", [outcome(False, final=LOST), outcome(False)], ids=["no gain", "default best"]
)
def test_a_default_that_nothing_beats_is_kept_and_not_written_as_tuned(root: Path, given: Outcome) -> None:
    written(chunked(adopted=True), run="earlier")
    assert explained().provenance == "tuned"
    with recorder() as one:
        one.settle(given)
    assert [record.kept for record in records_of(given)] == [True, False, False]
    assert (explained().provenance, explained().method) == ("tuned", "sequential")


def test_a_search_that_was_cut_off_decides_nothing(root: Path) -> None:
    assert not any(record.decides for record in records_of(outcome(False, why="interrupted")))


SHORT = Final((2e-6, 2e-6), (3e-6, 3e-6), 0.67, math.inf, False)


@pytest.mark.parametrize("why", ["time", "interrupted"])
def test_a_final_too_short_to_tell_leaves_what_was_adopted_before(root: Path, why: str) -> None:
    written(chunked(adopted=True), run="earlier")
    with recorder() as one:
        one.settle(outcome(False, why, final=SHORT))
    assert (explained().provenance, explained().method) == ("tuned", "chunked")


def test_long_messages_are_cut_and_known_by_their_hash() -> None:
    short, long = shortened("x" * 100), shortened("x" * 9999)
    assert short == "x" * 100
    assert len(long) < 600 and long != shortened("x" * 9998)


def test_the_hash_of_a_kernel_depends_on_its_code_and_not_on_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    def hashed(text: str, name: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return code_of(module.K)

    plain = hashed("class K:\n    x = 1\n", "kernel_a")
    assert plain.startswith("sha256:")
    assert plain == hashed("# why\n\n\nclass K:  # what\n    x = 1\n", "kernel_b")
    assert plain != hashed("class K:\n    x = 2\n", "kernel_c")


def test_a_profile_is_written_whole_and_once(root: Path) -> None:
    written(chunked(), run="a")
    path = root / host_profile().digest / "profile.json"
    before = path.stat().st_mtime_ns
    written(chunked(), run="b")
    assert path.stat().st_mtime_ns == before
    assert HardwareProfile.from_dict(json.loads(path.read_text())) == host_profile()
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []


def test_a_damaged_profile_is_written_anew(root: Path) -> None:
    written(chunked())
    (path,) = root.glob("*/profile.json")
    path.write_text("")
    written(chunked(7))
    assert reading.profile_in(path.parent) == host_profile()


def test_records_that_are_not_deciding_leave_choices_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(writing, "invalidate", lambda: calls.append(1))
    with recorder() as one:
        one.write(chunked())
        assert calls == []
        one.write(Record(backend="reference", method="chunked", config={"chunk": 5}, adopted=True))
        assert calls == [1]


def test_an_unreadable_file_is_a_miss_with_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(chunked(adopted=True), run="a")

    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(Path, "read_bytes", refused)
        assert explained().provenance == "heuristic"
    assert len(told) == 1 and "linear_recurrence.a.jsonl cannot be read" in str(told[0].message)
