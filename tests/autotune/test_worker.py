"""Whatever a candidate does to its process, it costs that candidate and no other, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted_kernels
import seqpar
from seqpar.dispatch.registry import remove_backend
from seqpar.errors import BackendError, OptionError
from seqpar_autotune import worker as worker_module
from seqpar_autotune.candidates import Candidate
from seqpar_autotune.outcome import Failure, Reading
from seqpar_autotune.process import MOST_PRINTED, check_devices, environment
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.worker import Worker
from seqpar_autotune.worker_process import _Work
from seqpar_autotune.workload import Workload

GOOD, FILLS = Candidate("planted", "good"), Candidate("planted", "fills")
PATIENT = 120.0
"""Seconds that nothing takes, even where eight others use the machine."""

posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups are those of POSIX")


@pytest.fixture(autouse=True)
def _planted() -> Iterator[None]:
    planted_kernels.plant()
    yield
    remove_backend(planted_kernels.NAME)


@pytest.fixture(autouse=True)
def _found_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(planted_kernels.__file__).parent))


@pytest.fixture
def worker() -> Iterator[Worker]:
    # A small cache, so that little is filled with numbers.
    with Worker(limit=PATIENT, cache=1 << 16, imports=("planting",)) as found:
        yield found


def walk(steps: int = 200, width: int = 3, **options: Any) -> Workload:
    x = np.ones((2, steps, width), np.float32)
    return Workload.of(seqpar.linear_recurrence, x, x, **options)


def planted(*methods: str) -> list[Candidate]:
    return [Candidate("planted", method) for method in methods]


def verdicts(readings: Sequence[Reading]) -> list[Verdict]:
    return [each.verdict if isinstance(each, Failure) else Verdict.OK for each in readings]


def test_each_bad_candidate_costs_itself_and_the_round_goes_on(worker: Worker) -> None:
    worker.prepare(walk(width=150))
    expected = {
        "good": Verdict.OK,
        "abort": Verdict.CRASH,
        "segfault": Verdict.CRASH,
        "memory": Verdict.MEMORY,
        "fills": Verdict.OK,
        "sticky": Verdict.CRASH,
        "wrong": Verdict.WRONG,
        "uncompiled": Verdict.COMPILE,
        "unequal": Verdict.OK,
        "wrong_after_many": Verdict.WRONG,
        "wide": Verdict.OK,
        "nobody": Verdict.INVALID,
    }
    readings = worker.round(planted(*expected))
    assert dict(zip(expected, verdicts(readings), strict=True)) == expected
    assert all(isinstance(each, Failure) or 0 < each < 10 for each in readings)
    said = dict(zip(expected, (getattr(each, "message", "") for each in readings), strict=True))
    assert "SIGABRT" in said["abort"] or os.name != "posix"
    assert "illegal memory access" in said["sticky"]
    assert "after many calls" in said["wrong_after_many"]
    assert "out of stock" in said["uncompiled"] and len(said["uncompiled"]) < 600
    assert "planted.nobody is not there" in said["nobody"]
    # What failed is not tried again, and what did not is there.
    starts = worker.starts
    again = worker.round(planted(*expected))
    assert verdicts(again) == verdicts(readings)
    assert worker.starts == starts


@posix
def test_a_hanging_candidate_is_ended_in_time_with_what_it_has_started(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_PROCESS", str(tmp_path / "number"))
    worker.prepare(walk())
    worker.limit = 5.0
    (hanging,) = planted("hang")
    assert worker.check(hanging).verdict is Verdict.TIMEOUT
    assert "5 s" in worker.check(hanging).message
    worker.limit = PATIENT
    assert verdicts(worker.round([GOOD, hanging])) == [Verdict.OK, Verdict.TIMEOUT]
    assert gone(int((tmp_path / "number").read_text()))


def test_what_spoils_the_device_for_others_is_blamed_and_not_they(worker: Worker) -> None:
    worker.prepare(walk())
    silent, sequential = Candidate("planted", "silent"), Candidate("reference", "chunked")
    # Those between the two are not harmed: it is neither the last one before that is to blame, nor the one that failed.
    readings = worker.round([FILLS, silent, sequential, GOOD])
    assert verdicts(readings) == [Verdict.OK, Verdict.CRASH, Verdict.OK, Verdict.OK]
    blamed = readings[1]
    assert isinstance(blamed, Failure) and "runs after it" in blamed.message


def test_one_process_serves_many_workloads_and_verdicts_are_per_workload(worker: Worker) -> None:
    (unequal,) = planted("unequal")
    worker.prepare(walk())
    assert worker.check(unequal).ok and worker.check(unequal).repeatable is False
    worker.prepare(walk(300), numerics="deterministic")
    assert worker.check(unequal).verdict is Verdict.UNSTABLE
    assert worker.starts == 1
    assert worker.policy["clock"] == "wall" and worker.policy["sets"] > 1


COUNTS = """
import torch

