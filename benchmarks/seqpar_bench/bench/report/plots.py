"""The pictures of a report: contestants against each other, time against length, and the roofline; as PNG files and for the page.

Needs matplotlib (the extra `report`), and no display. The same rows give the same bytes, and a PNG names the rows it was drawn
from: its key "seqpar-record" is the `fingerprint` of what bench.json holds. `seqpar_bench.bench.report.folder` calls `draw`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from seqpar.errors import MissingExtraError
from seqpar_bench.bench.report.plot_lengths import draw_lengths
from seqpar_bench.bench.report.plot_roofline import draw_roofline
from seqpar_bench.bench.report.plot_speeds import draw_speeds
from seqpar_bench.bench.report.plot_style import GRID, INK, PAPER, STYLE
from seqpar_bench.bench.row import Run

Figure = Any
RECORD = "seqpar-record"


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
        found = []
        for operation in run.operations():
            for kind, title, painter in (
                ("speed", "speed of each contestant", draw_speeds),
                ("lengths", "time against length", draw_lengths),
            ):
                if (drawn := painter(figure, run, operation)) is not None:
                    found.append(
                        _picture(drawn, f"{operation}_{kind}", operation, f"{operation}: {title}", record)
                    )
        if (drawn := draw_roofline(figure, run)) is not None:
            found.append(
                _picture(drawn, "roofline", "", "Operations per second over operations per byte", record)
            )
        return found


def fingerprint(run: Run) -> str:
    """SHA-256 of the rows as compact JSON with sorted keys: of `json.load(...)["rows"]`, to compare with."""
    rows = run.to_dict()["rows"]
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{re.escape(name)}-", svg)
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
