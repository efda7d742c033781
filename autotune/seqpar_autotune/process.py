"""One process for candidates, as the parent sees it: asked one thing at a time, within a limit, killed with all it started.

Used by `Worker`. It is started as a program of its own: `multiprocessing` would import the user's main module a second time,
and cannot where that is a notebook.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from seqpar.errors import OptionError

from .outcome import Failure
from .verdict import Verdict
from .worker_process import MARK

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from seqpar_autotune.worker_process import main; main(json.loads(sys.argv[2]))"
)
MOST_PRINTED = 1 << 20
ENDING = 10.0
"""Seconds that a killed process may take to be gone; one that waits for a device may take longer, and is left to the system."""


class Process:
    """A fresh process of `seqpar_autotune.worker_process`."""

    def __init__(self, device: str) -> None:
        variables = environment(device)
        self.alive = True
        # A file, because a pipe that nobody reads would be full at some time, and the process stand still.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        lifeline: int | None = None
        self._lifeline: int | None = None
        """Closed by the system when this process ends, however it does."""
        if os.name == "posix":
            lifeline, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                # Nothing is imported from where the user happens to be, but what the parent imports from there.
                [sys.executable, "-P", "-c", PROGRAM, json.dumps(imported_from()), json.dumps(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                errors="replace",
                env=variables,
                pass_fds=() if lifeline is None else (lifeline,),
                # Ctrl-C of a terminal goes to the parent alone, and compilers that it starts can be killed with it.
                start_new_session=True,
            )
        finally:
            if lifeline is not None:
                os.close(lifeline)
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def number(self) -> int:
        """The process id."""
        return self._process.pid

    def start(self, imports: Sequence[str], limit: float) -> Any:
        """What it has to know first."""
        return self.ask("start", limit, imports=list(imports))

    def ask(self, do: str, limit: float, **what: Any) -> Any:
        """The answer, or a `Failure`: an error there, no answer within the limit, or no process any more."""
        assert self._process.stdin is not None
        try:
            # A process that is gone is noticed when its answer is awaited.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
                self._process.stdin.flush()
            line = self._inbox.get(timeout=limit)
        except queue.Empty:
            self.kill()
            return Failure(Verdict.TIMEOUT, f"no answer within {limit:g} s")
        except BaseException:
            # Ctrl-C: nobody will take the answer, and what runs may run for long.
            self.kill()
            raise
        if line is None:
            return self._death()
        self._trim()
        found = json.loads(line)
        return Failure(Verdict(found["verdict"]), found["message"]) if "verdict" in found else found["answer"]

    def kill(self) -> None:
        """End it, with everything that it has started."""
        if not self.alive:
            # Its number may be another's by now.
            return
        self.alive = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING)
        self._reader.join(ENDING)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                # Before the process has its channel to itself, whatever starts with Python may print there.
                _, marked, answer = line.rpartition(MARK)
                if marked:
                    self._inbox.put(answer)
        self._inbox.put(None)

    def _death(self) -> Failure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING)
        code = self._process.returncode
        said = self._last_words()
        self.kill()
        if code is not None and -code == getattr(signal, "SIGKILL", None):
            return Failure(Verdict.MEMORY, "the system killed the process, as it does when memory runs out")
        how = (
            f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        )
        return Failure(Verdict.CRASH, f"the process ended {how}{said}")

    def _trim(self) -> None:
        """What candidates print is kept for the last words of the process alone, and may be much."""
        with contextlib.suppress(OSError):
            if os.fstat(self._errors.fileno()).st_size > MOST_PRINTED:
                self._errors.seek(0)  # for the process as well: both write by one position
                self._errors.truncate()

    def _last_words(self) -> str:
        """The error that Python or a library wrote last, if any."""
        with contextlib.suppress(OSError, ValueError):
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - 20_000))
            lines = self._errors.read().decode(errors="replace").splitlines()
            # Behind what Python says of a fatal error comes the stack, in which the reader cannot see more than where.
            fatal = [line for line in lines if line.startswith("Fatal Python error")]
            spoken = fatal or [line for line in lines if line.strip()]
            return f": {spoken[-1].strip()[:300]}" if spoken else ""
        return ""


def imported_from() -> list[str]:
    """Where modules come from. What is no text there, Python passes over."""
    return [place for place in sys.path if isinstance(place, str)]


def environment(device: str) -> dict[str, str]:
    """Variables of the process: of all devices it sees the one that it is for, and takes no memory in advance."""
    found = dict(os.environ)
    kind, _, number = device.partition(":")
    if kind == "cpu":
        # JAX would place everything on a GPU.
        found["CUDA_VISIBLE_DEVICES"] = ""
        found["JAX_PLATFORMS"] = "cpu"
    elif number or device.endswith(":"):
        found["CUDA_VISIBLE_DEVICES"] = _visible(device, number, found.get("CUDA_VISIBLE_DEVICES"))
    found.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # OpenBLAS's threads wait at full speed for a tenth of a second after each call, and take the cores from what is timed next:
    # a QR of 1.3 ms took up to 30 ms behind one of NumPy's, and that 500 ms in place of 10 where others wanted the cores as well.
    found.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    return found


def check_devices(operation: str, devices: Iterable[str]) -> None:
    """Says what is wrong with devices that a user named: a run has one of each kind, and sees what the user let it see."""
    chosen: dict[str, str] = {}
    for device in devices:
        environment(device)
        other = chosen.setdefault(device.partition(":")[0], device)
        if other != device:
            raise OptionError(
                f"{operation}: {other!r} and {device!r} are two devices of one kind, and a run measures on one of each. Give "
                "one of them."
            )


def _visible(device: str, number: str, setting: str | None) -> str:
    """What CUDA is to be told of a device, as this process numbers those that it may use."""
    if not (number.isascii() and number.isdecimal()):
        raise OptionError(f"device={device!r} is no device. Write cuda, or a number as in cuda:1.")
    if setting is None:
        return number
    # CUDA itself looks no further than the first one that is none.
    names = [name.strip() for name in setting.split(",")]
    names = list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))
    if int(number) >= len(names):
        there = ", ".join(f"cuda:{i}" for i in range(len(names))) or "no GPU"
        raise OptionError(
            f"device={device!r} is not to be used here: CUDA_VISIBLE_DEVICES={setting!r} leaves {there}. Name one of those, "
            "or change the variable."
        )
    return names[int(number)]
