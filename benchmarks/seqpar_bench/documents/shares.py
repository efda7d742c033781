"""The table of docs/gpu.md: what share of a GPU's copy bandwidth our kernels reach, and others, from the committed records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqpar_bench.documents.rounding import down, up
from seqpar_bench.tables import markdown

TOOLS = (
    "torch",
    "triton",
    "jax",
    "jax-triton",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "accelerated-scan",
    "fla-core",
)


def shares(root: Path) -> str:
    """One table for each GPU that was measured, in float32."""
    paths = sorted((root / "benchmarks" / "results").glob("*/gpu.json"))
    return "\n\n".join(
        _told(json.loads(path.read_text()), path.relative_to(root).as_posix()) for path in paths
    )


def _told(record: dict[str, Any], where: str) -> str:
    rows = [row for row in record["rows"] if row["dtype"] == "float32"]
    known = {(row["shape"], row["which"], _who(row)): row for row in rows}
    measured = [row for row in rows if row["share of copy"] is not None]
    places = dict.fromkeys((row["shape"], row["which"]) for row in rows)
    ours = dict.fromkeys(_who(row) for row in measured if row["numerics"] == "any")
    others = dict.fromkeys(_who(row) for row in measured if row["peer"])
    table = markdown(
        ("shape", "pass", *ours, *(f"`{name}`" for name in others)),
        [(*place, *(_share(known.get((*place, who))) for who in (*ours, *others))) for place in places],
    )
    tools = ", ".join(f"{name} {record['versions'][name]}" for name in TOOLS if name in record["versions"])
    return (
        f"{record['hardware']['name']}, {tools}, {record['date']}; "
        f"a copy moves {record['copy bytes per second'] / 1e9:,.0f} GB/s. Every sample: [{where}](../{where}).\n\n{table}"
    )


def _who(row: dict[str, Any]) -> str:
    """Column: the framework for our public call, which may take any way; else what was called."""
    return str(row["framework"] if row["numerics"] == "any" else row["method"])


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["share of copy"] is not None:
        return up(row["share of copy"]) if row["peer"] else down(row["share of copy"])
    note = str(row["note"])
    for beginning, word in (
        ("out of time", "not reached"),
        ("takes ", "not taken"),
        ("WrongAnswerError", "wrong"),
    ):
        if note.startswith(beginning):
            return word
    return "failed"
