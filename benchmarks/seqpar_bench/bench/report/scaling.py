"""How times grow with length: the exponent p of t = t0 + c n^p for each contestant of each sweep.

t0 is what a call costs whatever its length; without it short lengths would flatten the law. The fit is of logarithms, so that
every length counts alike, and with a loss that one round of bad luck does not tilt (soft L1). The summary, the page and the
pictures call `exponents`.
"""

from __future__ import annotations

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
"""Parts of the shortest time that a call may cost, to start with, and the largest exponent."""
USUAL = 0.05
"""Relative errors of times beyond which a point counts less."""
MEANING = (
    "Time grows as the length to the power of the exponent, once the time that a call of no length costs is taken off; both are "
    "fitted together. Where the error is large, even the longest lengths are too short to tell."
)
COLUMNS = (
    "sweep",
    "dtype",
    "pass",
    "framework",
    "who",
    "exponent",
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
    error: float
    """Standard error of the exponent."""
    lengths: tuple[int, ...]
    """That the fit is over."""
    seconds: float
    """At the longest."""
    call: float
    """Seconds that a call costs without any length."""

    @property
    def each(self) -> float:
        """Seconds per step at the longest."""
        return self.seconds / self.lengths[-1]

    @property
    def text(self) -> str:
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


def fit(lengths: Sequence[int], seconds: Sequence[float]) -> tuple[float, float, float]:
    """The exponent, its standard error, and what a call costs without any length."""
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
    scale = 1.4826 * float(np.median(np.abs(off(found.x)))) * math.sqrt(len(t) / (len(t) - 3))
    # Where the cost of a call is nothing it cannot be told, and the inverse does without it.
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * scale**2
    return float(found.x[2]), math.sqrt(max(float(covariance[2, 2]), 0.0)), math.exp(float(found.x[0]))


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
    )
