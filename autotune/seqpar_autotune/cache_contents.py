"""What is in a store: environments, decisions, candidates, and what differs between two.

`seqpar cache ls | show | diff` prints what these functions return. A *place* is a directory of a store (of all
environments, or of one), "shipped" for the tables that come with seqpar, the beginning of an environment's name in the user's
store, or None for all of that.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from seqpar.dispatch import store
from seqpar.dispatch.gpu_profile import gpus
from seqpar.dispatch.profile import HardwareProfile, host_profile, minor, version
from seqpar.dispatch.row import problem_of, row_of
from seqpar.dispatch.store import Environment
from seqpar.errors import OptionError

Place: TypeAlias = str | Path | None
Standing: TypeAlias = Literal["here", "kin", "elsewhere", "unknown"]
Key: TypeAlias = tuple[str, str]

COMPARED = ("framework", "device", "dtypes", "layout", "options", "outer", "time", "inner")


@dataclass(frozen=True)
class Held:
    """The results for one operation in one environment."""

    environment: str
    source: str
    hardware: str
    standing: Standing
    """Measured here; where the same results can be used; elsewhere; or somewhere that nothing tells of."""
    operation: str
    files: int
    bytes: int
    candidates: int
    failed: int
    tuned: int
    """Problems for which another than the default was adopted."""
    kept: int
    damaged: int
    newer: int
    latest: str


@dataclass(frozen=True)
class Shown:
    """One line in words."""

    environment: str
    operation: str
    problem: str
    candidate: str
    verdict: str
    decision: Literal["adopted", "kept", ""]
    vs_default: float | None
    noise: float | None
    numerics: str
    when: str
    message: str


@dataclass(frozen=True)
class Different:
    """A problem for which two stores decide otherwise; "" where one says nothing."""

    operation: str
    problem: str
    left: str
    right: str


def ls(place: Place = None) -> list[Held]:
    """What there is per environment and operation."""
    found = []
    for environment in environments_of(place):
        for operation in operations_in(environment):
            paths = environment.files(operation)
            held = environment.all_of(operation, store.lines)
            damaged = [x for x in held if x.damage or not (x.newer or readable(x.record))]
            good = [x.record for x in held if not x.damage and not x.newer and readable(x.record)]
            decisions = latest_decisions(good)
            profile = environment.profile
            found.append(
                Held(
                    environment=environment.path.name,
                    source=environment.source,
                    hardware=profile.name if profile else "unknown",
                    standing=standing(profile),
                    operation=operation,
                    files=len(paths),
                    bytes=sum(path.stat().st_size for path in paths if path.is_file()),
                    candidates=len({candidate_key(record) for record in good}),
                    failed=len({candidate_key(r) for r in good if r.get("verdict") != "ok"}),
                    tuned=sum(1 for record in decisions.values() if record.get("adopted")),
                    kept=sum(1 for record in decisions.values() if not record.get("adopted")),
                    damaged=len(damaged),
                    newer=sum(1 for line in held if line.newer),
                    latest=max((str(record.get("when", "")) for record in good), default=""),
                )
            )
    return found


def show(place: Place = None, operation: str | None = None, every: bool = False) -> list[Shown]:
    """The decisions that hold, or every candidate."""
    found = []
    for environment in environments_of(place):
        for name in operations_in(environment):
            if operation is not None and name != operation:
                continue
            records = good_records(environment, name)
            chosen = latest_records(records) if every else latest_decisions(records).values()
            found += [_shown(environment, name, record) for record in chosen]
    if operation is not None and not found:
        there = sorted({name for one in environments_of(place) for name in operations_in(one)})
        raise OptionError(
            f"cache: nothing is stored for operation={operation!r}. There is: {', '.join(there) or 'nothing at all'}."
        )
    return found


def diff(left: Place, right: Place) -> list[Different]:
    """Problems that two places decide otherwise, or only one of them does. Environments are not told apart."""
    a, b = _by_problem(left), _by_problem(right)
    found = []
    for key in [*a, *(key for key in b if key not in a)]:
        one, other = (_choice(x[key]) if key in x else "" for x in (a, b))
        if one != other:
            found.append(Different(key[0], _problem_text(a.get(key) or b[key]), one, other))
    return found


def environments_of(place: Place = None) -> list[Environment]:
    """The environments of a place; one that is none is named."""
    if place == "shipped":
        return store.environments("shipped")
    own = store.user_directory()
    if place is None:
        return store.environments("tuned", own)
    path = Path(place).expanduser()
    if str(place) and path.is_dir():
        one = Environment("tuned", path, store.profile_in(path))
        return [one] if one.profile is not None or one.files() else store.environments("tuned", path)
    found = [one for one in store.environments("tuned", own) if one.path.name.startswith(str(place))]
    if len(found) != 1:
        names = ", ".join(one.path.name for one in store.environments("tuned", own)) or "none"
        what = "the beginning of several environments" if found else "no directory and no environment"
        raise OptionError(
            f"cache: {str(place)!r} is {what}. Give a directory, 'shipped', or one of those in {own}: {names}."
        )
    return found


def operations_in(environment: Environment) -> list[str]:
    return sorted({path.name.partition(".")[0] for path in environment.files()})


def good_records(environment: Environment, operation: str) -> list[dict[str, Any]]:
    """What can be read of an operation's results."""
    found = environment.all_of(operation, store.lines)
    return [line.record for line in found if not line.damage and not line.newer and readable(line.record)]


