"""What a run says while it runs: one line that changes on a terminal, a line per problem elsewhere, or nothing."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.row import Row


class Display:
    """Told of everything; says nothing."""

    def begin(self, count: int, device: str) -> None:
        """So many problems on a device."""

    def problem(self, problem: Problem, number: int) -> None:
        """One is begun; the first has number 0."""

    def contestant(self, name: str, doing: str) -> None:
        """A contestant is checked, or timed."""

    def done(self, problem: Problem, rows: Sequence[Row]) -> None:
        """A problem is finished."""

    def end(self) -> None:
        """All are, or it was interrupted."""


class PlainLines(Display):
    """A line for each problem, once it is finished."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.count = 0
        self.number = 0
        self.start = time.monotonic()

    def begin(self, count: int, device: str) -> None:
        self.count, self.number = count, 0
        print(f"{count} problem{'s' * (count != 1)} on the {device}", file=self.file, flush=True)

    def problem(self, problem: Problem, number: int) -> None:
        self.number, self.start = number, time.monotonic()

    def done(self, problem: Problem, rows: Sequence[Row]) -> None:
        taken = time.monotonic() - self.start
        line = f"[{self.number + 1}/{self.count}] {problem}: {summary(rows)}; {taken:.1f} s"
        print(line, file=self.file, flush=True)


class OneLine(PlainLines):
    """For a terminal: the same lines, and below them what happens now."""

    def contestant(self, name: str, doing: str) -> None:
        self._show(f"[{self.number + 1}/{self.count}] {self._now}: {name} is {doing}")

    def problem(self, problem: Problem, number: int) -> None:
        super().problem(problem, number)
        self._now = str(problem)
        self._show(f"[{number + 1}/{self.count}] {problem}: making its numbers")

    def done(self, problem: Problem, rows: Sequence[Row]) -> None:
        self._show("")
        super().done(problem, rows)

    def end(self) -> None:
        self._show("")

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        # Back to the start, and the rest of what stood there wiped out.
        self.file.write(f"\r\x1b[2K{text[:width]}")
        self.file.flush()


def display_for(file: TextIO | None = None) -> Display:
    """For a terminal or for a log; on the error output, so that tables can be piped."""
    file = file or sys.stderr
    return OneLine(file) if file.isatty() else PlainLines(file)


def summary(rows: Sequence[Row]) -> str:
    """In a few words: how many took part, and how fast ours was."""
    took = [row for row in rows if row.kind != "limit"]
    good = [row for row in took if row.verdict == "ok"]
    gains = [
        f"{row.framework} {row.speedup:.3g}x"
        for row in good
        if row.kind == "seqpar" and row.speedup is not None
    ]
    gone = len(took) - len(good)
    words = [f"{len(good)} timed" + (f", {gone} not" if gone else "")]
    return ", ".join([*words, "seqpar over its framework's own way: " + ", ".join(gains)] if gains else words)
