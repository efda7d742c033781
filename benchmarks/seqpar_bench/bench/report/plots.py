"""The pictures of a report: contestants against each other, time against length, and the roofline; as PNG files and for the page.

Needs matplotlib (the extra `report`), and no display. The same rows give the same bytes, and a PNG names the rows it was drawn
from: its key "seqpar-record" is the `fingerprint` of what bench.json holds. `seqpar_bench.bench.report.folder` calls `draw`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from seqpar.errors import MissingExtraError
from seqpar_bench.bench.report.plot_lengths import draw_lengths
from seqpar_bench.bench.report.plot_roofline import draw_roofline
from seqpar_bench.bench.report.plot_speeds import draw_speeds
from seqpar_bench.bench.report.plot_style import COLOURS, GRID, INK, PAPER, STYLE
from seqpar_bench.bench.row import Row, Run
from seqpar_bench.bench.stored import Between

Figure = Any
RECORD = "seqpar-record"
WORDS = ("operation", "problem", "dtype", "framework", "device", "name", "ran", "sweep")
AMOUNTS, RATES = Between(0, 2**63, closed=True), Between(1e-30, 1e30)
"""Of bytes, operations and steps; and of what is measured of a device, a second."""


@dataclass(frozen=True)
class Picture:
    name: str
    """Of the file, without its ending."""
    operation: str
    """"" if it is of all."""
    title: str
    png: bytes
    svg: str
    """Takes its text's colour from the page, so that it reads on light and dark."""


def draw(run: Run) -> list[Picture]:
    """All pictures for which there are times; raises `MissingExtraError` without matplotlib."""
    with _matplotlib() as figure:
        record = fingerprint(run)
        shown = _drawable(run)
        found: list[Picture] = []
        for operation, file in _files(run.operations()).items():
            for kind, title, painter in (
                ("speed", "speed of each contestant", draw_speeds),
                ("lengths", "time against length", draw_lengths),
            ):
                if (drawn := painter(figure, shown, _letters(operation))) is not None:
                    found.append(
                        _picture(drawn, f"{file}_{kind}", operation, f"{operation}: {title}", record)
                    )
        if (drawn := draw_roofline(figure, shown)) is not None:
            found.append(
                _picture(drawn, "roofline", "", "Operations per second over operations per byte", record)
            )
        return found


def fingerprint(run: Run) -> str:
    """SHA-256 of the rows as compact JSON with sorted keys: of `json.load(...)["rows"]`, to compare with."""
    rows = run.to_dict()["rows"]
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _drawable(run: Run) -> Run:
    """The same without numbers that no axis shows and letters that no font has: a run may have been made by anybody."""
    rows = [
        _written(row)
        for row in run.rows
        if row.kind in COLOURS and all((n or 0) in AMOUNTS for n in (row.nbytes, row.flops, row.length))
    ]
    limits = {
        device: {_letters(name): rate for name, rate in found.items() if rate in RATES}
        for device, found in run.limits.items()
    }
    return replace(run, rows=rows, limits=limits)


def _written(row: Row) -> Row:
    words: dict[str, Any] = {name: _letters(getattr(row, name)) for name in WORDS}
    return replace(row, **words)


def _letters(words: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _files(operations: Sequence[str]) -> dict[str, str]:
    """A name for the files of each, which no file system takes for a path or for the name of another."""
    found: dict[str, str] = {}
    for operation in operations:
        plain = re.sub(r"[^\w-]+", "-", operation, flags=re.ASCII).strip("-")[:80] or "operation"
        taken = {name.lower() for name in found.values()}
        names = (f"{plain}{number}" for number in itertools.chain([""], itertools.count(2)))
        found[operation] = next(name for name in names if name.lower() not in taken)
    return found


@contextmanager
def _matplotlib() -> Iterator[Callable[..., Figure]]:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "bench: matplotlib is not installed, so there are no pictures. Run `pip install 'seqpar[report]'` (or `pip install "
            "matplotlib`) and write the report again."
        ) from error
    # Whatever this user has set for other pictures: the same rows give the same bytes.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update(STYLE)
        yield Figure


def _picture(figure: Figure, name: str, operation: str, title: str, record: str) -> Picture:
    import matplotlib

    png, svg = io.BytesIO(), io.BytesIO()
    # Without the software's version and the date.
    figure.savefig(png, format="png", facecolor=PAPER, metadata={"Software": None, RECORD: record})
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", transparent=True)
    return Picture(name, operation, title, png.getvalue(), _inline(svg.getvalue().decode(), name, title))


def _inline(svg: str, name: str, title: str) -> str:
    """For use within a page, next to others: names of its own, colours of the page, no size of its own."""
    # Without what comes before it and about it: dates, programs.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', lambda found: f"{found[1]}{name}-", svg)
    svg = (
        svg.replace(INK, "currentColor")
        .replace(GRID, "var(--grid, #d5dae0)")
        .replace(PAPER, "var(--card, #ffffff)")
    )
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[: svg.index(">")])
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    start = f'<svg role="img" aria-label="{_quoted(title)}" data-width="{width}" data-height="{height}"'
    return svg.replace("<svg", start, 1)


def _quoted(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
