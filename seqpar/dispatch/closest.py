"""What is stored for a problem that nothing stored answers: the closest result, and how it differs, field by field."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import HardwareProfile
from seqpar.dispatch.row import Row, facts_of, sizes_of
from seqpar.dispatch.store import decided, distance, everywhere, profile_for

FACTS = ("framework", "device", "dtypes", "layout", "options")
SIZES = ("outer", "time", "inner")
FAR = {"framework": 64.0, "device": 256.0, "dtypes": 8.0, "layout": 8.0, "options": 4.0, "profile": 32.0}
"""How far a difference puts a result away, in doublings of a size: a word of the options less than another chip."""


@dataclass(frozen=True)
class Closest:
    """A stored result and how its problem differs from the one that was asked for."""

    row: Row
    differences: tuple[str, ...]

    def __str__(self) -> str:
        what = "keeps the default" if self.row.kept else self.row.label
        return f"{what} ({self.row.origin}), which differs in {', '.join(self.differences) or 'nothing'}"


def closest(problem: Problem) -> Closest | None:
    """The stored result whose problem is most like this one, wherever it was measured; None where nothing is stored."""
    here = profile_for(problem.framework, problem.device)
    best: tuple[float, Closest] | None = None
    for there, row in _all_rows(problem.operation):
        away, found = _compare(problem, here, there, row)
        if best is None or away < best[0]:
            best = (away, Closest(row, tuple(found)))
    return None if best is None else best[1]


def _compare(
    problem: Problem, here: HardwareProfile | None, there: HardwareProfile | None, row: Row
) -> tuple[float, list[str]]:
    away, found = distance(row.sizes, sizes_of(problem)), []
    for name, stored, asked in zip(FACTS, row.facts, facts_of(problem), strict=True):
        if stored != asked:
            words = set(stored) ^ set(asked) if name == "options" else ()
            away += FAR[name] * max(1, len(words))
            found.append(f"{name} {_text(stored)} (here {_text(asked)})")
    for name, size, own in zip(SIZES, row.sizes, sizes_of(problem), strict=True):
        if size != own:
            found.append(f"{name} {size} (here {own})")
    # Another framework or device has another profile anyhow; which one says nothing more.
    alike = row.facts[:2] == facts_of(problem)[:2]
    if alike and there is not None and here is not None and not here.kin(there):
        away += FAR["profile"]
        found += here.differences(there)
    return away, found


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return _text(", ".join(str(one) if one is not None else "-" for one in value)) if value else "none"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _all_rows(operation: str) -> Iterator[tuple[HardwareProfile | None, Row]]:
    for place in everywhere():
        yield from ((place.profile, row) for row in decided(place, operation))
