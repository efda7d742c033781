"""Writing of tuned results: a `Recorder` appends the candidates of one search to the user's store, one line each.

The tuner makes one per workload. Every process has files of its own, `<operation>.<run>.jsonl`, so that many may tune into one
directory; a line is one write at the end of the file, so that a process that is killed loses the line in hand at most.
Where nothing can be written, results serve this process, and a warning says so.
"""

import contextlib
import errno
import json
import os
import secrets
import threading
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from seqpar.dispatch import registry, store
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import HardwareProfile
from seqpar.dispatch.row import SCHEMA, described
from seqpar.errors import OptionError

from .locking import hold
from .outcome import Outcome
from .rows import Record, code_of, now, plain, records_of

_lock = threading.Lock()


class HasProblem(Protocol):
    """A workload, as far as the store is concerned."""

    @property
    def problem(self) -> Problem: ...


@cache
def _run(process: int) -> str:
    return f"{now()[:19].replace(':', '').replace('-', '')}-{process}-{secrets.token_hex(3)}"


def run_name() -> str:
    """The name of this process's files: when it first wrote, its number, and chance, since machines may share a directory."""
    return _run(os.getpid())


class Recorder:
    """Appends what is measured for one problem on one hardware profile.

    `directory` is the root of a store, the user's by default; `policy`, `rigor`, `sampler` and `numerics` are what all
    candidates of the search have in common. Used as a context, or closed by hand; after a line that decides, choices in this
    process are made anew.
    """

    def __init__(
        self,
        operation: str,
        problem: Problem | HasProblem,
        profile: HardwareProfile,
        directory: Path | str | None = None,
        *,
        run: str | None = None,
        policy: Mapping[str, Any] | None = None,
        rigor: str = "",
        sampler: str = "",
        numerics: str = "any",
    ) -> None:
        self.problem = problem if isinstance(problem, Problem) else problem.problem
        self.operation = operation
        self.profile = profile
        self.unwritten = 0
        """Records that could not be written."""
        self._common = {
            "policy": dict(policy or {}),
            "rigor": rigor,
            "sampler": sampler,
            "numerics": numerics,
        }
        self._of_problem = described(self.problem)
        self._run = run or run_name()
        self._directory = None if directory is None else Path(directory)
        self._file: int | None = None
        self._torn = False

    @property
    def path(self) -> Path:
        """The file that lines go to."""
        root = store.user_directory() if self._directory is None else self._directory
        return root / self.profile.digest / f"{self.operation}.{self._run}.jsonl"

    def write(self, record: Record | Mapping[str, Any]) -> bool:
        """Append a candidate; False where it could not be written, of which one warning per recorder tells."""
        line = self._line(record)
        try:
            self._append(json.dumps(line) + "\n")
            written = True
        except (OSError, OptionError) as error:
            self._unwritten(error)
            written = False
        if line["adopted"] or line["kept"]:
            if written:
                invalidate()
            else:
                store.remember(self.profile, self.operation, line)
        return written

    def settle(self, outcome: Outcome, checks: Mapping[str, Mapping[str, Any]] | None = None) -> list[Record]:
        """Append every candidate of a search that has ended, with what it decided. Earlier lines of them are superseded."""
        records = list(records_of(outcome, checks))
        for record in records:
            self.write(record)
        return records

    def close(self) -> None:
        """Let go of the file; the next `write` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _line(self, record: Record | Mapping[str, Any]) -> dict[str, Any]:
        given = record.to_dict() if isinstance(record, Record) else {**EMPTY, **record}
        kernels = registry.kernels(self.operation, self.problem.framework)
        label = f"{given['backend']}.{given['method']}"
        code = next((code_of(type(kernel)) for kernel in kernels if kernel.label == label), "")
        line = {
            "schema": SCHEMA,
            "operation": self.operation,
            "kernel": code,
            "problem": self._of_problem,
            **given,
            **self._common,
            "when": now(),
        }
        return {name: plain(value) for name, value in line.items()}

    def _append(self, text: str) -> None:
        with _lock:
            if self._file is None:
                self._file = _opened(self.path, self.profile)
                self._torn = _torn(self._file)
            data = (f"\n{text}" if self._torn else text).encode()
            done = os.write(self._file, data)
            if done < len(
                data
            ):  # the disk became full in the middle of the line: the rest is tried for the error's sake
                self._torn = True
                done += os.write(self._file, data[done:])
                if done < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def _unwritten(self, error: Exception) -> None:
        self.unwritten += 1
        if self.unwritten == 1:
            warnings.warn(
                f"seqpar: results for {self.operation} cannot be written ({error}). They serve this process only; set "
                f"{store.VARIABLE} to a directory with room that can be written to.",
                RuntimeWarning,
                stacklevel=3,
            )


EMPTY = Record(backend="", method="").to_dict()


def write_profile(directory: Path, profile: HardwareProfile) -> None:
    """Put a profile into the directory of its results, in one piece and once, or where the one that is there is damaged."""
    path = directory / store.PROFILE
    if store.profile_in(directory) is not None:
        return
    own = directory / f".{store.PROFILE}.{os.getpid()}.{secrets.token_hex(3)}"
    try:
        own.write_text(json.dumps({"schema": SCHEMA, **profile.to_dict()}, indent=1) + "\n", encoding="utf-8")
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A new file of lines, in one piece: there whole or not at all."""
    own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        with open(own, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


def _opened(path: Path, profile: HardwareProfile) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_profile(path.parent, profile)
    # Also for reading, without which NFS gives no shared lock.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    while True:
        file = os.open(path, flags, 0o644)
        hold(file)
        # `prune` may have taken the file away between the two.
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def _torn(file: int) -> bool:
    """Does an open file end in the middle of a line, since an earlier recorder's disk became full, or its system stopped?"""
    if not os.fstat(file).st_size:
        return False
    os.lseek(file, -1, os.SEEK_END)  # writes go to the end all the same
    return os.read(file, 1) != b"\n"
