"""Changes of a store: results of another taken in, results given out, what is superseded taken away.

`seqpar cache merge | export | prune` calls these functions. Lines of later versions are carried along as they are.
"""

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.store import Environment, Line
from seqpar.errors import OptionError

from .cache_contents import (
    Place,
    environments_of,
    latest_decisions,
    latest_records,
    operations_in,
    readable,
)
from .locking import take
from .store import run_name, write_lines, write_profile


@dataclass(frozen=True)
class Moved:
    """Lines that came into a directory for one operation."""

    environment: str
    operation: str
    path: str
    lines: int
    there: int
    """Lines that were there already."""


@dataclass(frozen=True)
class Pruned:
    """What is taken away of one operation in one environment."""

    environment: str
    operation: str
    superseded: int
    damaged: int
    old: int
    files: int
    """Files whose remaining lines end in one."""
    held: int
    """Files left alone, since a process has them in hand, or they cannot be written to."""

    @property
    def lines(self) -> int:
        return self.superseded + self.damaged + self.old


def merge(sources: Sequence[Place], directory: Path | str | None = None) -> list[Moved]:
    """Take the results of other stores into the user's, or into `directory`. Twice is as once."""
    target = store.user_directory() if directory is None else Path(directory).expanduser()
    found = []
    for source in sources:
        environments = environments_of(source)
        if not any(operations_in(one) for one in environments):
            raise OptionError(
                f"cache merge: {str(source)!r} holds no results. Give the directory of a store, or of one environment in it."
            )
        for environment in environments:
            if environment.profile is None:
                raise OptionError(
                    f"cache merge: {environment.path} has no readable {store.PROFILE}, so that it cannot be told which "
                    "hardware its results are of. Copy it from where they were measured."
                )
            found += [_taken(environment, name, target) for name in operations_in(environment)]
    invalidate()
    return found


def export(
    to: Path | str,
    place: Place = None,
    *,
    operations: Sequence[str] | None = None,
    every: bool = False,
) -> list[Moved]:
    """Write the decisions and the failures into a directory, one file per operation, for others to merge or to ship.

    `every`: candidates that lost as well. What is there already stays, unless it is superseded.
    """
    found = []
    for environment in environments_of(place):
        if environment.profile is None:
            continue
        target = Path(to).expanduser() / environment.profile.digest
        for name in operations_in(environment):
            if operations is not None and name not in operations:
                continue
            path = target / f"{name}.exported.jsonl"
            before = _good(store.lines(path) if path.exists() else ())
            lines = _good(environment.all_of(name, store.lines)) + before
            kept = [line.text for line in _worth_keeping(lines, every)]
            if not kept:
                continue
            target.mkdir(parents=True, exist_ok=True)
            write_profile(target, environment.profile)
            write_lines(path, kept)
            there = len({line.text for line in before} & set(kept))
            found.append(Moved(target.name, name, str(path), len(set(kept)) - there, there))
    if not found:
        raise OptionError(
            f"cache export: there is nothing to export{'' if place is None else f' in {str(place)!r}'}. "
            "`seqpar cache ls` prints what is stored."
        )
    invalidate()
    return found


def prune(place: Place = None, *, older_than: float | None = None, yes: bool = False) -> list[Pruned]:
    """Put the results of each operation into one file, without lines that others supersede, damaged ones, and old ones.

    `older_than`: days. Without `yes` nothing is changed: the answer says what would be. Files that a process is writing to stay.
    """
    if place == "shipped":
        raise OptionError("cache prune: shipped tables are part of the installation. Name one of your own.")
    if older_than is not None and not older_than >= 0:
        raise OptionError(f"cache prune: older_than={older_than!r} is not a number of days, 0 or more.")
    oldest = "" if older_than is None else _days_ago(older_than)
    found = [
        _pruned(environment, name, oldest, yes)
        for environment in environments_of(place)
        for name in operations_in(environment)
    ]
    if yes:
        invalidate()
    return [one for one in found if one.lines or one.files or one.held]


