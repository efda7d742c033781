"""The picture of one operation: for every problem its contestants, the fastest first, and the limit of the hardware as a line.

Bars start at zero; where the fastest is more than fifty times the slowest, dots on a logarithmic axis take their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqpar_bench.bench.report import amounts, tables
from seqpar_bench.bench.report.plot_style import COLOURS, INK, MARKS, PAPER, WORDS, handles, plain
from seqpar_bench.bench.row import Place, Row, Run
from seqpar_bench.bench.stored import Between

Figure = Any
Axes = Any
Panel = tuple[Place, list[Row], tables.Unit]
WIDE = 50
"""The largest ratio that bars can show."""
SHOWN = Between(1e-40, 1e40)
"""Numbers that matplotlib's axes have room around for."""
WIDTH, BAR, HEAD = 8.6, 0.225, 0.78
"""Inches: of the picture, of each bar with its gap, and of what a panel has besides."""


def draw_speeds(figure: Callable[..., Figure], run: Run, operation: str) -> Figure | None:
    """None if nobody has a time. Of a sweep the longest is drawn, if there are no other problems."""
    panels = _panels(run, operation)
    if not panels:
        return None
    counts = [len(rows) for _, rows, _ in panels]
    height = sum(BAR * n + HEAD for n in counts) + 0.45
    drawn: Figure = figure(figsize=(WIDTH, height), layout="constrained")
    axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=[BAR * n + 0.1 for n in counts])[:, 0]
    shown = {row.kind for _, rows, _ in panels for row in rows}
    for (place, rows, unit), each in zip(panels, axes, strict=True):
        if _panel(each, rows, unit):
            shown.add("limit")
        each.set_title(plain(tables.where(place)))
    kinds = [kind for kind in WORDS if kind in shown]
    drawn.get_layout_engine().set(w_pad=0.1, h_pad=0.09)
    drawn.legend(
        handles=handles(kinds),
        loc="outside upper left",
        ncols=min(len(kinds), 5),
        columnspacing=1.4,
        handletextpad=0.3,
    )
    return drawn


def _panels(run: Run, operation: str) -> list[Panel]:
    alone: list[Panel] = []
    swept: list[Panel] = []
    for place, members in run.places():
        if place.operation != operation:
            continue
        unit = tables.unit(members)
        # Whose speed is not known in this unit, or beyond what an axis shows, has its line in the table.
        rows = [row for row in members if row.kind != "limit" and tables.per_second(row, unit) in SHOWN]
        if rows:
            rows.sort(key=lambda row: tables.per_second(row, unit) or 0.0)
            (swept if place.sweep else alone).append((place, rows, unit))
    return alone or sorted(swept, key=lambda panel: panel[1][0].length)[-1:]


def _panel(axes: Axes, rows: list[Row], unit: tables.Unit) -> bool:
    """Whether there is a limit to show."""
    values = [tables.per_second(row, unit) or 0.0 for row in rows]
    limit = _limit(rows, unit)
    places = range(len(rows))
    largest, smallest = max(*values, limit or 0.0), min(values)
    wide = largest > WIDE * smallest
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(smallest / 1.5, largest * (largest / smallest) ** 0.14)
        # No line from the left edge to a dot: on this axis its length would mean nothing.
        axes.grid(axis="y", linestyle=":")
        for place, row, value in zip(places, rows, values, strict=True):
            axes.plot([value], [place], MARKS[row.kind], color=COLOURS[row.kind], markersize=6.5)
        axes.grid(axis="x")
    else:
        axes.barh(places, values, color=[COLOURS[row.kind] for row in rows], height=0.74)
        axes.set_xlim(0, 1.14 * largest)
        axes.grid(axis="x")
    for place, value in zip(places, values, strict=True):
        offset = (6 if wide else 2, -0.5)
        look = {"textcoords": "offset points", "va": "center", "fontsize": 8}
        # The line of the limit goes on behind a number.
        paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        axes.annotate(amounts.digits(value), (value, place), xytext=offset, bbox=paper, **look)
    if limit is not None:
        axes.axvline(limit, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), zorder=0.5)
    axes.set_yticks(
        list(places), [plain(f"{tables.framework(row)} \N{MIDDLE DOT} {tables.who(row)}") for row in rows]
    )
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.kind == "seqpar" else "normal")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"{unit}{', logarithmic' if wide else ''}; more is faster", fontsize=8)
    return limit is not None


def _limit(rows: list[Row], unit: tables.Unit) -> float | None:
    for row in rows:
        amount = {"GB/s": row.nbytes, "GFLOP/s": row.flops}.get(unit)
        if row.limit and amount and (found := amount / row.limit / 1e9) in SHOWN:
            return found
    return None