def readable(record: Mapping[str, Any]) -> bool:
    """Has a line what every line has, in a form that can be shown?"""
    return damage_in(record) is None


def damage_in(record: Mapping[str, Any]) -> Exception | None:
    """What keeps a line from being read. What was damaged, or written by another version, may hold anything."""
    try:
        _problem_text(record), candidate_key(record), str(record["verdict"])
        row_of({**record, "verdict": "ok", "adopted": True}, "tuned")
    except Exception as error:
        return error
    return None


def problem_key(record: Mapping[str, Any]) -> str:
    """What a decision is made for, as a text: all that look-ups compare, and among which candidates."""
    problem = record["problem"]
    return json.dumps([*(problem.get(name) for name in COMPARED), record.get("numerics", "any")])


def candidate_key(record: Mapping[str, Any]) -> str:
    words = [record.get("backend"), record.get("method"), record.get("config")]
    return problem_key(record) + json.dumps(words, sort_keys=True)


def decides(record: Mapping[str, Any]) -> bool:
    return record.get("verdict") == "ok" and bool(record.get("adopted") or record.get("kept"))


def latest_decisions(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per problem the decision that holds."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        key = problem_key(record)
        if decides(record) and str(record.get("when", "")) >= str(found.get(key, {}).get("when", "")):
            found[key] = record
    return found


def latest_records(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last line of every candidate, and the decisions that hold: what `prune` keeps."""
    everything = list(records)
    last: dict[str, dict[str, Any]] = {}
    for record in everything:
        key = candidate_key(record)
        if str(record.get("when", "")) >= str(last.get(key, {}).get("when", "")):
            last[key] = record
    kept = {id(one) for one in (*last.values(), *latest_decisions(everything).values())}
    return [record for record in everything if id(record) in kept]


def standing(profile: HardwareProfile | None) -> Standing:
    """Where a profile is from, as seen from this machine."""
    if profile is None:
        return "unknown"
    for own in (host_profile(), *gpus()):
        here = dataclasses.replace(own, tools=_installed(profile))
        if here == profile:
            return "here"
        if here.kin(profile):
            return "kin"
    return "elsewhere"


def _installed(profile: HardwareProfile) -> tuple[tuple[str, str], ...]:
    """The versions here of the tools of a profile; of those that are no packages its own."""
    found = []
    for tool, given in profile.tools:
        there = version(tool)
        found.append((tool, given if not there else minor(there) if given == minor(given) else there))
    return tuple(found)


def _shown(environment: Environment, operation: str, record: Mapping[str, Any]) -> Shown:
    return Shown(
        environment=environment.path.name,
        operation=operation,
        problem=_problem_text(record),
        candidate=_candidate_text(record),
        verdict=str(record["verdict"]),
        decision="" if not decides(record) else "adopted" if record.get("adopted") else "kept",
        vs_default=record.get("vs_default"),
        noise=record.get("noise"),
        numerics=str(record.get("numerics", "any")),
        when=str(record.get("when", "")),
        message=str(record.get("message", "")),
    )


def _by_problem(place: Place) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for environment in environments_of(place):
        for operation in operations_in(environment):
            for key, record in latest_decisions(good_records(environment, operation)).items():
                found[operation, key] = record
    return found


def _choice(record: Mapping[str, Any]) -> str:
    return _candidate_text(record) if record.get("adopted") else "the default"


def _candidate_text(record: Mapping[str, Any]) -> str:
    knobs = ", ".join(f"{name}={value!r}" for name, value in dict(record["config"]).items())
    return f"{record['backend']}.{record['method']}({knobs})"


def _problem_text(record: Mapping[str, Any]) -> str:
    return str(problem_of("", record["problem"])).strip()
