"""Figure 2 of autotune: which method solves recurrences with a user's step, on representative problems.

What `method="auto"` may follow is adopted and measured again; methods that are right to a tolerance are in the table beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from seqpar_bench.autotune import explained, geometric_mean, mean_gain, named, no_slower
from seqpar_bench.autotune_again import Again, measured_again
from seqpar_bench.autotune_runs import PATIENCE, environment, fresh_cache
from seqpar_bench.record import Figure, Record

SECONDS = 6.0
"""For one problem."""
LEAST = 12
"""Problems that have to be there."""


def methods(record: Record, rounds: int) -> None:
    """`tune_recurrence`'s presets."""
    with fresh_cache() as cache:
        report = tuned(cache)
        results = [one for one in report["results"] if one["outcome"] is not None]
        for one in report["results"]:
            if one not in results:
                record.problems.append(f"2: {one['name']}: {one['note']}")
        adopted = [one for one in results if one["adopted"]]
        said = explained(adopted, cache)
        again = measured_again(adopted, rounds)
    for name, found in again.items():
        if isinstance(found, str):
            record.problems.append(f"2: {name}: {found}")
    compared = {name: one for name, one in again.items() if isinstance(one, Again)}
    rows = [row_of(one, said.get(one["name"]), compared.get(one["name"])) for one in results]
    record.tables["autotune methods"] = rows
    groups = {f"2 {name}": {"tuned": one.tuned, "default": one.default} for name, one in compared.items()}
    record.add(figures(rows, list(compared.values())), groups)


def tuned(cache: Path) -> dict[str, Any]:
    """The presets in a new process: the report."""
    file = cache / "report.json"
    words = ["--preset", "quick", "--seconds", f"{SECONDS:g}", "--json", str(file)]
    run = subprocess.run(
        [sys.executable, "-m", "seqpar_autotune.solving_presets", *words],
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if run.returncode:
        raise RuntimeError(f"solving_presets ended with status {run.returncode}: {run.stderr[-500:]}")
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def figures(rows: list[dict[str, Any]], again: list[Again]) -> list[Figure]:
    what = "solve_recurrence with a user's step"
    _, followed, noise = mean_gain(rows)
    best = [row["gain of all"] for row in rows if row["gain of all"] is not None]
    said = sum(row["provenance"] == "tuned" for row in rows)
    adopted = sum(row["adopted"] for row in rows)
    return [
        Figure("2", f"{what}: problems measured", len(rows), LEAST, unit="problems"),
        Figure("2", f"{what}: tuned choices that a new process calls tuned", said, adopted, unit="choices"),
        Figure("2", f"{what}: geometric mean of gains over the default choice", followed, 1 - noise),
        Figure(
            "2", f"{what}: the same with methods that have to be asked for", geometric_mean(best), 1 - noise
        ),
        *no_slower("2", what, again),
    ]


def row_of(result: dict[str, Any], said: dict[str, str] | None, again: Again | None) -> dict[str, Any]:
    """A problem in the table."""
    others = result.get("others") if result.get("faster") else None
    gain = 1 / again.ratio if again is not None else None if result["adopted"] else 1.0
    final = None if others is None else others["final"]
    more = 1 / final["ratio"] if final is not None else 1.0
    winner = result["chosen"] if others is None else others["winner"]
    return {
        "problem": result["name"],
        "default": named(result["default"]),
        "chosen": named(result["chosen"]),
        "best of all": named(winner),
        "method": winner["branch"].partition(".")[2],
        "default seconds": result["default_seconds"],
        "gain": result["gain"],
        "noise": result["noise"],
        "adopted": result["adopted"],
        "gain again": gain,
        "noise again": None if again is None else again.noise,
        "gain of all": None if gain is None else gain * more,
        "provenance": None if said is None else said["provenance"],
    }
