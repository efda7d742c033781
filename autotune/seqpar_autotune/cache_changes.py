"""Changes of a store: results of another taken in, results given out, what is superseded taken away.

`seqpar cache merge | export | prune` calls these functions. Lines of later versions are carried along as they are.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.store import Environment, Line
from seqpar.errors import OptionError

from .cache_contents import (
    Place,
    decides,
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

    `every`: candidates that lost as well. What is there already stays, those that lost too, unless it is superseded.
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
            there_before = {line.text for line in before}
            kept = [line.text for line in _worth_keeping(lines, every, there_before)]
            if not kept:
                continue
            target.mkdir(parents=True, exist_ok=True)
            write_profile(target, environment.profile)
            write_lines(path, kept)
            there = len(there_before & set(kept))
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
    """Delete all of an environment in the user's store, named by the beginning of its name; without `yes` only say what would go.

    Nothing goes while a process writes results there.
    """
    if not environment or environment == "shipped" or os.path.isdir(os.path.expanduser(environment)):
        raise OptionError(
            f"cache prune: --remove={environment!r} is not the name of an environment. `seqpar cache ls` prints them."
        )
    # Not `environments_of`, which takes directories as well: what is below one of those is no business of the store's.
    own = [one for one in store.environments("tuned", store.user_directory()) if _is_one(one)]
    named = [one for one in own if one.path.name.startswith(environment)]
    if len(named) != 1:
        names = ", ".join(one.path.name for one in own) or "none"
        what = "is the beginning of several" if named else "is the beginning of no"
        raise OptionError(
            f"cache prune: --remove={environment!r} {what} environment's name. There are: {names}."
        )
    (one,) = named
    if one.path.is_symlink():
        raise OptionError(
            f"cache prune: {one.path} is a link, and what it leads to may be another's. Delete that by hand."
        )
    found = sorted(one.path.rglob("*"))
    if yes:
        open_files = _all_taken(one)
        try:
            _close(open_files) if os.name == "nt" else None
            # What was listed and nothing else: a file that has come in since keeps its directory.
            for path in reversed(found):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            one.path.rmdir()
        finally:
            _close(open_files)
            invalidate()
    return found


def _is_one(environment: Environment) -> bool:
    return bool(environment.files()) or (environment.path / store.PROFILE).exists()


def _all_taken(environment: Environment) -> list[int]:
    """The files of an environment, open and locked, so that no recorder loses lines with them."""
    open_files: list[int] = []
    try:
        for path in environment.files():
            if not path.is_file():
                continue
            open_files.append(os.open(path, os.O_RDWR))
            if not take(open_files[-1]):
                raise OptionError(
                    f"cache prune: a process is writing results to {path}. Wait until it has ended, or end it."
                )
    except BaseException:
        _close(open_files)
        raise
    return open_files


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


def _worth_keeping(lines: Sequence[Line], every: bool = True, besides: Collection[str] = ()) -> list[Line]:
    """Lines that no other supersedes, each once, in the order of their problems and times.

    Without `every` decisions and failures alone, and `besides` those of candidates that lost with one of these texts.
    """
    once = {line.text: line for line in lines}.values()
    good = [line.record for line in once if not line.newer]
    kept = {id(record) for record in latest_records(good)}
    if not every:
        decided = {id(record) for record in latest_decisions(good).values()}
        stay = {id(line.record) for line in once if line.text in besides and not decides(line.record)}
        failed = {id(record) for record in good if record.get("verdict") != "ok"}
        kept &= decided | stay | failed
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
    """The time so many days ago, as lines have it; "", before which nothing was, where no calendar goes back so far."""
    try:
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    except OverflowError:
        return ""
    # Not strftime, which leaves the zeros of early years out, so that they come behind late ones.
    return then.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
