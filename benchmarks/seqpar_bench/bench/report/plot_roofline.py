"""The picture of all operations together: how many operations a second each call reaches, over how many it has for each byte.

The roof is what was measured of the hardware in the same run: copying bytes on the left, products of matrices on the right. A
call above it found its arrays in caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqpar_bench.bench.report.plot_style import COLOURS, INK, PAPER, WORDS
from seqpar_bench.bench.row import Kind, Row, Run

Figure = Any
Axes = Any
SHOWN: tuple[Kind, ...] = ("own", "seqpar")
MARKS = "oDs^vPX*"
"""One for each operation: names beside crowded points would cover each other."""


def draw_roofline(figure: Callable[..., Figure], run: Run) -> Figure | None:
    """None if no public call has both operations and bytes."""
    devices: dict[str, list[Row]] = {}
    for row in run.rows:
        if row.kind in SHOWN and row.timed and row.rate and row.nbytes:
            devices.setdefault(row.device, []).append(row)
    if not devices:
        return None
    named = dict.fromkeys(row.operation for rows in devices.values() for row in rows)
    marks = {operation: MARKS[i % len(MARKS)] for i, operation in enumerate(named)}
    drawn: Figure = figure(figsize=(8.6, 4.6 * len(devices)), layout="constrained")
    drawn.get_layout_engine().set(w_pad=0.1, h_pad=0.09)
    panels = drawn.subplots(len(devices), 1, squeeze=False)[:, 0]
    for axes, (device, rows) in zip(panels, devices.items(), strict=True):
        axes.set_title(f"Operations per second and per byte, {device}")
        _panel(axes, _largest(rows), run.limits.get(device, {}), marks)
    drawn.legend(handles=_handles(marks), loc="outside center right", handletextpad=0.3)
    return drawn


def _largest(rows: list[Row]) -> list[Row]:
    """Of a sweep the longest only: below, overheads are what one would see."""
    longest: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.operation, row.sweep)
        longest[key] = max(longest.get(key, 0), row.length)
    return [row for row in rows if not row.sweep or row.length == longest[row.operation, row.sweep]]


def _panel(axes: Axes, rows: list[Row], limits: dict[str, float], marks: dict[str, str]) -> None:
    points = [((row.flops or 0) / (row.nbytes or 1), row.rate or 0.0) for row in rows]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    copy = limits.get("copy")
    products = sorted(((rate, name) for name, rate in limits.items() if name != "copy"), reverse=True)
    tops = [rate for rate, _ in products] or ys
    right = max(*xs, 2 * tops[0] / copy if copy else 0.0)
    axes.set(
        xscale="log", yscale="log", xlim=(min(xs) / 8, right * 3), ylim=(min(ys) / 3, max(*tops, *ys) * 3)
    )
    axes.set(xlabel="operations per byte that has to move", ylabel="operations per second")
    _roof(axes, copy, products)
    look = {"linestyle": "", "markersize": 7.5, "markeredgecolor": PAPER, "zorder": 3}
    for (x, y), row in sorted(zip(points, rows, strict=True), key=lambda pair: SHOWN.index(pair[1].kind)):
        axes.plot([x], [y], marker=marks[row.operation], color=COLOURS[row.kind], **look)
    axes.grid(True, which="major")
    axes.yaxis.set_major_formatter(lambda value, _: _rate(value))
    axes.xaxis.set_major_formatter("{x:g}")


def _roof(axes: Axes, copy: float | None, products: list[tuple[float, str]]) -> None:
    left, right = axes.get_xlim()
    if copy:
        end = products[0][0] / copy if products else right
        axes.plot([left, end], [left * copy, end * copy], color=INK, linewidth=1.4)
        # Below the left end of the line, where there are no points.
        below = {"xytext": (9, -2), "textcoords": "offset points", "va": "top", "fontsize": 8}
        axes.annotate(f"copy: {copy / 1e9:,.3g} GB/s", (left, left * copy), **below)
    for rate, name in products:
        start = rate / copy if copy else left
        axes.plot([start, right], [rate, rate], color=INK, linewidth=1.4 if rate == products[0][0] else 0.8)
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(f"{name} product", (right, rate), **beside)


def _handles(marks: dict[str, str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        *(Patch(color=COLOURS[kind], label=WORDS[kind]) for kind in reversed(SHOWN)),
        *(
            Line2D([], [], color=INK, marker=mark, linestyle="", markersize=6, label=operation)
            for operation, mark in marks.items()
        ),
    ]


def _rate(value: float) -> str:
    for factor, unit in ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"), (1e3, "kFLOP/s")):
        if value >= 0.9995 * factor:
            return f"{value / factor:,.3g} {unit}"
    return f"{value:.3g} FLOP/s"
