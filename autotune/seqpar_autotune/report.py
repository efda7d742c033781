"""What a run of the tuner found: per call the default against what was chosen, what that brings, and where defaults were wrong.

`tune` returns a `Report`. It prints as a table; `to_json` is for programs.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .outcome import Measured, Outcome
from .space import Point
from .verdict import Verdict
from .workload import Workload

WRONG = 1.10
"""A default that is slower than what was chosen by more than this factor was a wrong guess."""


@dataclass(frozen=True)
class Tuned:
    """One call and what became of it."""

    workload: Workload
    outcome: Outcome | None = None
    """What the search found; None where there was none."""
    limit: float | None = None
    """Seconds that reading the operands and writing the results takes at the bandwidth of a copy."""
    note: str = ""
    """Why nothing was measured, or what else there is to say."""
    elapsed: float = 0.0

    @property
    def gain(self) -> float:
        """How many times faster than the default; 1 where that stays, or nothing was measured."""
        return 1.0 if self.outcome is None else self.outcome.gain

    @property
    def chosen(self) -> Measured | None:
        """What is to be used from now on."""
        if self.outcome is None:
            return None
        return self.outcome.winner if self.outcome.adopted else self.outcome.default

    @property
    def undecided(self) -> str:
        """Why nothing can be held against the default, where that was cut off: another may be faster, or slower."""
        if self.outcome is None or self.outcome.default.verdict is not Verdict.TIMEOUT:
            return ""
        default = self.outcome.default
        return (
            f"nothing is adopted: the default, {text_of(default.point)}, took longer than a candidate may ({default.message}). "
            'Give more time: --exhaustive, or preset="exhaustive", allows the longest.'
        )

    @property
    def why_unmeasured(self) -> str:
        """Why there are no times, where there are none."""
        if self.outcome is None:
            return self.note
        if self.undecided:
            return self.undecided
        if self.outcome.why == "interrupted":
            return "not finished: interrupted"
        return "not measured: nothing of it runs here"

    @property
    def default_was_wrong(self) -> bool:
        return self.gain > WRONG

    @property
    def default_seconds(self) -> float | None:
        return None if self.outcome is None else self.outcome.default.median

    @property
    def chosen_seconds(self) -> float | None:
        """By the default's time and the gain, which was measured side by side; its own where the default does not run."""
        if self.chosen is None or self.undecided:
            return None
        default = self.default_seconds
        return self.chosen.median if default is None or math.isinf(self.gain) else default / self.gain

    @property
    def share_of_limit(self) -> float | None:
        """Part of the bandwidth of a copy that the choice reaches."""
        seconds = self.chosen_seconds
        return None if self.limit is None or not seconds else self.limit / seconds

    @property
    def failures(self) -> Counter[Verdict]:
        measured = () if self.outcome is None else self.outcome.measured
        return Counter(one.verdict for one in measured if one.verdict is not Verdict.OK)

    def to_dict(self) -> dict[str, Any]:
        return {
            "workload": self.workload.to_dict(),
            "name": self.workload.name,
            "default": None if self.outcome is None else self.outcome.default.point.to_dict(),
            "chosen": None if self.chosen is None else self.chosen.point.to_dict(),
            "default_seconds": self.default_seconds,
            "chosen_seconds": self.chosen_seconds,
            "gain": _plain(self.gain),
            "noise": None if self.outcome is None else _plain(self.outcome.noise),
            "adopted": self.outcome is not None and self.outcome.adopted,
            "limit": self.limit,
            "share_of_limit": self.share_of_limit,
            "failures": {str(verdict): count for verdict, count in self.failures.items()},
            "note": self.undecided or self.note,
            "elapsed": self.elapsed,
            "outcome": None if self.outcome is None else self.outcome.to_dict(),
        }


