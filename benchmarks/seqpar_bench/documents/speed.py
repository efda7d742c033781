"""The README's table of speed: how many times as fast as others, each number from a committed record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqpar_bench.documents.claims import claims
from seqpar_bench.documents.rounding import down
from seqpar_bench.tables import markdown

MACHINE = "amd-epyc-2-cores"
"""Folder of the records that the README shows."""


def speed(root: Path) -> str:
    """Claim by claim, with the record it was read from and the command that measures it again."""
    folder = Path("benchmarks", "results", MACHINE)
    records: dict[str, dict[str, Any]] = {}
    rows = []
    for claim in claims():
        place = (folder / f"{claim.record}.json").as_posix()
        if place not in records:
            records[place] = json.loads((root / place).read_text())
        rows.append(
            (
                f"`{claim.operation}`",
                claim.problem,
                claim.against,
                down(figure(records[place], claim.text)),
                f"[{claim.record}.json]({place})",
                f"`python -m seqpar_bench.figures {claim.record}`",
            )
        )
    return markdown(("operation", "problem", "against", "times as fast", "record", "command"), rows)


def figure(record: dict[str, Any], text: str) -> float:
    """The only one that has this text."""
    found = [float(each["value"]) for each in record["figures"] if each["text"] == text]
    if len(found) != 1:
        raise LookupError(
            f"{record['benchmark']}: {len(found)} figures have the text {text!r}, which the README shows: exactly one must. "
            "Measure all figures again, or mend seqpar_bench/documents/claims.py."
        )
    return found[0]