class Way:
    def do_prepare(self, workload, **_):
        return {"threads": torch.get_num_threads()}
"""


class Counted:
    name, device = "counted", "cpu"

    def to_dict(self) -> dict[str, Any]:
        return {"way": "counts_threads:Way", "framework": "torch", "device": "cpu"}


def test_torch_has_the_limit_of_threads_that_results_are_filed_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "counts_threads.py").write_text(COUNTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = torch.get_num_threads()
    try:
        with Worker(limit=PATIENT) as worker:
            for threads in (before + 1, before + 2):
                torch.set_num_threads(threads)
                worker.prepare(Counted())
                assert worker.policy == {"threads": threads}
            assert worker.starts == 1
    finally:
        torch.set_num_threads(before)


def test_a_limit_of_threads_that_a_process_cannot_take_over_is_named() -> None:
    request = {"do": "prepare", "workload": walk().to_dict(), "threads": 3, "seed": 0, "cache": 1}
    told = _Work().answer({**request, "numerics": "any"})
    assert told["verdict"] == "invalid"
    assert "numpy has a limit of 3 threads where results are filed, and of None" in told["message"]


def test_neither_what_is_printed_nor_what_lies_beside_the_user_comes_between(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is of the user')")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import os; os.write(1, b'hello \\xff ')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    # Python passes over what is no text there.
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    worker.prepare(walk())
    (talks,) = planted("talks")
    assert verdicts(worker.round([talks, GOOD])) == [Verdict.OK, Verdict.OK]
    assert worker._process is not None and worker.starts == 1
    assert os.fstat(worker._process._errors.fileno()).st_size <= MOST_PRINTED


def test_tensors_are_measured_as_arrays_are(worker: Worker) -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 200, 3)
    worker.prepare(Workload.of(seqpar.linear_recurrence, x, x))
    candidates = [Candidate("reference", "chunked"), *planted("leaves_a_gap", "fills")]
    assert verdicts(worker.round(candidates)) == [Verdict.OK, Verdict.WRONG, Verdict.OK]


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs this in the background has it ignored
import numpy as np, seqpar
from seqpar_autotune.candidates import Candidate
from seqpar_autotune.worker import Worker
from seqpar_autotune.worker_process import _Work
from seqpar_autotune.workload import Workload

x = np.ones((2, 100, 3), np.float32)
worker = Worker(limit=1000, imports=("planting",))
worker.prepare(Workload.of(seqpar.linear_recurrence, x, x))
print(worker._process.number, flush=True)
worker.check(Candidate("planted", sys.argv[1]))
"""
"""Not under `if __name__ == "__main__"`: nobody's script runs twice because of a worker."""