@dataclass(frozen=True, repr=False)
class Report:
    """All calls of a run, in the order in which they were tuned."""

    results: tuple[Tuned, ...]
    preset: str
    seconds: float | None
    """The time that it was given."""
    elapsed: float
    seed: int
    interrupted: bool = False

    @cached_property
    def measured(self) -> tuple[Tuned, ...]:
        """Those with times."""
        return tuple(one for one in self.results if one.outcome is not None and one.chosen_seconds)

    @property
    def gain(self) -> float:
        """Geometric mean of the gains over the defaults, of all calls that were measured and whose default runs."""
        gains = [one.gain for one in self.measured if math.isfinite(one.gain)]
        return math.exp(statistics.fmean(map(math.log, gains))) if gains else 1.0

    @property
    def wrong(self) -> tuple[Tuned, ...]:
        """Calls whose default was slower than the choice by more than 10 %, the worst first."""
        found = [one for one in self.results if one.default_was_wrong]
        return tuple(sorted(found, key=lambda one: -one.gain))

    @property
    def failures(self) -> Counter[Verdict]:
        """Candidates that failed, by the way they did."""
        return sum((one.failures for one in self.results), Counter())

    def to_dict(self) -> dict[str, Any]:
        return {
            "preset": self.preset,
            "seconds": self.seconds,
            "elapsed": self.elapsed,
            "seed": self.seed,
            "interrupted": self.interrupted,
            "gain": self.gain,
            "wrong": [one.workload.name for one in self.wrong],
            "failures": {str(verdict): count for verdict, count in self.failures.items()},
            "results": [one.to_dict() for one in self.results],
        }

    def to_json(self, *, indent: int | None = 1) -> str:
        """Everything, raw times included, as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.measured:
            rows = [HEADER, *map(_row, self.measured)]
            bounded = any(one.limit is not None for one in self.measured)
            yield from aligned(rows if bounded else [row[:-1] for row in rows])
        for one in self.results:
            if one not in self.measured:
                yield f"{one.workload.name}: {one.why_unmeasured}"
        adopted = sum(one.outcome is not None and one.outcome.adopted for one in self.results)
        yield (
            f"{len(self.measured)} of {counted(len(self.results), 'call')} measured in {self.elapsed:.0f} s, "
            f"{adopted} of them with something faster than the default; gain {self.gain:.3f} (geometric mean)."
        )
        for one in self.wrong:
            times = "does not run" if math.isinf(one.gain) else f"takes {one.gain:.2f} times as long"
            yield f"The default was wrong: {one.workload.name}: {one.outcome and text_of(one.outcome.default.point)} {times}."
        if self.failures:
            counts = ", ".join(f"{count} {verdict}" for verdict, count in self.failures.most_common())
            yield f"Candidates that failed: {counts}."
            for one in self.results:
                yield from _failed(one)
        unwritten = [one for one in self.measured if one.note]
        if unwritten:
            yield f"{counted(len(unwritten), 'result')} could not be written: this process alone goes by what was found."
        if self.interrupted:
            yield "Interrupted. What was measured until then is kept, and is used; run it again to go on."


UNITS = ((1.0, "s"), (1e3, "ms"), (1e6, "us"))
HEADER = ("call", "default", "chosen", "time", "gain", "noise", "of copy")
MEANINGLESS = 1.0
"""Noise from which on a table says why there is none: an interval as wide as the time itself, of two or three rounds."""


def text_of(point: Point) -> str:
    """A candidate, briefly: knobs that are left to the kernel are not told.

    >>> text_of(Point.of("host.chunked", chunk=64, unroll=None))
    'host.chunked chunk=64'
    """
    return " ".join([point.branch, *(f"{name}={value}" for name, value in point.values if value is not None)])


def duration(seconds: float | None) -> str:
    """Three digits and a unit.

    >>> duration(0.00123), duration(4.5e-6), duration(None)
    ('1.23 ms', '4.5 us', '-')
    """
    if seconds is None:
        return "-"
    factor, unit = next((pair for pair in UNITS if seconds * pair[0] >= 1), UNITS[-1])
    return f"{seconds * factor:.3g} {unit}"


def counted(n: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "call"), counted(0, "call")
    ('1 call', '0 calls')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(one: Tuned) -> tuple[str, ...]:
    outcome, chosen = one.outcome, one.chosen
    assert outcome is not None
    assert chosen is not None
    same = chosen.point == outcome.default.point
    share = one.share_of_limit
    return (
        one.workload.name,
        text_of(outcome.default.point),
        "the same" if same else text_of(chosen.point),
        duration(one.chosen_seconds),
        "-" if same else "default fails" if math.isinf(one.gain) else f"{one.gain:.2f}x",
        _noise(outcome.noise),
        "-" if share is None else f"{100 * share:.0f} %",
    )


def _noise(noise: float | None) -> str:
    if noise is None:
        return "-"
    return f"{100 * noise:.1f} %" if noise <= MEANINGLESS else "too few rounds"


def _failed(one: Tuned) -> Iterator[str]:
    """What failed of a call, by kernel, with the first message of each kind."""
    measured = () if one.outcome is None else one.outcome.measured
    kinds: dict[tuple[str, Verdict], list[Measured]] = {}
    for found in measured:
        if found.verdict not in (Verdict.OK, Verdict.INVALID):
            kinds.setdefault((found.point.branch, found.verdict), []).append(found)
    for (branch, verdict), among in kinds.items():
        yield f"  {one.workload.name}: {branch}: {len(among)} {verdict}: {among[0].message[:150]}"


def _plain(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
