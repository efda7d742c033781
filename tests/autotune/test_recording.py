"""`record`: which calls of a program are noted, how they are counted and timed, and that nothing of it is left behind."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
import seqpar_autotune
from seqpar.dispatch import watching
from seqpar.errors import OptionError
from seqpar_autotune.recording import TIMED, Recording, _Entry, read, record

ONES = np.ones((4, 64, 8), np.float32)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def calls_in(path: Path) -> dict[str, int]:
    return {
        one["workload"]["operation"] + " " + str(one["workload"]["operands"][0]["shape"]): one["calls"]
        for one in lines(path)
        if "workload" in one
    }


def test_each_kind_of_call_is_noted_once_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with record(path):
        for _ in range(5):
            seqpar.linear_recurrence(ONES, ONES)
        seqpar.linear_recurrence(ONES[:, :32], ONES[:, :32])
        seqpar.qr(np.ones((50, 3)) + np.eye(50, 3))
    assert calls_in(path) == {
        "linear_recurrence [4, 64, 8]": 5,
        "linear_recurrence [4, 32, 8]": 1,
        "qr [50, 3]": 1,
    }
    assert all(one["seconds"] > 0 for one in lines(path) if "workload" in one)


def test_calls_made_before_are_noted_as_well() -> None:
    seqpar.linear_recurrence(ONES, ONES)
    with record() as calls:
        seqpar.linear_recurrence(ONES, ONES)
    assert len(calls.workloads) == 1


def test_nothing_is_left_of_it_afterwards() -> None:
    with record() as calls:
        seqpar.linear_recurrence(ONES, ONES)
    before = [one.weight for one in calls.workloads]
    seqpar.linear_recurrence(ONES, ONES)
    assert [one.weight for one in calls.workloads] == before
    assert watching.watchers == ()


def test_the_file_is_written_after_an_error_as_well(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(ZeroDivisionError), record(path):
        seqpar.linear_recurrence(ONES, ONES)
        _ = 1 / 0
    assert calls_in(path) == {"linear_recurrence [4, 64, 8]": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["run.jsonl"]


def test_what_takes_a_function_of_the_users_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with record(path) as calls:
        for _ in range(2):
            seqpar.associative_scan(lambda x, y: x * y, np.ones(5))
        seqpar.associative_scan(seqpar.monoids.add, np.ones(5))
        seqpar.recurrence(lambda _, h, x: 0.5 * h + x, np.ones((9, 1)), np.zeros(1))
    told = {one["unrecorded"]: one["calls"] for one in lines(path) if "unrecorded" in one and "why" in one}
    assert told == {"associative_scan": 2, "solve_recurrence": 1}
    assert lines(path)[0]["unrecorded"] == 3
    assert sum(calls.unrecorded.values()) == 3
    assert calls_in(path) == {"associative_scan [5]": 1}


def test_threads_are_counted_together(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def work() -> None:
        for _ in range(50):
            seqpar.linear_recurrence(ONES, ONES)

    with record(path):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert calls_in(path) == {"linear_recurrence [4, 64, 8]": 200}


def test_results_are_those_of_calls_that_nobody_watches() -> None:
    plain = seqpar.linear_recurrence(0.5 * ONES, ONES)
    with record():
        watched = seqpar.linear_recurrence(0.5 * ONES, ONES)
    np.testing.assert_array_equal(plain, watched)


def test_weights_are_the_time_of_all_calls_together() -> None:
    ticks = iter(np.cumsum([0.0, 1.0, 0.0, 1.0, 0.0, 5.0]).tolist())
    recording = Recording(clock=lambda: next(ticks))
    with watching.watching(recording):
        seqpar.linear_recurrence(ONES, ONES)
        seqpar.linear_recurrence(ONES, ONES)
        seqpar.linear_recurrence(ONES[:2], ONES[:2])
    assert [(one.operands[0].shape[0], one.weight) for one in recording.workloads if one.operands[0]] == [
        (2, 5.0),
        (4, 2.0),
    ]


def test_the_first_call_which_compiles_is_left_out_where_there_are_later_ones(tmp_path: Path) -> None:
    ticks = iter(np.cumsum([0.0, 90.0, 0.0, 1.0, 0.0, 3.0, 0.0, 5.0]).tolist())
    recording = Recording(clock=lambda: next(ticks))
    with watching.watching(recording):
        for _ in range(3):
            seqpar.linear_recurrence(ONES, ONES)
        seqpar.linear_recurrence(ONES[:2], ONES[:2])
    recording.write(tmp_path / "run.jsonl")
    for workloads in (recording.workloads, read(tmp_path / "run.jsonl")):
        weights = {one.operands[0].shape[0]: one.weight for one in workloads if one.operands[0]}
        assert weights == {4: 3 * 2.0, 2: 5.0}


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with record(path) as calls:
        seqpar.linear_recurrence(ONES, ONES)
        seqpar.linear_recurrence(ONES[:2], ONES[:2])
    assert read(path) == calls.workloads


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gibberish\n", "line 1 of .* is nothing that"),
        ('{"schema": 99}\n', "another version"),
        ('{"schema": 1}\n{"workload": {}, "calls": 1, "seconds": 1, "traces": 0}\n', "does not describe"),
        ("[1]\n", "line 1"),
    ],
)
def test_files_of_something_else_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(OptionError, match=says):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\xbe\xff\x00")
    with pytest.raises(OptionError, match="cannot be read"):
        read(path)


def test_a_folder_that_is_not_there_is_named_before_the_program_runs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="in no folder"), record(tmp_path / "none" / "run.jsonl"):
        raise AssertionError("ran")


def test_calls_on_devices_are_all_counted_and_some_timed() -> None:
    entry = _Entry()
    timed = sum(entry.wanted() for _ in range(160))
    assert entry.calls == 160
    assert timed == TIMED - 1 + 160 // TIMED - 1
    for _ in range(timed):
        entry.sampled(2.0)
    assert entry.seconds == pytest.approx(320.0)


def test_torch_calls_are_noted_forwards_and_backwards() -> None:
    torch = pytest.importorskip("torch")
    a, x = (torch.full((4, 64, 8), 0.5, requires_grad=True) for _ in range(2))
    with record() as calls:
        seqpar.linear_recurrence(a, x).sum().backward()
    assert {one.operation for one in calls.workloads} == {
        "linear_recurrence",
        "linear_recurrence_backward",
    }
    assert {one.framework for one in calls.workloads} == {"torch"}


def test_jax_calls_are_noted_eager_and_traced(tmp_path: Path) -> None:
    jax = pytest.importorskip("jax")
    path = tmp_path / "run.jsonl"
    ones = jax.numpy.ones((4, 64, 8))
    more = jax.numpy.ones((2, 64, 8))
    program = jax.jit(seqpar.linear_recurrence)
    with record(path):
        for _ in range(3):
            seqpar.linear_recurrence(ones, ones)
            program(more, more)
    found = {
        one["workload"]["operands"][0]["shape"][0]: (one["calls"], one["traces"])
        for one in lines(path)
        if "workload" in one
    }
    assert found == {4: (3, 0), 2: (0, 1)}
    weights = [one.weight for one in read(path)]
    assert weights[0] == weights[1] > 0


def test_record_is_a_name_of_the_package() -> None:
    assert seqpar_autotune.record is record
