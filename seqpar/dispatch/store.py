"""Reading of tuned results. Writing is the tuner's; here are json and a directory listing, nothing more.

One directory per hardware profile under the user's cache, one file per operation and tuning run
(`<operation>.<run>.jsonl`), one line per measured candidate, failures included. Shipped tables have the same form and
lie beside this module. Files are read once per process and operation; a corrupt line is a miss with a warning.
"""

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.dispatch.profile import host_profile

SCHEMA = 1

Source = Literal["tuned", "shipped", "nearest"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One adopted result: sizes, what else the problem was, and the kernel with its config."""

    sizes: tuple[int, int, int]
    facts: tuple[Any, ...]
    backend: str
    method: str
    config: dict[str, Any]
    provenance: Source

    def config_for(self, kernel: Kernel) -> Any:
        """The row's config for a kernel; None if it is another kernel's, or names a knob this version does not have."""
        if (kernel.backend, kernel.method) != (self.backend, self.method):
            return None
        known = {field.name for field in fields(kernel.config)}
        return kernel.config(**self.config) if set(self.config) <= known else None

    def at(self, provenance: Source) -> "Row":
        return Row(**{**{f.name: getattr(self, f.name) for f in fields(self)}, "provenance": provenance})


def user_directory() -> Path:
    """Where tuned results of this user live: $SEQPAR_CACHE, else the platform's cache directory."""
    if chosen := os.environ.get("SEQPAR_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "seqpar" / "v1"


def facts_of(problem: Problem) -> tuple[Any, ...]:
    """What must be equal for a result to carry over: everything but the sizes."""
    return (problem.framework, problem.device, problem.dtypes, problem.layout, problem.options)


def sizes_of(problem: Problem) -> tuple[int, int, int]:
    return (problem.outer, problem.time, problem.inner)


def lookup(problem: Problem) -> Iterator[Row]:
    """Results that may serve a problem, best first: the user's exact, shipped exact, the nearest that bracket it."""
    rows = _rows(problem.operation, problem.device)
    if not rows:
        return
    facts, sizes = facts_of(problem), sizes_of(problem)
    alike = [row for row in rows if row.facts == facts]
    for source in ("tuned", "shipped"):
        yield from (row for row in alike if row.sizes == sizes and row.provenance == source)
    brackets = alike and all(
        min(row.sizes[i] for row in alike) <= sizes[i] <= max(row.sizes[i] for row in alike) for i in range(3)
    )
    if brackets:
        near = sorted(
            (row for row in alike if row.sizes != sizes), key=lambda row: _distance(row.sizes, sizes)
        )
        yield from (row.at("nearest") for row in near[:1])


def _distance(left: tuple[int, ...], right: tuple[int, ...]) -> float:
    return sum(abs(math.log2(max(m, 1) / max(n, 1))) for m, n in zip(left, right, strict=True))


@cache
def _rows(operation: str, device: str) -> tuple[Row, ...]:
    if device != "cpu":
        return ()
    digest = host_profile().digest
    found: list[Row] = []
    directories: tuple[tuple[Source, Path], ...] = (
        ("tuned", user_directory() / digest),
        ("shipped", Path(__file__).parent / "tables" / digest),
    )
    for source, directory in directories:
        for path in sorted(directory.glob(f"{operation}.*.jsonl")):
            found += _read(path, source)
    return tuple(found)


def _read(path: Path, source: Source) -> Iterator[Row]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        warnings.warn(
            f"seqpar: tuned results in {path.name} cannot be read: {error}", RuntimeWarning, stacklevel=2
        )
        return
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if record["schema"] != SCHEMA or record["verdict"] != "ok" or not record["adopted"]:
                continue
            problem = record["problem"]
            row = Row(
                sizes=(int(problem["outer"]), int(problem["time"]), int(problem["inner"])),
                facts=(
                    problem["framework"],
                    problem["device"],
                    tuple(problem["dtypes"]),
                    problem["layout"],
                    tuple(problem["options"]),
                ),
                backend=record["backend"],
                method=record["method"],
                config=dict(record["config"]),
                provenance=source,
            )
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"seqpar: line {number} of {path.name} is not a tuned result and is passed over: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        yield row


on_invalidate(_rows.cache_clear)
