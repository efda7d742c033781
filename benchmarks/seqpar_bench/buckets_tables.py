"""The tables of a record of `plan_buckets` as rows of text, for docs/measured.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""
RIVALS = ("equal_duration", "quantile", "uniform", "powers_of_two")


def padding(rows: Iterable[Row]) -> Table:
    """Padding of the optimum and of other choices of boundaries."""
    header = ("lengths", "buckets", "optimum", "equal duration", "quantile", "uniform", "powers of two")
    return header, [
        (
            row["workload"],
            str(row["buckets"]),
            f"{row['optimum']:.2f} %",
            *(f"{row[name]:.2f} %" for name in RIVALS[:-1]),
            f"{row['powers_of_two']:.2f} % ({row['shapes of powers_of_two']} buckets)",
        )
        for row in rows
    ]


def savings(rows: Iterable[Row]) -> Table:
    """Boundaries for the least time and for the least padding, predicted and measured."""
    found = ("an epoch, predicted", "measured", "saving, predicted", "measured")
    header = ("layer", "lengths", "sequences", "least", "boundaries", "padding", *found)
    return header, [
        (
            row["who"],
            row["workload"],
            f"{row['sequences']:,}",
            row["least"],
            ", ".join(map(str, row["boundaries"])),
            f"{100 * row['padding']:.1f} %",
            f"{row['predicted seconds']:.4g} s",
            f"{row['measured seconds']:.4g} s",
            *_saved(row),
        )
        for row in rows
    ]


def _saved(row: Row) -> tuple[str, str]:
    if row["least"] == "padding":
        return "", ""
    # Without a minus before a zero.
    predicted, measured = (round(100 * row[f"saving {how}"], 1) + 0.0 for how in ("predicted", "measured"))
    return f"{predicted:.1f} %", f"{measured:.1f} %"


def strokes(rows: Iterable[Row]) -> Table:
    """Training without buckets and with few to many."""
    learnt = ("epochs to the goal", "seconds to the goal", "validation loss", "read right")
    header = ("batches", "padding", "steps of an epoch", "an epoch", *learnt)
    return header, [
        (
            row["batches"],
            f"{100 * row['padding']:.1f} %",
            f"{row['steps of an epoch']:.0f}",
            f"{row['seconds of an epoch']:.3g} s",
            "not by all" if row["epochs to goal"] is None else f"{row['epochs to goal']:.1f}",
            "" if row["seconds to goal"] is None else f"{row['seconds to goal']:.3g} s",
            _with_range([losses[-1] for losses in row["losses"]]),
            f"{100 * row['last right']:.1f} %",
        )
        for row in rows
    ]


def _with_range(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def ranks(rows: Iterable[Row]) -> Table:
    """Ranks with one order and with orders of their own."""
    header = (
        "lengths",
        "time of a step of",
        "batches",
        "steps",
        "time, mean over longest",
        "real steps, mean over most",
    )
    return header, [
        (
            row["workload"],
            row["who"],
            row["way"],
            f"{row['steps']:,}",
            f"{row['efficiency']:.3f}",
            f"{row['real steps, mean over most']:.3f}",
        )
        for row in rows
    ]