def remove(environment: str, *, yes: bool = False) -> list[Path]:
    """Delete all results of an environment, named by the beginning of its name; without `yes` only say which files."""
    if Path(environment).is_dir() or environment == "shipped":
        raise OptionError(
            f"cache prune: --remove={environment!r} is not the name of an environment. `seqpar cache ls` prints them."
        )
    found = [path for one in environments_of(environment) for path in sorted(one.path.iterdir())]
    if yes:
        for one in environments_of(environment):
            shutil.rmtree(one.path)
        invalidate()
    return found


def _taken(environment: Environment, operation: str, target: Path) -> Moved:
    assert environment.profile is not None
    directory = target / environment.profile.digest
    own = Environment("tuned", directory, environment.profile)
    there = {line.text for line in own.all_of(operation, store.lines)}
    given = dict.fromkeys(line.text for line in _good(environment.all_of(operation, store.lines)))
    new = [text for text in given if text not in there]
    mark = hashlib.sha256("\n".join(new).encode()).hexdigest()[:12]
    path = directory / f"{operation}.merged-{mark}.jsonl"
    if new:
        directory.mkdir(parents=True, exist_ok=True)
        write_profile(directory, environment.profile)
        write_lines(path, new)
    return Moved(directory.name, operation, str(path), len(new), len(given) - len(new))


def _good(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.newer or (not line.damage and readable(line.record))]


def _worth_keeping(lines: Sequence[Line], every: bool = True) -> list[Line]:
    """Lines that no other supersedes, each once, in the order of their problems and times."""
    once = {line.text: line for line in lines}.values()
    good = [line.record for line in once if not line.newer]
    kept = {id(record) for record in latest_records(good)}
    if not every:
        decided = {id(record) for record in latest_decisions(good).values()}
        kept = {id(r) for r in good if id(r) in kept and (id(r) in decided or r.get("verdict") != "ok")}
    found = [line for line in once if line.newer or id(line.record) in kept]
    return sorted(found, key=_order)


def _order(line: Line) -> tuple[Any, ...]:
    record = line.record
    return line.newer, json.dumps(record.get("problem"), sort_keys=True), str(record.get("when", ""))


def _pruned(environment: Environment, operation: str, oldest: str, yes: bool) -> Pruned:
    open_files: list[int] = []
    free: list[Path] = []
    held: list[Path] = []
    try:
        for path in environment.files(operation):
            try:
                open_files.append(os.open(path, os.O_RDWR))
            except FileNotFoundError:  # another `prune` was first
                continue
            except OSError:
                held.append(path)
                continue
            if not take(open_files[-1]):
                held.append(path)
            elif os.fstat(open_files[-1]).st_nlink:
                free.append(path)
        # Raises where one cannot be read, rather than to take it away unread.
        everything = [line for path in free for line in store.lines_of(path, path.read_bytes())]
        good = _good(everything)
        young = [line for line in good if line.newer or str(line.record.get("when", "")) >= oldest]
        kept = _worth_keeping(young)
        told = Pruned(
            environment=environment.path.name,
            operation=operation,
            superseded=len(young) - len(kept),
            damaged=len(everything) - len(good),
            old=len(good) - len(young),
            files=len(free) if len(free) > 1 else 0,
            held=len(held),
        )
        if yes and (told.lines or told.files):
            if kept:
                # Whole before the others go: a process that reads in between sees lines twice, and never too few.
                path = environment.path / f"{operation}.{run_name()}-pruned.jsonl"
                write_lines(path, [line.text for line in kept])
                free = [one for one in free if one != path]
            _close(open_files) if os.name == "nt" else None
            for path in free:
                path.unlink()
        return told
    finally:
        _close(open_files)


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())


def _days_ago(days: float) -> str:
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    return then.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
