"""The picture of an operation's sweeps: time over length on logarithmic axes, with the exponent of each contestant.

A grey line of slope 1 tells what is linear. Marks are hollow where lengths are too few for a fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from seqpar_bench.bench.report import amounts, scaling, tables
from seqpar_bench.bench.report.plot_style import COLOURS, GRID, MARKS, PAPER, plain
from seqpar_bench.bench.row import Row, Run

Figure = Any
Axes = Any
Key = tuple[str, str, str, str]
STROKES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
"""One for each framework: colours tell kinds."""


def draw_lengths(figure: Callable[..., Figure], run: Run, operation: str) -> Figure | None:
    """None if there is no sweep with two lengths."""
    panels: dict[Key, dict[tuple[str, str], list[Row]]] = {}
    for row in run.rows:
        if row.operation == operation and row.sweep and row.timed and row.kind != "limit":
            panel = panels.setdefault((row.sweep, row.which, row.dtype, row.device), {})
            panel.setdefault((row.framework, row.name), []).append(row)
    panels = {key: lines for key, lines in panels.items() if any(len(rows) > 1 for rows in lines.values())}
    if not panels:
        return None
    laws = {
        (law.sweep, law.which, law.dtype, law.device, law.framework, law.name): law
        for law in scaling.exponents(run, operation)
    }
    frameworks = list(dict.fromkeys(row.framework for row in run.rows))
    drawn: Figure = figure(figsize=(8.6, 4.3 * len(panels)), layout="constrained")
    drawn.get_layout_engine().set(w_pad=0.1, h_pad=0.09)
    for axes, (key, lines) in zip(
        drawn.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        found = {who: laws.get((*key, *who)) for who in lines}
        _panel(axes, lines, found, frameworks)
        axes.set_title(plain(_title(operation, key)))
    return drawn


def _title(operation: str, key: Key) -> str:
    sweep, which, dtype, device = key
    return f"{operation}, {sweep}, {dtype}, {which}" + ("" if device == "cpu" else f", {device}")


def _panel(
    axes: Axes,
    lines: dict[tuple[str, str], list[Row]],
    laws: dict[tuple[str, str], scaling.Exponent | None],
    frameworks: list[str],
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    last: list[tuple[float, int]] = []
    for who, rows in lines.items():
        rows = sorted(rows, key=lambda row: row.length)
        x, y = [row.length for row in rows], [row.median or 0.0 for row in rows]
        law, kind = laws[who], rows[0].kind
        label = plain(f"{tables.framework(rows[0])} \N{MIDDLE DOT} {who[1]}") + (
            f",  n^({law.text})" if law else ""
        )
        above = 3 if kind == "seqpar" else 2
        style = {"color": COLOURS[kind], "marker": MARKS[kind], "markersize": 4.5, "zorder": above}
        stroke = STROKES[frameworks.index(who[0]) % len(STROKES)]
        inside = COLOURS[kind] if law else PAPER
        axes.plot(x, y, label=label, linewidth=1.5, linestyle=stroke, markerfacecolor=inside, **style)
        last.append((y[-1], len(last)))
    every = [(row.length, row.median or 0.0) for row in itertools.chain(*lines.values())]
    first, longest = min(n for n, _ in every), max(n for n, _ in every)
    low, high = min(t for _, t in every), max(t for _, t in every)
    # Between the quickest and the slowest at the longest, where it meets nobody for long.
    middle = (min(last)[0] * max(last)[0]) ** 0.5
    axes.plot(
        [first, longest],
        [middle * first / longest, middle],
        color=GRID,
        linewidth=3,
        zorder=0,
        label="slope 1: linear",
    )
    axes.set(xscale="log", yscale="log", ylim=(low / 2, high * 2), xlabel="length n", ylabel="time of a call")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: amounts.tick(seconds)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major")
    shown, labels = axes.get_legend_handles_labels()
    order = [len(last), *(i for _, i in sorted(last, reverse=True))]
    order = [*order[1:], order[0]]
    axes.legend(
        [shown[i] for i in order],
        [labels[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        handlelength=3,
    )
