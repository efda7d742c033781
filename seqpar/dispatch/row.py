"""One line of the tuned store, as it is read: what problem it answers, with which kernel, and on what grounds.

A line is a JSON object per measured candidate, failures included. Two kinds of lines decide something: those with
"adopted", the candidate that beat the default beyond the noise, and those with "kept", the default that nothing beat.
`seqpar_autotune.rows` writes them; `seqpar.dispatch.store` looks them up.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from seqpar.dispatch.problem import Kernel, Problem

SCHEMA = 1
"""Version of the form of a line. A reader passes over lines of a later one."""

Source = Literal["tuned", "shipped", "nearest"]
Facts = tuple[Any, ...]
Sizes = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A decision: sizes, what else the problem was, and the kernel with its config."""

    sizes: Sizes
    facts: Facts
    backend: str
    method: str
    config: dict[str, Any]
    provenance: Source
    kept: bool = False
    """The default was measured against others, and nothing beat it beyond the noise."""
    numerics: str = "any"
    when: str = ""
    ratio: float | None = None
    """Its time over that of the default."""
    noise: float | None = None
    origin: str = ""
    """File and line it was read from."""
    elsewhere: tuple[str, ...] = ()
    """What was otherwise where it was measured, in words: "driver 570 (here 580)"."""

    @property
    def label(self) -> str:
        knobs = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{self.backend}.{self.method}({knobs})"

    def config_for(self, kernel: Kernel) -> Any:
        """The row's config for a kernel; None if it is another kernel's, or names a knob this version does not have."""
        if (kernel.backend, kernel.method) != (self.backend, self.method):
            return None
        known = {field.name for field in fields(kernel.config)}
        return kernel.config(**self.config) if set(self.config) <= known else None

    def at(self, provenance: Source) -> "Row":
        return dataclasses.replace(self, provenance=provenance)


def facts_of(problem: Problem) -> Facts:
    """What must be equal for a result to carry over: everything but the sizes."""
    return (problem.framework, problem.device, problem.dtypes, problem.layout, problem.options)


def sizes_of(problem: Problem) -> Sizes:
    return (problem.outer, problem.time, problem.inner)


def described(problem: Problem) -> dict[str, Any]:
    """A problem as a line has it: plain data that `problem_of` reads back."""
    return {
        "framework": problem.framework,
        "device": problem.device,
        "dtypes": list(problem.dtypes),
        "layout": problem.layout,
        "options": list(problem.options),
        "outer": problem.outer,
        "time": problem.time,
        "inner": problem.inner,
        "shape": list(problem.shape),
        "axis": problem.axis,
        "addressable": problem.addressable,
        "traced": problem.traced,
    }


def problem_of(operation: str, described: Mapping[str, Any]) -> Problem:
    """The problem of a line; raises KeyError, TypeError, ValueError or ArithmeticError for what is none."""
    sizes = [int(described[name]) for name in ("outer", "time", "inner")]
    return Problem(
        operation=operation,
        framework=str(described["framework"]),
        device=str(described["device"]),
        shape=tuple(int(n) for n in described.get("shape", sizes)),
        axis=int(described.get("axis", 1)),
        dtypes=_words(described["dtypes"]),
        layout=described["layout"],
        options=_words(described["options"]),
        addressable=bool(described.get("addressable", True)),
        traced=bool(described.get("traced", False)),
    )


def row_of(record: Mapping[str, Any], source: Source, origin: str = "") -> Row | None:
    """The decision in a line, None where it holds a candidate that lost or failed.

    Raises KeyError, TypeError, ValueError or ArithmeticError for what is no line of the store.
    """
    kept = record.get("kept", False) is True
    if record["verdict"] != "ok" or not (record["adopted"] is True or kept):
        return None
    problem = record["problem"]
    return Row(
        sizes=(int(problem["outer"]), int(problem["time"]), int(problem["inner"])),
        facts=(
            str(problem["framework"]),
            str(problem["device"]),
            _words(problem["dtypes"]),
            str(problem["layout"]),
            _words(problem["options"]),
        ),
        backend=str(record["backend"]),
        method=str(record["method"]),
        config={str(k): hashable(v) for k, v in dict(record["config"]).items()},
        provenance=source,
        kept=kept,
        numerics=str(record.get("numerics", "any")),
        when=str(record.get("when", "")),
        ratio=_number(record.get("vs_default")),
        noise=_number(record.get("noise")),
        origin=origin,
    )


def _words(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | None) for one in value):
        raise ValueError(f"{value!r} is no list of words")
    return tuple(value)


def hashable(value: Any) -> Any:
    """The value of a knob, which JSON has as a list where it is a tuple."""
    if isinstance(value, dict):
        raise ValueError(f"{value!r} is no value of a knob")
    return tuple(hashable(one) for one in value) if isinstance(value, list) else value


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float | None):
        raise ValueError(f"{value!r} is no number")
    return None if value is None else float(value)
