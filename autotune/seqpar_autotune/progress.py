"""What a run says while it runs: a live display on a terminal, plain lines elsewhere, JSON lines for programs, or nothing.

`tune` tells a `Display` what happens; each of those here shows it in its way.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from seqpar.errors import MissingExtraError, unknown_name

from .outcome import Failure, Measured, Progress
from .report import Report, Tuned, counted, duration, text_of
from .space import Point
from .workload import Workload

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

KINDS = ("rich", "plain", "json", "auto")
EVERY = 5.0
"""Seconds between two plain lines about one call."""


class Display:
    """Told of everything; says nothing."""

    def begin(self, workloads: Sequence[Workload], seconds: float | None, elapsed: float = 0.0) -> None:
        """A run over these, with this time for all of them, of which so much has passed; None where nothing limits it."""

    def workload(self, workload: Workload, size: int, seconds: float | None, limit: float | None) -> None:
        """A call is begun: so many combinations, so much time, and the seconds that a device's memory needs for it."""

    def trying(self, point: Point) -> None:
        """A candidate is compiled, verified and timed for the first time."""

    def failed(self, point: Point, failure: Failure) -> None:
        """It cannot be chosen."""

    def round(self, progress: Progress) -> None:
        """A round of times was taken."""

    def done(self, tuned: Tuned) -> None:
        """A call is finished."""

    def end(self, report: Report) -> None:
        """All are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def display_for(given: str | Display | None, file: TextIO | None = None) -> Display:
    """A display by name; "auto" is "rich" on a terminal where rich is installed, and "plain" elsewhere."""
    if given is None:
        return Display()
    if isinstance(given, Display):
        return given
    file = file or sys.stdout
    if given not in KINDS:
        raise unknown_name("tune", "progress", given, KINDS)
    if given == "json":
        return JsonLines(file)
    if given == "auto" and not file.isatty():
        return PlainLines(file)
    if given != "plain":
        try:
            return Live(file)
        except MissingExtraError:
            if given == "rich":
                raise
    return PlainLines(file)


class Told(Display):
    """Remembers what it was told, for those that show it."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._start = clock()
        self._count = 0
        self._seconds: float | None = None
        self._at = 0
        self._now: Workload | None = None
        self._size = 0
        self._limit: float | None = None
        self._progress: Progress | None = None
        self._point: Point | None = None
        self._failures = 0

    def begin(self, workloads: Sequence[Workload], seconds: float | None, elapsed: float = 0.0) -> None:
        self._count, self._seconds, self._start = len(workloads), seconds, self._clock() - elapsed

    def workload(self, workload: Workload, size: int, seconds: float | None, limit: float | None) -> None:
        self._now, self._size, self._limit = workload, size, limit
        self._progress, self._point, self._failures = None, None, 0

    def trying(self, point: Point) -> None:
        self._point = point

    def failed(self, point: Point, failure: Failure) -> None:
        self._failures += 1

    def round(self, progress: Progress) -> None:
        self._progress = progress

    def done(self, tuned: Tuned) -> None:
        self._at += 1
        self._now = None

    @property
    def left(self) -> float | None:
        """Seconds until the time is up."""
        if self._seconds is None:
            return None
        return max(self._seconds - (self._clock() - self._start), 0.0)


