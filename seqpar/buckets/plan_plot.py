"""A `BucketPlan` as a picture: where its boundaries lie among the lengths, and what other numbers of buckets would have cost.

Needs matplotlib (the extra `report`), and no display: it makes a figure and asks for no window.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.errors import MissingExtraError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

Array = Any
REAL, EDGE = "#1f6f8b", "#d98f3c"
MARKS = {
    "optimum": "*",
    "uniform": "s",
    "quantile": "D",
    "equal_duration": "^",
    "powers_of_two": "v",
    "equal_mass": "^",
}
WIDE = 8
"""Lengths of which the longest has so many times the steps of the shortest are drawn on a logarithmic axis."""
MOST_LABELS = 16


def plot(plan: "BucketPlan", path: str | Path | None = None) -> Any:
    """The figure; written to `path` as well, in the format of its ending, if there is one."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "BucketPlan.plot: matplotlib is not installed. Run `pip install 'seqpar[report]'` (or `pip install matplotlib`)."
        ) from error
    curve = len(plan.curve) > 1
    figure = Figure(figsize=(10.5 if curve else 6.5, 3.9), dpi=130, layout="constrained")
    axes = figure.subplots(1, 2 if curve else 1, squeeze=False, width_ratios=[3, 2] if curve else None)[0]
    (_pairs if isinstance(plan.boundaries[0], tuple) else _buckets)(plan, axes[0])
    if curve:
        _curve(plan, axes[1])
    if path is not None:
        figure.savefig(path)
    return figure


def _buckets(plan: "BucketPlan", axes: Any) -> None:
    """The histogram of lengths with the boundaries, and behind it each bucket the darker the more of it is padding."""
    bounds = np.asarray(plan.boundaries, float)
    ends, counts = np.asarray(plan.histogram, float).reshape(-1, 2).T
    wide = bounds[-1] / max(1.0, ends[0] if ends.size else bounds[0]) > WIDE
    shortest = max(1.0, 0.95 * min(bounds[0] - 0.5, ends[0])) if wide and ends.size else 0.0
    left = np.concatenate([[shortest], bounds[:-1]])
    if ends.size:
        starts = np.concatenate([[min(shortest, ends[0])], ends[:-1]])
        widths = np.log(ends / np.maximum(starts, 0.5)) if wide else ends - starts
        axes.stairs(counts / np.where(widths > 0, widths, 1.0), [starts[0], *ends], fill=True, color=REAL)
    top = axes.get_ylim()[1] * 1.12
    padded = bounds * np.asarray(plan.counts)
    share = 1 - np.asarray(plan.tokens) / np.where(padded > 0, padded, 1)
    for start, end, part, used in zip(left, bounds, share, padded, strict=True):
        axes.axvspan(start, end, color=EDGE, alpha=0.75 * part if used else 0.0, linewidth=0, zorder=0)
        axes.axvline(end, color=EDGE, linewidth=1)
        middle = np.sqrt(max(start, 0.5) * end) if wide else (start + end) / 2
        if plan.n_buckets <= MOST_LABELS and used:
            axes.text(middle, 0.985 * top, f"{part:.0%}", ha="center", va="top", fontsize=7)
    if wide:
        axes.set_xscale("log")
    axes.minorticks_off()
    shown = _apart(
        bounds, np.log(np.maximum(bounds, 1)) if wide else bounds, np.log(max(shortest, 1)) if wide else 0
    )
    axes.set_xticks(shown, [f"{int(b)}" for b in shown], rotation=60, fontsize=7)
    axes.set_xlim(shortest, bounds[-1] * (1.02 if wide else 1.01))
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.set_xlabel("length" + (", logarithmic" if wide else "") + "; boundaries; share of padding")
    axes.set_ylabel("sequences")
    axes.set_title(
        f"{plan.samples:,} sequences, {plan.n_buckets} buckets, {plan.padding:.2%} padding", fontsize=9
    )
    axes.spines[["top", "right", "left"]].set_visible(False)


def _pairs(plan: "BucketPlan", axes: Any) -> None:
    """Where the pairs of each bucket are, the darker the more of it is padding, with its share of the samples."""
    boundaries: Any = plan.boundaries
    drawn = list(zip(boundaries, plan.counts, plan.tokens, strict=True))
    # A pair goes to the first bucket that holds it: of each rectangle is seen what no earlier one covers.
    for (first, second), n, tokens in reversed(drawn):
        part = 1 - tokens / (n * (first + second)) if n else 0.0
        axes.bar(0, second, first, align="edge", color="white")
        axes.bar(0, second, first, align="edge", color=EDGE, alpha=0.1 + 0.8 * part, edgecolor=REAL)
    lows: dict[int, int] = {}
    firsts = sorted({first for first, _ in boundaries})
    starts = dict(zip(firsts, [0, *firsts], strict=False))
    for (first, second), n, _ in drawn:
        # Above the last one of the same input, and right of all with less: there it is seen.
        left, low = starts[first], lows.get(first, 0)
        if plan.n_buckets <= MOST_LABELS:
            axes.text(
                (left + first) / 2,
                (low + second) / 2,
                f"{n / plan.samples:.0%}",
                ha="center",
                va="center",
                fontsize=7,
            )
        lows[first] = second
    axes.set_xlim(0, boundaries[-1][0] * 1.01)
    axes.set_ylim(0, max(second for _, second in boundaries) * 1.01)
    axes.set_xlabel("input length")
    axes.set_ylabel("output length; share of the samples")
    axes.set_title(
        f"{plan.samples:,} sequences, {plan.n_buckets} buckets, {plan.padding:.2%} padding", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)


def _apart(bounds: Array, places: Array, first: float) -> list[float]:
    """Those that can have a label each: the last, and going down those far enough from the one before."""
    shown, last = [bounds[-1]], places[-1]
    for bound, place in zip(bounds[-2::-1], places[-2::-1], strict=True):
        if last - place >= 0.028 * (places[-1] - first):
            shown.append(bound)
            last = place
    return shown


def _curve(plan: "BucketPlan", axes: Any) -> None:
    """What every number of buckets costs at least, the one that was taken, and the rivals."""
    numbers, best = np.arange(1, len(plan.curve) + 1), min(plan.objective, *plan.curve) or 1.0
    axes.plot(
        numbers,
        np.asarray(plan.curve) / best,
        color=REAL,
        linewidth=1.6,
        label="the least found" if isinstance(plan.boundaries[0], tuple) else "the optimum",
    )
    axes.plot(
        [plan.n_buckets], [plan.objective / best], "o", color=REAL, markersize=8, label="this plan", zorder=2
    )
    for name, rival in plan.rivals.items():
        axes.plot(
            [len(rival.boundaries)],
            [rival.cost / best],
            MARKS.get(name, "x"),
            color=EDGE,
            markersize=5,
            zorder=3,
            label=name.replace("_", " "),
        )
    around = [plan.objective, *(rival.cost for rival in plan.rivals.values())]
    # One bucket may cost fifty times as much, and would leave all others at the bottom.
    axes.set_ylim(0.97, 1.15 * max(around) / best)
    axes.set_xlim(0, min(len(plan.curve), max(3 * plan.n_buckets, 12)) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("number of buckets")
    axes.set_ylabel("cost, least of all = 1")
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
