"""Draw training on made-up handwriting from a committed record: loss by epoch and by time, and what an epoch takes.

    python -m seqpar_bench.buckets_chart [benchmarks/results/<machine>/buckets.json] [--out .../buckets_strokes.png]

Needs matplotlib (the extra `report`). It draws what the file says and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from seqpar_bench.picture import metadata
from seqpar_bench.record import profile_name

Row = dict[str, Any]
TABLE = "pen strokes"
PLAIN = "#b0b7bf"
"""Colour of what has no buckets; those with buckets go from light to dark."""


def drawn(record: Row) -> Any:
    """What of the record the picture shows."""
    return [record["tables"][TABLE], record["machine"]["cpu"]]


def draw(record: Row, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    rows = record["tables"][TABLE]
    shades = plt.get_cmap("viridis")(np.linspace(0.92, 0.05, len(rows) - 1))
    colours = [PLAIN, *shades]
    figure, (by_epoch, by_time, bars) = plt.subplots(1, 3, figsize=(12, 3.9), dpi=130)
    for row, colour in zip(rows, colours, strict=True):
        losses = np.mean(row["losses"], 0)
        seconds = np.mean(np.cumsum(row["seconds"], 1), 0)
        style = {"color": colour, "marker": ".", "label": _label(row)}
        by_epoch.plot(np.arange(1, losses.size + 1), losses, **style)
        by_time.plot(seconds, losses, **style)
    for axes in (by_epoch, by_time):
        axes.axhline(rows[0]["goal"], color="black", linewidth=0.6, linestyle=":")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    by_epoch.set(xlabel="epochs", ylabel="validation loss (nats)")
    by_time.set(xlabel="seconds of training", xscale="log")
    for axis in (by_epoch.yaxis, by_time.yaxis, by_time.xaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    by_epoch.legend(fontsize=7, frameon=False)

    names, times = [_label(row) for row in rows][::-1], [row["seconds of an epoch"] for row in rows][::-1]
    filled = bars.barh(names, times, color=colours[::-1])
    padding = [f"{row['seconds of an epoch']:.2f} s, {row['padding']:.0%} padding" for row in rows][::-1]
    bars.bar_label(filled, padding, padding=3, fontsize=8)
    bars.set_xlabel("seconds of an epoch (median)")
    bars.spines[["top", "right"]].set_visible(False)
    bars.margins(x=0.55)
    bars.tick_params(labelsize=8)
    seeds = len(rows[0]["losses"])
    figure.suptitle(
        f"torch.nn.LSTM reads made-up handwriting, batches of one size; mean of {seeds} seed{'s' * (seeds > 1)}; "
        f"{record['machine']['cpu'].strip()}, one thread",
        fontsize=10,
    )
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata=metadata(drawn(record)))
    plt.close(figure)


def _label(row: Row) -> str:
    return str(row["batches"]).replace(", each", ",\neach")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m seqpar_bench.buckets_chart", description=__doc__.splitlines()[0]
    )
    default = Path("benchmarks/results") / profile_name() / "buckets.json"
    parser.add_argument("record", type=Path, nargs="?", default=default)
    parser.add_argument(
        "--out", type=Path, help="the picture (default: buckets_strokes.png beside the record)"
    )
    args = parser.parse_args(argv)
    out = args.out or args.record.with_name("buckets_strokes.png")
    draw(json.loads(args.record.read_text()), out)
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
