"""What `seqpar bench` found, as data: a `Row` for each contestant of each problem and the `Run` they belong to, with their JSON.

The only module that knows the file's schema. Whoever shows, draws or compares results reads rows. The types of the fields, with
their ranges, are what `read` accepts.
"""

from __future__ import annotations

import json
import math
import reprlib
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from seqpar.errors import OptionError
from seqpar_bench.bench.stored import Between, Damage, fitted

SCHEMA = 1

Kind = Literal["seqpar", "kernel", "own", "peer", "limit"]
"""The public call as everybody makes it; one backend and method of ours by name; what the framework itself offers, which
speed-ups are over; anybody else; and what physics allows, measured."""

Verdict = Literal[
    "ok",
    "wrong",
    "crash",
    "timeout",
    "memory",
    "compile",
    "invalid",
    "unstable",
    "missing",
    "left out",
]
"""The words of `seqpar_autotune.verdict`, and two more: not installed, and given up for want of time."""

Which = Literal["forward", "gradient"]
"""A gradient is a forward pass and the gradients of all floating inputs, as a step of training has them."""

PLAUSIBLE = Between(1e-30, 1e9)
"""Seconds of a call. Others are damage in a file, and no time in a row: who divides by times or draws them meets none."""
Seconds = Annotated[float, PLAUSIBLE]
Positive = Annotated[float, Between(0)]
Measure = Annotated[float, Between(0, closed=True)]
Count = Annotated[int, Between(0, 2**63, closed=True)]


class Place(NamedTuple):
    """Contestants that share one are compared with each other."""

    operation: str
    problem: str
    which: str
    dtype: str
    shape: tuple[int, ...]
    device: str
    sweep: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant on one problem: its times, or why there are none."""

    operation: str
    problem: str
    """What tells it from others of the operation: "features last", "GRU, 32 units"."""
    shape: tuple[Count, ...]
    dtype: str
    which: Which
    framework: str
    """By its import name: "numpy", "torch", "jax", "cupy"."""
    device: str
    """"cpu" or "cuda"."""
    name: str
    """Of the contestant: "seqpar", "host.sequential", "jax.lax.scan"."""
    kind: Kind
    verdict: Verdict = "ok"
    note: str = ""
    """Why there are no times: an error, or the line that installs what is missing."""
    ran: str = ""
    """What the public call chose: "host.sequential"."""
    seconds: tuple[Seconds, ...] = ()
    """Of one call, one number per round."""
    spread: Measure | None = None
    """Half of the range in which the middle half of the times lies, relative to the median."""
    speedup: Positive | None = None
    """The time of the framework's fastest own way over this one, from shared rounds; None without such a way."""
    error: Measure | None = None
    """The largest difference to the answer in float64, relative to the largest number of that answer."""
    nbytes: Count | None = None
    """That no implementation can avoid to read and write."""
    flops: Count | None = None
    """That the definition takes."""
    limit: Measure | None = None
    """Seconds that these bytes take to copy, or these operations in a product of matrices, whichever is more: measured in the
    same rounds on the same device."""
    sweep: str = ""
    """Name of the sweep over lengths that it is part of; "" where it stands alone."""
    length: Count = 0
    """Steps, rows or distinct lengths: what a sweep is over."""

    @property
    def place(self) -> Place:
        return Place(
            self.operation, self.problem, self.which, self.dtype, self.shape, self.device, self.sweep
        )

    @property
    def key(self) -> tuple[Any, ...]:
        """The same contestant on the same problem in another run has the same."""
        return (*self.place, self.framework, self.name)

    @property
    def timed(self) -> bool:
        return self.verdict == "ok" and bool(self.seconds) and all(x in PLAUSIBLE for x in self.seconds)

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second."""
        return self.nbytes / self.median if self.nbytes and self.median else None

    @property
    def rate(self) -> float | None:
        """Floating-point operations per second."""
        return self.flops / self.median if self.flops and self.median else None

    @property
    def share(self) -> float | None:
        """Of what the limit allows: 1 is as fast as copying. More is possible where caches hold what a copy has to move."""
        return self.limit / self.median if self.limit and self.median else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not known is left out."""
        given = asdict(self)
        given["shape"] = list(self.shape)
        given["seconds"] = [float(f"{x:.6g}") for x in self.seconds if math.isfinite(x)]
        for name in ("spread", "speedup", "error", "limit"):
            value = given[name]
            # Infinity is not JSON.
            given[name] = float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
        return {name: value for name, value in given.items() if value not in (None, "", [])}


