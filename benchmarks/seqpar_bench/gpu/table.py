"""Rows of the benchmark as a table on a terminal, as numbers in a file, and as what was gained over others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seqpar_bench.measure import Samples
from seqpar_bench.tables import plain

HEADER = ("shape", "dtype", "pass", "framework", "method", "ms", "GB/s", "of copy", "goal", "reached")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one case and pass."""

    shape: str
    dtype: str
    which: str
    framework: str
    method: str = ""
    numerics: str | None = None
    """Of the public call."""
    peer: bool = False
    what: str = ""
    samples: Samples | None = None
    moved: int = 0
    copy: float = 0.0
    """Bytes per second of a copy on this device."""
    goal: float | None = None
    note: str = ""
    """Why there is no time."""

    @property
    def bandwidth(self) -> float | None:
        return self.moved / self.samples.median if self.samples and self.moved else None

    @property
    def share(self) -> float | None:
        return self.bandwidth / self.copy if self.bandwidth and self.copy else None

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.share is not None and self.share >= self.goal

    def cells(self) -> tuple[str, ...]:
        head = (self.shape, self.dtype, self.which, self.framework, self.method)
        if self.samples is None:
            return (*head, self.note, "", "", "", "")
        verdict = {True: "yes", False: "NO", None: ""}[self.reached]
        numbers = (
            f"{self.samples.median * 1e3:.4g}",
            _text(self.bandwidth, 1e9, ".0f"),
            _text(self.share, 1, ".2f"),
        )
        return (*head, *numbers, _text(self.goal, 1, ".2f"), verdict)

    def as_json(self) -> dict[str, Any]:
        facts = {name: x for name, x in asdict(self).items() if name not in ("samples", "copy")}
        seconds = self.samples and {
            "median": self.samples.median,
            "minimum": self.samples.minimum,
            "samples": [float(f"{x:.6g}") for x in self.samples.seconds],
        }
        return {**facts, "seconds": seconds, "share of copy": self.share, "reached": self.reached}


def _text(x: float | None, unit: float, form: str) -> str:
    return "" if x is None else f"{x / unit:{form}}"


def table(rows: Iterable[Row]) -> str:
    return plain(HEADER, [row.cells() for row in rows])


def gains(rows: Sequence[Row]) -> Iterator[str]:
    """Our public call under numerics "any" against every peer on the same problem in the same framework."""
    for ours in rows:
        if ours.numerics != "any" or ours.samples is None:
            continue
        where = ours.shape, ours.dtype, ours.which, ours.framework
        for other in rows:
            if (
                other.peer
                and other.samples
                and (other.shape, other.dtype, other.which, other.framework) == where
            ):
                ratio = other.samples.median / ours.samples.median
                yield f"{', '.join(where)}: {ratio:.2f} times as fast as {other.method}"
