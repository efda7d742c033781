"""How times grow with length: the exponent p of t = t0 + c n^p for each contestant of each sweep.

t0 is what a call costs whatever its length; without it short lengths would flatten the law. The fit is over all lengths, of
logarithms, so that every length counts alike, and with a loss that one round of bad luck does not tilt (soft L1). The summary,
the page and the pictures call `exponents`.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from seqpar_bench.bench.report.amounts import duration
from seqpar_bench.bench.row import Row, Run

FEWEST = 4
"""As many points as unknowns lie on the curve whatever the law is."""
STARTS, STEEPEST = (0.01, 0.5, 0.99), 5.0
"""Parts of the shortest time that a call may cost, to start with, and the largest exponent; the smallest is 0."""
LONGEST = 16
"""The longest length over the shortest that `Exponent.beyond` looks at."""
AT_BOUND = 1e-3
"""So near, an exponent stands where it was stopped."""
USUAL = 0.05
"""Relative errors of times beyond which a point counts less."""
MEANING = (
    "Time grows as the length to the power of the exponent, once the time that a call of no length costs is taken off; both are "
    "fitted together, over all lengths. The error is a standard error: where it is large, or the exponent stands at a bound of "
    f"what is tried (0 and {STEEPEST:g}), these times do not tell the two apart. Over all lengths arrays leave one cache after "
    "the other, which looks like growth; beyond them is the exponent of the longest sixteenth, less the same cost of a call."
)
COLUMNS = (
    "sweep",
    "dtype",
    "pass",
    "framework",
    "who",
    "exponent",
    "beyond",
    "lengths",
    "a call",
    "at the longest",
    "each step",
)


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
    error: float | None
    """Standard error of the exponent; None where it stands at a bound, and nothing tells how far beyond it would have gone."""
    lengths: tuple[int, ...]
    """That the fit is over."""
    seconds: float
    """At the longest."""
    call: float
    """Seconds that a call costs without any length."""
    beyond: float | None
    """The exponent over the longest sixteenth alone, where arrays are beyond caches; None with fewer than three lengths there."""

    @property
    def each(self) -> float:
        """Seconds per step at the longest."""
        return self.seconds / self.lengths[-1]

    @property
    def text(self) -> str:
        if self.error is None:
            return f"{self.exponent:.2f}, at the bound"
        # Times come with noise that the error does not know of: a third digit would promise too much.
        return f"{self.exponent:.2f} \N{PLUS-MINUS SIGN} {self.error:.2f}"


def exponents(run: Run, operation: str | None = None) -> list[Exponent]:
    """Of every contestant with at least four lengths, in the order of the run; of one operation or all."""
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


def fit(lengths: Sequence[int], seconds: Sequence[float]) -> tuple[float, float | None, float]:
    """The exponent, its standard error (None at a bound), and what a call costs without any length."""
    n, t = np.log(np.asarray(lengths, float)), np.log(np.asarray(seconds, float))

    def off(unknown: Any) -> Any:
        call, factor, power = unknown
        return np.logaddexp(call, factor + power * n) - t

    least, most = [-np.inf, -np.inf, 0.0], [float(t.min()) + 1e-9, np.inf, STEEPEST]

    def from_start(part: float) -> Any:
        """A call costs this part of the shortest; the rest is the law of the first and the last length."""
        call = float(t.min()) + math.log(part)
        grown = np.log(np.maximum(np.exp(t) - math.exp(call), 1e-3 * np.exp(t)))
        slope = min(max(float((grown[-1] - grown[0]) / (n[-1] - n[0])), 0.05), 0.9 * STEEPEST)
        start = [call, float(grown[-1]) - slope * n[-1], slope]
        return least_squares(off, start, bounds=(least, most), loss="soft_l1", f_scale=USUAL)

    found = min(map(from_start, STARTS), key=lambda one: one.cost)
    power, call = float(found.x[2]), math.exp(float(found.x[0]))
    if not AT_BOUND < power < STEEPEST - AT_BOUND:
        return power, None, call
    # The loss can pass through three of five points, so that most residuals are nothing however noisy the times are. The cost
    # has those of the others, and belongs to the Jacobian, which SciPy scales by the slope of the loss.
    variance = 2 * float(found.cost) / (len(t) - 3)
    # Where the cost of a call is nothing it cannot be told, and the inverse does without it.
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    return power, math.sqrt(max(float(covariance[2, 2]), 0.0)), call


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
            "" if law.beyond is None else f"{law.beyond:.2f}",
            f"{law.lengths[0]:,} to {law.lengths[-1]:,}",
            duration(law.call),
            duration(law.seconds),
            duration(law.each),
        )
        for law in found
    ]


def _law(rows: Sequence[Row]) -> Exponent | None:
    times: dict[int, list[float]] = {}
    for row in rows:
        times.setdefault(row.length, []).extend(row.seconds)
    lengths = tuple(sorted(times))
    if len(lengths) < FEWEST:
        return None
    seconds = [statistics.median(times[n]) for n in lengths]
    exponent, error, call = fit(lengths, seconds)
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
        exponent=exponent,
        error=error,
        lengths=lengths,
        seconds=seconds[-1],
        call=min(call, seconds[0]),
        beyond=_slope(lengths, seconds, min(call, seconds[0])),
    )


def _slope(lengths: Sequence[int], seconds: Sequence[float], call: float) -> float | None:
    points = [
        (math.log(n), math.log(t - call))
        for n, t in zip(lengths, seconds, strict=True)
        if n * LONGEST >= lengths[-1] and t > call
    ]
    if len(points) < 3:
        return None
    # The median of the slopes between all pairs (Theil and Sen), which one point does not tilt.
    return statistics.median((d - b) / (c - a) for (a, b), (c, d) in itertools.combinations(points, 2))