@posix
@pytest.mark.parametrize(
    ("method", "end"),
    [("hang", signal.SIGINT), ("hang", signal.SIGKILL), ("hold", signal.SIGKILL)],
    ids=["ctrl-c", "kill", "kill-while-no-thread-runs"],
)
def test_no_worker_outlives_the_process_that_started_it(
    method: str, end: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "number"
    monkeypatch.setenv("PLANTED_PROCESS", str(started))
    monkeypatch.setenv("PYTHONPATH", str(Path(planted_kernels.__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, method], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        number = int(parent.stdout.readline())
        if method == "hang":
            wait_for(started.exists)
        os.kill(parent.pid, end)
        _, said = parent.communicate(timeout=PATIENT)
        assert parent.returncode != 0
    assert ("KeyboardInterrupt" in said) == (end is signal.SIGINT)
    assert gone(number)
    if method == "hang":
        assert gone(int(started.read_text()))


def gone(number: int) -> bool:
    """Does a process end, or has it? One that nobody has asked for its end yet has ended."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        return False

    return wait_for(ended)


def wait_for(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENT
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


class Scripted:
    """In place of a process: answers as told, and counts."""

    made: int = 0
    answers: Callable[[str, dict[str, Any]], Any]

    def __init__(self, device: str) -> None:
        type(self).made += 1
        self.alive = True

    def start(self, imports: Sequence[str], limit: float) -> Any:
        return None

    def ask(self, do: str, limit: float, **what: Any) -> Any:
        return type(self).answers(do, what)

    def kill(self) -> None:
        self.alive = False


def scripted(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[str, dict[str, Any]], Any]
) -> type[Scripted]:
    made = type("Made", (Scripted,), {"answers": staticmethod(answers)})
    monkeypatch.setattr(worker_module, "Process", made)
    return made


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_a_failure(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda do, what: {"verdict": "ok"} if do == "check" else seconds)
    worker = Worker()
    worker.prepare(walk())
    (reading,) = worker.round([GOOD])
    assert isinstance(reading, Failure) and reading.verdict is Verdict.UNSTABLE


def test_a_clock_may_be_wrong_once(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([-1.0, 2.0])

    def answers(do: str, what: dict[str, Any]) -> Any:
        return {"verdict": "ok"} if do == "check" else next(readings) if do == "time" else None

    scripted(monkeypatch, answers)
    worker = Worker()
    worker.prepare(walk())
    assert worker.round([GOOD]) == [2.0]


def test_nothing_is_timed_that_was_not_found_right(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def answers(do: str, what: dict[str, Any]) -> Any:
        if "candidate" in what:
            asked.append((do, what["candidate"]["method"]))
        return (
            {"verdict": "wrong" if what["candidate"]["method"] == "wrong" else "ok"} if do == "check" else 1.0
        )

    scripted(monkeypatch, answers)
    worker = Worker()
    worker.prepare(walk())
    worker.round(planted("good", "wrong", "fills"))
    assert asked[0] == ("check", "good")
    assert [method for do, method in asked if do == "time"] == ["good", "fills"]
    # Times lie next to each other: whatever takes long comes before.
    assert [do for do, _ in asked[-2:]] == ["time", "time"]


def test_a_workload_whose_operands_do_not_fit_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = scripted(monkeypatch, lambda do, what: Failure(Verdict.MEMORY, "there is no more"))
    with pytest.raises(BackendError, match="there is no more"):
        Worker().prepare(walk())
    assert made.made == 1


def test_a_failure_that_came_of_what_ran_before_is_not_held_against_a_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[int, str]] = []

    def answers(do: str, what: dict[str, Any]) -> Any:
        if "candidate" in what:
            before = {method for number, method in ran if number == made.made}
            ran.append((made.made, what["candidate"]["method"]))
            if what["candidate"]["method"] == "fills" and "good" in before:
                return Failure(Verdict.MEMORY, "the pool is full of what others left")
        return {"verdict": "ok"} if do == "check" else 1.0

    made = scripted(monkeypatch, answers)
    worker = Worker()
    worker.prepare(walk())
    assert verdicts(worker.round([GOOD, FILLS])) == [Verdict.OK, Verdict.OK]


def test_an_interrupted_request_ends_the_process_whose_answer_nobody_takes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.prepare(walk())
    process = worker._process
    assert process is not None
    inbox = process._inbox

    class Interrupted:
        def get(self, timeout: float) -> str:
            raise KeyboardInterrupt

        def put(self, line: str | None) -> None:
            inbox.put(line)

    monkeypatch.setattr(process, "_inbox", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        worker.check(GOOD)
    assert not process.alive and gone(process.number)
    assert worker.check(GOOD).ok


def test_a_worker_of_another_thread_lives_on_when_that_has_ended(worker: Worker) -> None:
    thread = threading.Thread(target=worker.prepare, args=(walk(),))
    thread.start()
    thread.join()
    assert worker.check(GOOD).ok
    assert worker.starts == 1


def test_a_workload_of_another_device_is_refused() -> None:
    with pytest.raises(OptionError, match="device='cuda:1'"):
        Worker("cuda:1").prepare(walk())
    with pytest.raises(OptionError, match="prepare"):
        Worker().check(GOOD)


def test_a_process_sees_the_device_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "6"
    assert environment("cuda")["CUDA_VISIBLE_DEVICES"] == "4,6"
    assert environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    ("setting", "device", "says"),
    [
        ("3", "cuda:1", r"CUDA_VISIBLE_DEVICES='3' leaves cuda:0\. Name one"),
        ("4,6", "cuda:2", "leaves cuda:0, cuda:1"),
        ("4,-1,6", "cuda:1", "leaves cuda:0"),
        ("", "cuda:0", "leaves no GPU"),
        (None, "cuda:x", "is no device. Write cuda, or a number as in cuda:1"),
        ("4", "cuda:-1", "is no device"),
        (None, "cuda:", "is no device"),
    ],
)
def test_no_process_sees_a_device_that_this_one_may_not_use(
    setting: str | None, device: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    with pytest.raises(OptionError, match=says):
        environment(device)
    with pytest.raises(OptionError, match=says):
        check_devices("tune", [device])
