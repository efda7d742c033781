"""The tables of a record of autotune as rows of text, for docs/measured.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seqpar_autotune.report import WRONG, duration

Row = dict[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""
SAME = "the same"


def choices(rows: Iterable[Row]) -> Table:
    """Calls of presets, what was chosen in place of the default, and the gain when both were measured again."""
    header = ("call", "run", "default", "chosen", "default takes", "gain", "noise", "gain again", "noise")
    return header, [
        (
            row["call"],
            row["run"],
            row["default"] or "",
            *_choice(row),
            duration(row["default seconds"]),
            *_gain(row),
        )
        for row in rows
        if row["default"] is not None
    ]


def wrong(rows: Iterable[Row], methods: Iterable[Row]) -> Table:
    """Those whose default was wrong by more than `WRONG`, the worst first."""
    found = [
        (row["gain again"], row.get("call") or row["problem"], row["default"], row["chosen"])
        for row in (*rows, *methods)
        if row["gain again"] is not None and row["gain again"] > WRONG
    ]
    found.sort(key=lambda one: -one[0])
    return ("call", "default", "chosen", "default takes"), [
        (call, default, chosen, f"{gain:.2f} times as long") for gain, call, default, chosen in found
    ]


def methods(rows: Iterable[Row]) -> Table:
    """Problems of `solve_recurrence`."""
    header = (
        "problem",
        "chosen",
        "default takes",
        "gain",
        "noise",
        "gain again",
        "noise",
        "best of all",
        "gain",
    )
    return header, [
        (
            row["problem"],
            *_choice(row),
            duration(row["default seconds"]),
            *_gain(row),
            SAME if row["best of all"] == row["default"] else row["best of all"],
            "" if row["gain of all"] is None else f"{row['gain of all']:.2f} x",
        )
        for row in rows
    ]


def counts(rows: Iterable[Row]) -> Table:
    """An epoch with every number of buckets that was tried."""
    header = ("buckets", "an epoch", "gain", "", "gain again", "noise")
    return header, [
        (
            str(row["buckets"]),
            duration(row["seconds"]),
            f"{row['gain']:.3f} x",
            ", ".join(
                word for word, true in (("tuned", row["chosen"]), ("without tuning", row["default"])) if true
            ),
            "" if row["gain again"] is None else f"{row['gain again']:.3f} x",
            _per_cent(row["noise again"]),
        )
        for row in rows
    ]


def _choice(row: Row) -> tuple[str]:
    return (SAME if not row["adopted"] else row["chosen"],)


def _gain(row: Row) -> tuple[str, str, str, str]:
    """As the tuner found it, and as it was measured again."""
    if not row["adopted"]:
        return "", "", "", ""
    again = "not measured" if row["gain again"] is None else f"{row['gain again']:.2f} x"
    gain = "default fails" if row["gain"] is None else f"{row['gain']:.2f} x"
    return gain, _per_cent(row["noise"]), again, _per_cent(row["noise again"])


def _per_cent(part: float | None) -> str:
    # Records hold numbers that are not finite as words.
    return "" if part is None else f"{100 * float(part):.1f} %"
