"""What a measurement found: figures with their targets, every sample, and the machine it was, as JSON and as a table."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqpar.dispatch.profile import host_profile, usable_cores
from seqpar_bench.measure import Samples
from seqpar_bench.tables import plain

SCHEMA = 1
TOOLS = ("seqpar", "numpy", "scipy", "numba", "llvmlite", "torch", "jax", "jaxlib")


@dataclass(frozen=True)
class Figure:
    """One number that was promised, next to what was measured."""

    number: str
    """Figures of one promise share a number: "1", "1", "2", ..."""
    text: str
    value: float
    target: float
    sense: Literal["at least", "at most"] = "at least"
    unit: str = "x"
    group: str = ""
    """Name of the group of samples the value was computed from, if it is a time or a ratio of times."""

    @property
    def reached(self) -> bool:
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target


@dataclass
class Record:
    """One run of a benchmark."""

    benchmark: str
    load: float = field(
        default_factory=lambda: round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
    )
    """What else the machine was doing before the run: threads that wanted a core. Above 0.5, do not trust the times."""
    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What was found that is neither a figure nor a time: rows of a table, by its name."""
    problems: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def add(
        self, figures: Iterable[Figure], samples: Mapping[str, Mapping[str, Samples]] | None = None
    ) -> None:
        self.figures += figures
        for name, group in (samples or {}).items():
            self.samples[name] = dict(group)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "load_before": self.load,
            "versions": versions(),
            "figures": [{**asdict(figure), "reached": figure.reached} for figure in self.figures],
            "seconds": {
                group: {
                    name: {
                        "median": s.median,
                        "minimum": s.minimum,
                        "samples": [float(f"{x:.6g}") for x in s.seconds],
                    }
                    for name, s in cases.items()
                }
                for group, cases in self.samples.items()
            },
            # Infinity is not JSON: a number that is not finite is written as a word.
            **({"tables": _finite(self.tables)} if self.tables else {}),
            "problems": self.problems,
        }

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def table(self) -> str:
        return figure_table(self.figures)


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_finite(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def figure_table(figures: Iterable[Figure]) -> str:
    """Promised and measured, line by line."""
    rows = [
        (
            f.number,
            f.text,
            f"{f.value:.3g} {f.unit}",
            f"{f.sense} {f.target:g} {f.unit}",
            "yes" if f.reached else "NO",
        )
        for f in sorted(figures, key=lambda f: f.number)
    ]
    return plain(("no.", "figure", "measured", "target", "reached"), rows)


def machine() -> dict[str, Any]:
    """The kind of machine, nothing that names the one at hand."""
    profile = host_profile()
    return {
        "cpu": profile.name,
        **dict(profile.facts),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions(tools: Iterable[str] = TOOLS) -> dict[str, str]:
    """Of those distributions that are installed."""
    found = {}
    for tool in tools:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def profile_name() -> str:
    """Name of this machine's folder under benchmarks/results: CPU model and usable cores."""
    words = re.sub(r"\((r|tm)\)|processor|cpu|@.*", "", host_profile().name.lower())
    return "-".join([*re.findall(r"[a-z0-9]+", words), str(usable_cores()), "cores"])