@dataclass(kw_only=True)
class Run:
    """Everything that one `seqpar bench` found, and where."""

    date: str
    command: str = "seqpar bench"
    """As it was typed, without paths."""
    machine: dict[str, Any] = field(default_factory=dict)
    """The kind of machine, nothing that names the one at hand: "cpu", "cores", "system", "python", ..."""
    devices: list[dict[str, Any]] = field(default_factory=list)
    """Hardware profiles: "device", "name", "facts", "tools"."""
    versions: dict[str, str] = field(default_factory=dict)
    load_before: Measure = 0.0
    """What else the machine was doing: threads that wanted a core. Above 0.5, do not trust the times."""
    elapsed: Measure = 0.0
    interrupted: bool = False
    limits: dict[str, dict[str, Positive]] = field(default_factory=dict)
    """For each device, what was measured of it: "copy" in bytes per second, "float32" and so on in operations per second."""
    rows: list[Row] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What went wrong: contestants of ours that were wrong or failed, problems that could not be measured at all."""
    left_out: list[str] = field(default_factory=list)
    """Problems that time or memory did not suffice for, and which of the two."""

    @property
    def title(self) -> str:
        """The hardware in words."""
        gpus = [str(d.get("name", "")) for d in self.devices if d.get("device") != "cpu"]
        cores = self.machine.get("cores")
        host = str(self.machine.get("cpu", "")).strip() + (f", {cores} cores" if cores else "")
        return ", ".join([*gpus, host]) if self.uses_gpu else host

    @property
    def uses_gpu(self) -> bool:
        return any(row.device != "cpu" for row in self.rows)

    def places(self) -> Iterator[tuple[Place, list[Row]]]:
        """Rows that are compared with each other, in the order of the run."""
        found: dict[Place, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.place, []).append(row)
        yield from found.items()

    def operations(self) -> list[str]:
        return list(dict.fromkeys(row.operation for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        given["limits"] = {
            device: {name: rate for name, rate in found.items() if math.isfinite(rate)}
            for device, found in self.limits.items()
        }
        return {"schema": SCHEMA, "benchmark": "bench", **given, "rows": [row.to_dict() for row in self.rows]}

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Run:
    """A run from its file; an `OptionError` says what is wrong with it otherwise."""
    way_out = "Give a bench.json of `seqpar bench --out`."
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"bench: {path} cannot be read ({error}). {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"bench: {path} is not JSON ({error}). {way_out}") from error
    if not isinstance(stored, dict) or stored.get("benchmark") != "bench":
        raise OptionError(f"bench: {path} holds no run of `seqpar bench`. {way_out}")
    schema = stored.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise OptionError(
            f"bench: {path} has schema {reprlib.repr(schema)}, and this seqpar reads {SCHEMA}. Measure again, or read it with "
            "the version that wrote it."
        )
    try:
        run: Run = fitted(Run, stored)
        for key, count in Counter(row.key for row in run.rows).items():
            if count > 1:
                raise Damage(f"{count} rows are of {reprlib.repr(key)}, and there has to be one")
    except Damage as error:
        raise OptionError(f"bench: {path} is damaged: {error}. Measure again.") from error
    return run


def timed(rows: Iterable[Row]) -> list[Row]:
    """Those with times."""
    return [row for row in rows if row.timed]
