"""What a run says in one line per operation and framework: how much faster the public call is than the framework's own way.

The summary, the page and the command show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqpar_bench.bench.report import amounts, tables
from seqpar_bench.bench.row import Row, Run

MEANING = (
    "How many times faster the public call is than the framework's own way: geometric mean, worst and best over the problems. "
    "Lengths of a sweep count only where an operation has nothing else."
)

LARGEST = 709.0
"""Logarithm of what a float can hold."""


@dataclass(frozen=True)
class Headline:
    """The public call on one framework, over problems on which there is a framework's own way."""

    operation: str
    framework: str
    """With the device, where that is no CPU."""
    mean: float
    """Geometric."""
    worst: float
    worst_problem: str
    best: float
    best_problem: str
    problems: int
    """That it is over; every dtype and pass counts as one."""

    @property
    def text(self) -> str:
        if self.problems == 1:
            return "1 problem"
        return f"{amounts.ratio(self.worst)} to {amounts.ratio(self.best)}, {self.problems} problems"


def headlines(run: Run) -> list[Headline]:
    """In the order of the run. Lengths of a sweep, most of them short, count only where there is nothing else."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in run.rows:
        if row.kind == "seqpar" and row.timed and 0 < _speedup(row) < math.inf:
            groups.setdefault((row.operation, tables.framework(row)), []).append(row)
    return [
        _headline(operation, framework, [row for row in rows if not row.sweep] or rows)
        for (operation, framework), rows in groups.items()
    ]


def _headline(operation: str, framework: str, rows: Sequence[Row]) -> Headline:
    worst, best = (pick(rows, key=_speedup) for pick in (min, max))
    logs = [math.log(_speedup(row)) for row in rows]
    mean = math.exp(min(sum(logs) / len(rows), LARGEST))
    return Headline(
        operation,
        framework,
        mean,
        _speedup(worst),
        tables.where(worst.place),
        _speedup(best),
        tables.where(best.place),
        len(rows),
    )


def _speedup(row: Row) -> float:
    return row.speedup or 0.0