class PlainLines(Told):
    """For logs and pipes."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(file, clock)
        self._said = -math.inf

    def begin(self, workloads: Sequence[Workload], seconds: float | None, elapsed: float = 0.0) -> None:
        super().begin(workloads, seconds, elapsed)
        time_given = "no limit of time" if seconds is None else f"{seconds:g} s"
        self._say(f"{counted(len(workloads), 'call')}, {time_given}")

    def workload(self, workload: Workload, size: int, seconds: float | None, limit: float | None) -> None:
        super().workload(workload, size, seconds, limit)
        allowed = "" if limit is None else f", at least {duration(limit)} by memory bandwidth"
        self._say(f"{self._head(workload)}: {counted(size, 'combination')}{allowed}")
        self._said = self._clock()

    def failed(self, point: Point, failure: Failure) -> None:
        super().failed(point, failure)
        self._say(f"  {text_of(point)}: {failure.verdict}: {failure.message[:120]}")

    def round(self, progress: Progress) -> None:
        super().round(progress)
        if self._clock() - self._said >= EVERY:
            self._said = self._clock()
            self._say(f"  {standing(progress, self._limit)}")

    def done(self, tuned: Tuned) -> None:
        begun = self._now is not None
        head = "  " if begun else f"{self._head(tuned.workload)}: "
        super().done(tuned)
        left = f"; {self.left:.0f} s left" if begun and self.left is not None else ""
        self._say(f"{head}{summary(tuned)}{left}")

    def end(self, report: Report) -> None:
        self._say(str(report))

    def _head(self, workload: Workload) -> str:
        return f"[{self._at + 1}/{self._count}] {workload.name}"

    def _say(self, line: str) -> None:
        print(line, file=self._file, flush=True)


class JsonLines(Told):
    """One JSON object per event: for programs that watch, and for logs that are read by some."""

    def begin(self, workloads: Sequence[Workload], seconds: float | None, elapsed: float = 0.0) -> None:
        super().begin(workloads, seconds, elapsed)
        self._say("begin", workloads=[one.name for one in workloads], seconds=seconds)

    def workload(self, workload: Workload, size: int, seconds: float | None, limit: float | None) -> None:
        super().workload(workload, size, seconds, limit)
        self._say("workload", workload=workload.to_dict(), name=workload.name, size=size, limit=limit)

    def failed(self, point: Point, failure: Failure) -> None:
        super().failed(point, failure)
        verdict, message = str(failure.verdict), failure.message
        self._say("failed", candidate=point.to_dict(), verdict=verdict, message=message)

    def round(self, progress: Progress) -> None:
        super().round(progress)
        best, default = progress.best, progress.default
        self._say(
            "round",
            phase=progress.phase,
            evaluations=progress.evaluations,
            planned=progress.planned,
            best=None if best is None else {**best.point.to_dict(), "ratio": best.ratio},
            best_seconds=None if best is None else best.median,
            default_seconds=None if default is None else default.median,
            elapsed=progress.elapsed,
        )

    def done(self, tuned: Tuned) -> None:
        super().done(tuned)
        self._say("done", left=self.left, **tuned.to_dict())

    def end(self, report: Report) -> None:
        told = report.to_dict()
        self._say("end", **{name: told[name] for name in told if name != "results"})

    def _say(self, event: str, **what: Any) -> None:
        print(json.dumps({"event": event, **what}), file=self._file, flush=True)


class Live(Told):
    """For terminals: finished calls scroll up, the one at hand is redrawn in place."""

    def __init__(
        self, file: TextIO, clock: Callable[[], float] = time.monotonic, console: "Console | None" = None
    ) -> None:
        super().__init__(file, clock)
        try:
            from rich import live
            from rich.console import Console as New
        except ImportError as error:
            raise MissingExtraError(
                f"tune: rich is not installed ({error}), which draws the display. Give progress='plain', or install it "
                "with: pip install 'seqpar[autotune]'"
            ) from None
        self._console = console or New(file=file)
        self._live = live.Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def failed(self, point: Point, failure: Failure) -> None:
        super().failed(point, failure)
        self._print(f"  {text_of(point)}: {failure.verdict}: {failure.message[:120]}", "yellow")

    def done(self, tuned: Tuned) -> None:
        super().done(tuned)
        self._print(f"{tuned.workload.name}: {summary(tuned)}", "green" if tuned.gain > 1 else "")

    def end(self, report: Report) -> None:
        self._now = None
        self._live.update(self._text(""), refresh=True)
        self._print(str(report), "", wrap=False)

    def _drawn(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar

        lines: list[Any] = [ProgressBar(total=max(self._count, 1), completed=self._at, width=60)]
        left = "" if self.left is None else f", {self.left:.0f} s left"
        lines.append(self._text(f"{self._at} of {counted(self._count, 'call')}{left}"))
        if self._now is not None:
            lines.append(self._text(f"{self._now.name}: {counted(self._size, 'combination')}"))
            if self._progress is not None:
                lines.append(self._text(f"  {standing(self._progress, self._limit)}"))
            if self._point is not None:
                lines.append(self._text(f"  last tried: {text_of(self._point)}; {self._failures} failed"))
        return Group(*lines)

    def _print(self, line: str, style: str, wrap: bool = True) -> None:
        self._console.print(self._text(line), style=style, soft_wrap=not wrap)

    def _text(self, line: str) -> "RenderableType":
        from rich.text import Text

        return Text(line)


def standing(progress: Progress, limit: float | None) -> str:
    """Where a search stands, in one line."""
    planned = "" if progress.planned is None else f" of {progress.planned}"
    return f"{progress.phase}: {progress.evaluations}{planned} tried; {_best(progress.best, limit)}"


def _best(best: Measured | None, limit: float | None) -> str:
    if best is None:
        return "nothing runs yet"
    seconds, ratio = best.median, best.ratio
    against = "" if not ratio else f", {1 / ratio:.2f}x the default"
    share = "" if limit is None or not seconds else f", {100 * limit / seconds:.0f} % of a copy's speed"
    return f"best {text_of(best.point)} {duration(seconds)}{against}{share}"


def summary(tuned: Tuned) -> str:
    """What came of a call, in one line."""
    outcome = tuned.outcome
    if outcome is None or tuned.chosen is None:
        return tuned.note
    if not outcome.adopted:
        if not tuned.chosen_seconds:
            return tuned.why_unmeasured
        return f"{text_of(outcome.default.point)} stays, {duration(tuned.default_seconds)}"
    against = "which does not run" if math.isinf(outcome.gain) else f"{duration(tuned.default_seconds)}"
    gain = "" if math.isinf(outcome.gain) else f", {outcome.gain:.2f}x"
    return (
        f"{text_of(tuned.chosen.point)} {duration(tuned.chosen_seconds)} in place of "
        f"{text_of(outcome.default.point)} {against}{gain}"
    )
