"""How times grow with length: the exponent p of t = c n^p for each contestant of each sweep.

At short lengths the overhead of a call hides the law, so a fit looks at lengths from a 256th of the longest up; and one round of
bad luck must not tilt it, so the slope is the median of those between all pairs of points (Theil and Sen), in logarithms.
The summary, the page and the pictures call `exponents`.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqpar_bench.bench.report.amounts import duration
from seqpar_bench.bench.row import Row, Run

REACH = 256
"""The longest over the shortest length of a fit."""
FEWEST = 3
"""Two points lie on a line whatever the law is."""
MEANING = (
    "Time grows as the length to the power of the exponent. It is fitted to the longest lengths, as at short ones the overhead "
    "of a call hides it; where it is well below 1, or its error large, even the longest are too short."
)
COLUMNS = ("sweep", "dtype", "pass", "framework", "who", "exponent", "lengths", "at the longest", "each step")


@dataclass(frozen=True)
class Exponent:
    """The law one contestant of a sweep follows over these lengths."""

    sweep: str
    operation: str
    which: str
    dtype: str
    framework: str
    device: str
    name: str
    kind: str
    exponent: float
    error: float
    """Standard error of the exponent."""
    lengths: tuple[int, ...]
    """That the fit is over."""
    seconds: float
    """At the longest."""

    @property
    def each(self) -> float:
        """Seconds per step at the longest."""
        return self.seconds / self.lengths[-1]

    @property
    def text(self) -> str:
        # Times come with noise that the error does not know of: a third digit would promise too much.
        return f"{self.exponent:.2f} \N{PLUS-MINUS SIGN} {self.error:.2f}"


def exponents(run: Run, operation: str | None = None) -> list[Exponent]:
    """Of every contestant with at least three lengths, in the order of the run; of one operation or all."""
    series: dict[tuple[object, ...], list[Row]] = {}
    for row in run.rows:
        if (
            row.timed
            and row.sweep
            and row.length > 0
            and row.kind != "limit"
            and operation in (None, row.operation)
        ):
            key = (row.sweep, row.operation, row.which, row.dtype, row.framework, row.device, row.name)
            series.setdefault(key, []).append(row)
    return [law for rows in series.values() if (law := _law(rows)) is not None]


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The slope and its standard error: half the interval that holds two thirds, by Kendall's count of pairs (Sen, 1968)."""
    points = list(zip(x, y, strict=True))
    slopes = sorted((d - b) / (c - a) for (a, b), (c, d) in itertools.combinations(points, 2))
    n, pairs = len(points), len(slopes)
    around = math.sqrt(n * (n - 1) * (2 * n + 5) / 18) / pairs
    low, high = (_quantile(slopes, (1 + sign * around) / 2) for sign in (-1, 1))
    return statistics.median(slopes), (high - low) / 2


def table(found: Iterable[Exponent]) -> list[tuple[str, ...]]:
    """Under `COLUMNS`."""
    return [
        (
            law.sweep,
            law.dtype,
            law.which,
            law.framework if law.device == "cpu" else f"{law.framework}, {law.device}",
            law.name,
            law.text,
            f"{law.lengths[0]:,} to {law.lengths[-1]:,}",
            duration(law.seconds),
            duration(law.each),
        )
        for law in found
    ]


def _law(rows: Sequence[Row]) -> Exponent | None:
    times: dict[int, list[float]] = {}
    for row in rows:
        times.setdefault(row.length, []).extend(row.seconds)
    lengths = tuple(n for n in sorted(times) if n * REACH >= max(times))
    if len(lengths) < FEWEST:
        return None
    seconds = [statistics.median(times[n]) for n in lengths]
    slope, error = fit([math.log(n) for n in lengths], [math.log(t) for t in seconds])
    row = rows[0]
    return Exponent(
        sweep=row.sweep,
        operation=row.operation,
        which=row.which,
        dtype=row.dtype,
        framework=row.framework,
        device=row.device,
        name=row.name,
        kind=row.kind,
        exponent=slope,
        error=error,
        lengths=lengths,
        seconds=seconds[-1],
    )


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = min(max(part, 0.0), 1.0) * (len(ordered) - 1)
    low = min(int(place), len(ordered) - 2)
    return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
