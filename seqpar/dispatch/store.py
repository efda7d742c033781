"""Reading of tuned results. Writing is the tuner's; here are json and a directory listing, nothing more.

One directory per hardware profile under the user's cache, with the profile in `profile.json`; in it one file per operation
and tuning run (`<operation>.<run>.jsonl`), one line per measured candidate, failures included. Shipped tables have the same
form and lie beside this module. Files are read once per process and operation; a corrupt line is a miss with a warning.
"""

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seqpar.dispatch.memos import age, invalidate, keep, on_invalidate
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import HardwareProfile
from seqpar.dispatch.row import SCHEMA, Facts, Row, Sizes, Source, facts_of, row_of, sizes_of
from seqpar.errors import OptionError

VARIABLE = "SEQPAR_CACHE_DIR"
PROFILE = "profile.json"
TABLES = Path(__file__).parent / "tables"

Read = TypeVar("Read")
Key = tuple[str, str]
Decisions = dict[Facts, tuple[Row, ...]]
_known: dict[tuple[str, str, str], Decisions] = {}
_read_files: dict[tuple[Path, Source], tuple[Row, ...]] = {}
_remembered: dict[Key, list[Mapping[str, Any]]] = {}
_told: set[object] = set()
"""What was warned of: once per process, however often a file is read anew."""


class Environment(NamedTuple):
    """A directory of results that were measured on one hardware profile."""

    source: Source
    path: Path
    profile: HardwareProfile | None
    """None where `profile.json` is missing or says nothing that can be read."""

    def files(self, operation: str = "*") -> list[Path]:
        return sorted(self.path.glob(f"{operation}.*.jsonl"))

    def all_of(self, operation: str, read: Callable[[Path], Iterable[Read]]) -> list[Read]:
        """What is read of every file; all anew where `prune` put files together between the listing and the reading."""
        for _ in range(9):
            try:
                return [one for path in self.files(operation) for one in read(path)]
            except FileNotFoundError:
                continue
        return []


class Line(NamedTuple):
    """A line of a file: what it holds, or why that cannot be used."""

    path: Path
    number: int
    text: str
    record: dict[str, Any]
    damage: str = ""
    newer: int = 0
    """The schema of a line that a later version wrote, 0 of any other."""

    @property
    def origin(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}, line {self.number}"


def user_directory() -> Path:
    """Where tuned results of this user live: $SEQPAR_CACHE_DIR, else the platform's cache directory."""
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser()
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OptionError(
            f"seqpar: there is no home directory to keep tuned results in ({error}). Set {VARIABLE} to a directory."
        ) from None
    return base / "seqpar" / "v1"


def lookup(problem: Problem, numerics: str = "any") -> Iterator[Row]:
    """Results that may serve a problem, best first: the user's exact, shipped exact, the nearest that bracket it.

    Where one says that the default was kept, it is the last: what is behind it lost, or was measured elsewhere.
    """
    alike = _decisions(problem.operation, problem.framework, problem.device).get(facts_of(problem))
    if not alike:
        return
    sizes = sizes_of(problem)
    wished = [row for row in alike if row.numerics == numerics]
    ordered = wished + [row for row in alike if row.numerics != numerics]
    for source in ("tuned", "shipped"):
        for row in ordered:
            if row.sizes != sizes or row.provenance != source:
                continue
            if not row.kept:
                yield row
            elif row.numerics in (numerics, "any"):
                yield row
                return
    candidates = wished or ordered
    extents = list(zip(*(row.sizes for row in candidates), strict=True))
    others = [row for row in candidates if row.sizes != sizes]
    if others and all(min(extent) <= n <= max(extent) for extent, n in zip(extents, sizes, strict=True)):
        nearest = min(others, key=lambda row: distance(row.sizes, sizes))
        if not nearest.kept:
            yield nearest.at("nearest")


def any_of(operation: str, framework: str, device: str) -> bool:
    """Is there any decision on an operation for arrays of a framework here? Asked before a problem is described."""
    return bool(_decisions(operation, framework, device))


def settled(problem: Problem, numerics: str = "any") -> bool:
    """Was this very problem decided by measurements, be it that the default stays?"""
    alike = _decisions(problem.operation, problem.framework, problem.device).get(facts_of(problem), ())
    sizes = sizes_of(problem)
    return any(row.sizes == sizes and row.numerics in (numerics, "any") for row in alike)


def distance(left: Sizes, right: Sizes) -> float:
    """Between two problems that differ in sizes only: the doublings from one to the other."""
    # Not of the quotient: a damaged line may hold a number that no float holds.
    return sum(abs(math.log2(max(m, 1)) - math.log2(max(n, 1))) for m, n in zip(left, right, strict=True))


def profile_for(framework: str, device: str) -> HardwareProfile | None:
    """The profile that results for arrays of a framework on a kind of device are filed under; None where there is none."""
    from seqpar.dispatch.frameworks import binding_at_hand

    binding = binding_at_hand(framework)
    if binding is not None:
        return binding.profile(device)
    if device != "cpu":
        return None
    from seqpar.dispatch.plain_bindings import ArrayAPIBinding

    return ArrayAPIBinding(framework).profile(device)


def remember(profile: HardwareProfile, operation: str, record: Mapping[str, Any]) -> None:
    """Let a result serve this process only: one that could not be written down."""
    _remembered.setdefault((profile.digest, operation), []).append(dict(record))
    invalidate()


