"""Tables of the documents from the records under benchmarks/results of a checkout, as Markdown.

`docs/write.py` calls each with the root of the repository.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqpar_bench import autotune_tables, buckets_tables
from seqpar_bench.tables import markdown


def figures(root: Path) -> str:
    """Promised and measured, one table per machine and operation."""
    return "\n\n".join(_record(root, path) for path in records(root))


def records(root: Path) -> list[Path]:
    """The records whose figures the documents show."""
    # In the order in which operations came to be; within a machine's folder all of them.
    order = [
        "linear_recurrence",
        "matrix_recurrence",
        "associative_scan",
        "solve_recurrence",
        "cells",
        "qr",
        "buckets",
        "autotune",
    ]
    paths = (root / "benchmarks" / "results").glob("*/*.json")
    return sorted(
        (path for path in paths if path.stem in order),
        key=lambda path: (path.parent.name, order.index(path.stem)),
    )


def _record(root: Path, path: Path) -> str:
    record = json.loads(path.read_text())
    machine, where = record["machine"], path.relative_to(root).as_posix()
    tools = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    rows = []
    for figure in sorted(record["figures"], key=lambda figure: figure["number"]):
        value, target = (_number(figure[key], figure["unit"]) for key in ("value", "target"))
        reached = "yes" if figure["reached"] else "**no**"
        rows.append((figure["number"], figure["text"], value, f"{figure['sense']} {target}", reached))
    load = f", load before the run {record['load_before']}" if "load_before" in record else ""
    problems = "".join(f"\n- {problem}" for problem in record["problems"])
    return (
        f"### `{record['benchmark']}`\n\n"
        f"{machine['cpu'].strip()}, {machine['cores']} cores, Python {machine['python']}, {tools}, {record['date']}{load}. "
        f"Every sample: [{where}](../{where}).\n\n"
        + markdown(("no.", "figure", "measured", "target", "reached"), rows)
        + (f"\n\nNot measured, or measured with a warning:\n{problems}" if problems else "")
    )


def others(root: Path) -> str:
    """What was measured beside the promised figures: times, and speeds against the first of each group."""
    rows = []
    for path in records(root):
        record = json.loads(path.read_text())
        for group, cases in record["seconds"].items():
            if not group.startswith("extra "):
                continue
            yardstick = next(iter(cases))
            for name, samples in cases.items():
                speed = cases[yardstick]["median"] / samples["median"]
                case = f"{record['benchmark']}: {group.removeprefix('extra ')}"
                rows.append((case, name, f"{samples['median'] * 1e3:.3g} ms", f"{speed:.2f}"))
    return markdown(("case", "what", "time (median)", "speed, first of the case = 1"), rows)


def evidence(root: Path) -> str:
    """What every method makes of recurrences that forget less and less."""
    header = (
        "framework",
        "recurrence",
        "T",
        "asked for",
        "took",
        "sweeps",
        "residual",
        "estimate",
        "error",
        "",
    )
    rows = [
        (
            row["framework"],
            row["case"],
            f"{row['steps']:,}",
            row["asked"],
            row["method"] if row["method"] != row["asked"].split(",")[0] else "",
            str(row["sweeps"]),
            *(_short(row[key]) for key in ("residual", "estimate", "error")),
            _verdict(row),
        )
        for row in _rows(root, "evidence")
    ]
    return markdown(header, rows)


def _verdict(row: dict[str, Any]) -> str:
    if not row["converged"]:
        return "not converged, says so"
    return "" if float(row["error"]) <= float(row["allowed"]) else "**wrong**"


def peers(root: Path) -> str:
    """Newton's method as published, and `jax.lax.scan`, beside the automatic choice."""
    header = ("recurrence", "what", "time (median)", "iterations", "error", "")
    rows = [
        (
            row["case"],
            row["who"],
            f"{row['seconds'] * 1e3:.3g} ms",
            "" if row["iterations"] is None else str(row["iterations"]),
            _short(row["error"]),
            "" if row["claims"] else "failed: stopped at its limit",
        )
        for row in _rows(root, "peers")
    ]
    return markdown(header, rows)


def cells(root: Path) -> str:
    """What everybody takes for a recurrent network, case by case; how many times as fast ours is, and our walk step by step."""
    rows = []
    for path in records(root):
        if path.stem != "cells":
            continue
        for title, ways in json.loads(path.read_text())["seconds"].items():
            if "seqpar" not in ways or title.startswith("more "):
                continue
            ours = ways["seqpar"]["median"]
            for who, samples in ways.items():
                speed = "" if who == "seqpar" else f"{samples['median'] / ours:.3g} x"
                rows.append((title.partition(" ")[2], who, f"{samples['median'] * 1e3:.3g} ms", speed))
    return markdown(("network", "who", "time (median)", "ours is faster by"), rows)


def sizes(root: Path) -> str:
    """GRU and LSTM against torch.nn at many sizes."""
    header = (
        "cell",
        "n",
        "batch",
        "T",
        "what",
        "time (median)",
        "over torch.nn",
        "over our walk step by step",
    )
    rows = [
        (
            row["cell"],
            str(row["units"]),
            str(row["batch"]),
            f"{row['steps']:,}",
            row["what"],
            f"{row['seconds'] * 1e3:.3g} ms",
            f"{row['over torch.nn']:.3g} x",
            f"{row['over sequential']:.2f} x",
        )
        for row in _rows(root, "cells")
    ]
    return markdown(header, rows)


def buckets(root: Path) -> str:
    """Padding of the best boundaries and of others."""
    return markdown(*buckets_tables.padding(_rows(root, "padding")))


def savings(root: Path) -> str:
    """Buckets for the least time against buckets for the least padding."""
    return markdown(*buckets_tables.savings(_rows(root, "time against padding")))


def strokes(root: Path) -> str:
    """Training on made-up handwriting, and its pictures."""
    pictures = [
        f"![Loss by epoch and by time, and what an epoch takes](../{path.relative_to(root).as_posix()})"
        for path in sorted((root / "benchmarks" / "results").glob("*/buckets_strokes.png"))
    ]
    return "\n\n".join([markdown(*buckets_tables.strokes(_rows(root, "pen strokes"))), *pictures])


def ranks(root: Path) -> str:
    """Eight ranks that wait for each other."""
    return markdown(*buckets_tables.ranks(_rows(root, "eight ranks")))


def choices(root: Path) -> str:
    """What tuning chose, call by call."""
    return markdown(*autotune_tables.choices(_rows(root, "autotune")))


def wrong(root: Path) -> str:
    """Where defaults were wrong."""
    return markdown(*autotune_tables.wrong(_rows(root, "autotune"), _rows(root, "autotune methods")))


def methods(root: Path) -> str:
    """Which method solves recurrences with a user's step."""
    return markdown(*autotune_tables.methods(_rows(root, "autotune methods")))


def counts(root: Path) -> str:
    """Numbers of buckets by measured steps."""
    return markdown(*autotune_tables.counts(_rows(root, "autotune buckets")))


def _rows(root: Path, table: str) -> Iterator[dict[str, Any]]:
    for path in records(root):
        yield from json.loads(path.read_text()).get("tables", {}).get(table, [])


def _short(value: float | str) -> str:
    # Records hold numbers that are not finite as words.
    return f"{float(value):.1e}" if float(value) else "0"


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip()
