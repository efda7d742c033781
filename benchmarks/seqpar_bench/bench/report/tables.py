"""Rows of a run as tables of text: what the terminal, the Markdown summary and the page show of one operation.

Every cell is made once, as its text and the value it sorts by; whoever shows them decides for which columns there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from seqpar_bench import tables as text
from seqpar_bench.bench.report import amounts
from seqpar_bench.bench.row import Kind, Place, Row, Run, Verdict

Unit = Literal["GB/s", "GFLOP/s", "calls/s"]
COLUMNS = (
    "problem", "dtype", "pass", "framework", "who", "time", "spread", "speed", "of limit", "error", "speed-up", "note",
)  # fmt: skip
WHERE = COLUMNS[:3]
"""Say which place a row is of."""
EVERYWHERE = "all problems"


class Cell(NamedTuple):
    text: str
    key: float | str | None = None
    """What it sorts by; None is not known, and last whichever way one sorts."""


@dataclass(frozen=True)
class Line:
    """One row of a table: a contestant on a problem, or one that is missing from several."""

    kind: Kind
    verdict: Verdict
    cells: tuple[Cell, ...]

    def __getitem__(self, column: str) -> str:
        return self.cells[COLUMNS.index(column)].text


def rows(run: Run, operation: str, *, sweeps: bool | None = None) -> list[Line]:
    """The lines of one operation, place by place, the quickest first; of sweeps alone, without them, or all."""
    found: list[Line] = []
    missing: dict[tuple[str, str], list[Row]] = {}
    for place, members in run.places():
        if place.operation != operation or sweeps not in (None, bool(place.sweep)):
            continue
        for row in members:
            if row.verdict == "missing":
                missing.setdefault((framework(row), row.note), []).append(row)
        of = unit(members)
        found += [_line(row, of) for row in sorted(members, key=_order) if row.verdict != "missing"]
    return found + [_missing(members) for members in missing.values()]


def markdown(lines: Sequence[Line]) -> str:
    """The table as Markdown, without the columns that are empty throughout."""
    names = [name for name in COLUMNS if any(line[name] for line in lines)]
    return text.markdown(names, [[markdown_text(line[name]) for name in names] for line in lines])


def markdown_text(words: str) -> str:
    """What Markdown takes for nothing but words, on one line."""
    marked = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else "&amp;" if c == "&" else c for c in words)
    return " ".join(marked.split())


def unit(members: Iterable[Row]) -> Unit:
    """What speed is of in a place: bytes where copying them takes longer than as many operations of a product of matrices."""
    bandwidth = rate = nbytes = flops = 0.0
    for row in members:
        if row.kind == "limit":
            bandwidth, rate = bandwidth or row.bandwidth or 0.0, rate or row.rate or 0.0
        else:
            nbytes, flops = nbytes or row.nbytes or 0.0, flops or row.flops or 0.0
    if nbytes and flops and bandwidth and rate:
        return "GB/s" if nbytes / bandwidth >= flops / rate else "GFLOP/s"
    return "GB/s" if nbytes else "GFLOP/s" if flops else "calls/s"


def per_second(row: Row, unit: Unit) -> float | None:
    """How fast it was, in that unit."""
    if not row.timed or not row.median:
        return None
    if unit == "calls/s":
        return 1 / row.median
    found = row.bandwidth if unit == "GB/s" else row.rate
    return found / 1e9 if found is not None else None


def who(row: Row) -> str:
    """The contestant; of the public call, what it chose too."""
    return f"{row.name} ({row.ran})" if row.kind == "seqpar" and row.ran else row.name


def where(place: Place) -> str:
    """The problem in words."""
    device = "" if place.device == "cpu" else f", {place.device}"
    return f"{_problem(place.problem, place.shape)}, {place.dtype}, {place.which}{device}"


def _line(row: Row, of: Unit) -> Line:
    # The product of matrices moves no bytes to speak of, and the copy does not calculate.
    own = of if row.kind != "limit" else unit([replace(row, kind="peer")])
    speed = per_second(row, own) if own != "calls/s" else None
    cells = {
        "problem": _words(_problem(row.problem, row.shape)),
        "dtype": _words(row.dtype),
        "pass": _words(row.which),
        "framework": _words(framework(row)),
        "who": _words(who(row)),
        "time": _number(row.median if row.timed else None, amounts.duration, row.verdict),
        "spread": _number(row.spread if row.timed else None, "{:.1%}".format),
        # One column of two units: a place has one, and who sorts by it filters first.
        "speed": _number(speed, lambda value: f"{amounts.digits(value)} {own}"),
        "of limit": _number(row.share if row.timed else None, amounts.share),
        "error": _number(row.error, amounts.error),
        "speed-up": _speedup(row),
        "note": _words(row.note),
    }
    return Line(row.kind, row.verdict, tuple(cells[name] for name in COLUMNS))


def _number(value: float | None, shown: Callable[[float], str], otherwise: str = "") -> Cell:
    return Cell(otherwise) if value is None else Cell(shown(value), value)


def _speedup(row: Row) -> Cell:
    if row.kind == "own" and row.timed and row.speedup == 1:
        return Cell("1", 1.0)
    return _number(row.speedup if row.timed else None, amounts.ratio)


def _missing(members: Sequence[Row]) -> Line:
    """What is not installed is said once for an operation, not for each of its problems."""
    if len(members) == 1:
        return _line(members[0], "calls/s")
    names = ", ".join(dict.fromkeys(row.name for row in members))
    shown = {
        "problem": EVERYWHERE,
        "framework": framework(members[0]),
        "who": names,
        "time": "missing",
        "note": members[0].note,
    }
    # A word in a column of numbers is no number to sort by.
    cells = (Cell(shown.get(name, ""), None if name == "time" else shown.get(name)) for name in COLUMNS)
    return Line(members[0].kind, "missing", tuple(cells))


def _order(row: Row) -> tuple[bool, bool, float]:
    return row.kind != "limit", not row.timed, row.median or 0.0


def _words(words: str) -> Cell:
    return Cell(words, words or None)


def framework(row: Row) -> str:
    return row.framework if row.device == "cpu" else f"{row.framework}, {row.device}"


def _problem(problem: str, shape: tuple[int, ...]) -> str:
    return f"{problem} ({' x '.join(map(str, shape))})" if shape else problem