def forget() -> None:
    """Drop what `remember` was given."""
    _remembered.clear()
    invalidate()


def environments(source: Source, directory: Path | None = None) -> list[Environment]:
    """Every directory of results of the user, of those that are shipped, or below a directory."""
    if directory is None:
        directory = TABLES if source == "shipped" else user_directory()
    try:
        paths = sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError:
        return []
    return [Environment(source, path, profile_in(path)) for path in paths]


def profile_in(path: Path) -> HardwareProfile | None:
    """The profile that a directory of results is of."""
    import json

    try:
        return HardwareProfile.from_dict(json.loads((path / PROFILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def everywhere() -> list[Environment]:
    """All environments that this user can read."""
    try:
        own = environments("tuned")
    except OptionError:
        own = []
    return own + environments("shipped")


def lines(path: Path) -> list[Line]:
    """Every line of a file that is not empty, damaged ones too; none, with a warning, of a file that cannot be read.

    Raises FileNotFoundError for a file that has gone, and only for that.
    """
    try:
        return lines_of(path, path.read_bytes())
    except OSError as error:
        if not os.path.lexists(path):
            raise FileNotFoundError(path) from error
        _warn(f"tuned results in {path.name} cannot be read: {error}", once=path)
        return []


def lines_of(path: Path, data: bytes) -> list[Line]:
    """The same of what was read already."""
    # Not splitlines(), which also splits at characters that JSON has inside of texts.
    texts = data.decode("utf-8", errors="replace").split("\n")
    return [_line(path, number, text) for number, text in enumerate(texts, start=1) if text.strip()]


def _line(path: Path, number: int, text: str) -> Line:
    import json  # not by `import seqpar`, whose time is counted

    try:
        record = json.loads(text)
        schema = record["schema"]
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise ValueError(f"schema={schema!r} is not a number")
        return Line(path, number, text, record, newer=schema if schema > SCHEMA else 0)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Line(path, number, text, {}, damage=repr(error))


def _decisions(operation: str, framework: str, device: str) -> Decisions:
    """Per kind of problem the decisions that hold here, the latest of each size only."""
    key = operation, framework, device
    known = _known.get(key)
    if known is None:
        since = age()
        known = _read_decisions(*key)
        keep(_known, key, known, since)
    return known


def _read_decisions(operation: str, framework: str, device: str) -> Decisions:
    places = [place for place in everywhere() if place.files(operation)]
    if not places and not any(name == operation for _, name in list(_remembered)):
        return {}  # without asking for the profile, which reads versions of installed packages
    profile = profile_for(framework, device)
    if profile is None:
        return {}
    found: dict[Facts, dict[tuple[Any, ...], Row]] = {}
    for row in _rows(operation, profile, places):
        if row.facts[:2] != (framework, device):
            continue
        sized = found.setdefault(row.facts, {})
        key = (row.sizes, row.provenance, row.numerics)
        before = sized.get(key)
        # Measured with exactly these tools before measured with ones alike, then the later one.
        if before is None or (not row.elsewhere, row.when) >= (not before.elsewhere, before.when):
            sized[key] = row
    return {facts: tuple(sized.values()) for facts, sized in found.items()}


def _rows(operation: str, profile: HardwareProfile, places: Iterable[Environment]) -> Iterator[Row]:
    for place in places:
        elsewhere: tuple[str, ...] = ()
        if place.path.name != profile.digest:
            if place.profile is None or not profile.kin(place.profile):
                continue
            elsewhere = tuple(profile.differences(place.profile))
        yield from (replace(row, elsewhere=elsewhere) for row in decided(place, operation))
    for record in _remembered.get((profile.digest, operation), ()):
        row = row_of(record, "tuned", "measured by this process, not written")
        if row is not None:
            yield row


def decided(place: Environment, operation: str) -> list[Row]:
    """The decisions in a directory."""
    return place.all_of(operation, partial(_decisions_in, source=place.source))


def _decisions_in(path: Path, source: Source) -> tuple[Row, ...]:
    """The decisions in a file. Lines that are none of the store's are passed over with a warning each, later ones with one."""
    known = _read_files.get((path, source))
    if known is None:
        since = age()
        found = (_decision(line, source) for line in lines(path))
        known = tuple([row for row in found if row is not None])
        keep(_read_files, (path, source), known, since)
    return known


def _decision(line: Line, source: Source) -> Row | None:
    damage = line.damage
    if line.newer:
        _warn(
            f"{line.path.name} was written by a later version of seqpar, in schema {line.newer}; this version reads schema "
            f"{SCHEMA} and passes over such lines. Upgrade seqpar, or tune again with this one.",
            once=line.newer,
        )
        return None
    if not damage:
        try:
            return row_of(line.record, source, line.origin)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            damage = repr(error)
    _warn(
        f"line {line.number} of {line.path.name} is not a tuned result and is passed over: {damage}",
        once=(line.path, line.number),
    )
    return None


def _warn(what: str, once: object) -> None:
    if once not in _told:
        _told.add(once)
        warnings.warn(f"seqpar: {what}", RuntimeWarning, stacklevel=4)


on_invalidate(_read_files.clear)
on_invalidate(_known.clear)
