"""`seqpar cache`: look at the tuned store, take results in from other machines, give them out, clear up.

Every subcommand prints what a function of `cache_contents`, `cache_checks` or `cache_changes` returns, as a table, or with
`--json` as it is.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqpar.dispatch import store
from seqpar.errors import OptionError

from .cache_changes import export as export
from .cache_changes import merge as merge
from .cache_changes import prune as prune
from .cache_changes import remove as remove
from .cache_checks import verify as verify
from .cache_contents import diff as diff
from .cache_contents import ls as ls
from .cache_contents import show as show

Table = list[tuple[str, ...]]


class Cache:
    """The command, as `seqpar.commands` wants it."""

    name = "cache"
    help = "look at tuned results, exchange them between machines, clear them up"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        declare(parser)

    def run(self, args: argparse.Namespace) -> int:
        return run(args)


command = Cache()


def add_to(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command among others; `args.run(args)` does it and returns the exit status."""
    parser = subparsers.add_parser(command.name, help=command.help, description=command.help)
    declare(parser)
    parser.set_defaults(run=run)


def declare(parser: argparse.ArgumentParser) -> None:
    """The subcommands and their arguments."""
    actions = parser.add_subparsers(
        dest="action", metavar="ls | show | diff | merge | export | verify | prune"
    )
    where = (
        "a directory, 'shipped', or the beginning of an environment's name; the user's store when left out"
    )

    def action(
        name: str, what: str, do: Callable[[argparse.Namespace], int], place: bool = True
    ) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=what, description=what)
        one.add_argument("--json", action="store_true", help="plain data instead of a table")
        if place:
            one.add_argument("place", nargs="?", default=None, help=where)
        one.set_defaults(do=do)
        return one

    action("ls", "what is stored, per environment and operation", _ls)
    one = action("show", "the decisions that hold", _show)
    one.add_argument("--op", help="of this operation only")
    one.add_argument("--all", action="store_true", help="every candidate, failures included")
    one = action("diff", "problems that two places decide otherwise", _diff, place=False)
    one.add_argument("left", help=where)
    one.add_argument("right", help=where)
    one = action("merge", "take the results of other stores into the user's", _merge, place=False)
    one.add_argument(
        "source", nargs="+", help="a directory that `seqpar cache export` wrote, or another store"
    )
    one = action("export", "write decisions and failures into a directory, for other machines", _export)
    one.add_argument("--to", required=True, help="the directory")
    one.add_argument("--op", action="append", help="of this operation only; may be given several times")
    one.add_argument("--all", action="store_true", help="every candidate, those that lost as well")
    action("verify", "say what keeps lines from being used", _verify)
    one = action("prune", "put results together, without superseded and damaged lines", _prune)
    one.add_argument("--older-than", type=float, metavar="DAYS", help="lines older than that go as well")
    one.add_argument(
        "--remove", metavar="ENVIRONMENT", help="delete a whole environment of the user's store instead"
    )
    one.add_argument("--yes", action="store_true", help="do it; without this nothing is changed")


def run(args: argparse.Namespace) -> int:
    if getattr(args, "do", None) is None:
        raise OptionError("cache: say what to do: ls, show, diff, merge, export, verify or prune.")
    try:
        status: int = args.do(args)
        return status
    except OSError as error:
        raise OptionError(f"cache {args.action}: {error}.") from error


def _ls(args: argparse.Namespace) -> int:
    found = ls(args.place)
    rows: Table = [
        ("environment", "from", "hardware", "operation", "tuned", "kept", "candidates", "failed", "size")
    ]
    for one in found:
        where = f"{one.source}, {one.standing}"
        counts = (str(n) for n in (one.tuned, one.kept, one.candidates, one.failed))
        rows.append(
            (one.environment, where, one.hardware, one.operation, *counts, f"{one.bytes / 1e3:.0f} kB")
        )
    _print(args, found, rows, f"nothing is stored in {store.user_directory()}")
    return 0


def _show(args: argparse.Namespace) -> int:
    found = show(args.place, args.op, args.all)
    rows: Table = [
        ("operation and problem", "candidate", "decision", "of the default's time", "noise", "when")
    ]
    for one in found:
        ratio = "" if one.vs_default is None else f"{one.vs_default:.3f}"
        noise = "" if one.noise is None else f"{one.noise:.1%}"
        decision = one.decision if one.verdict == "ok" else one.verdict
        rows.append((f"{one.operation} {one.problem}", one.candidate, decision, ratio, noise, one.when[:10]))
    _print(args, found, rows, "nothing is stored")
    return 0


def _diff(args: argparse.Namespace) -> int:
    found = diff(args.left, args.right)
    rows: Table = [("operation and problem", str(args.left), str(args.right))]
    rows += [(f"{one.operation} {one.problem}", one.left or "-", one.right or "-") for one in found]
    _print(args, found, rows, "no difference")
    return 1 if found else 0


def _merge(args: argparse.Namespace) -> int:
    return _moved(args, merge(args.source))


def _export(args: argparse.Namespace) -> int:
    return _moved(args, export(args.to, args.place, operations=args.op, every=args.all))


def _moved(args: argparse.Namespace, found: list[Any]) -> int:
    rows: Table = [("environment", "operation", "new lines", "there before", "file")]
    rows += [(o.environment, o.operation, str(o.lines), str(o.there), Path(o.path).name) for o in found]
    _print(args, found, rows, "nothing to do")
    return 0


def _verify(args: argparse.Namespace) -> int:
    found = verify(args.place)
    rows: Table = [("where", "what")]
    rows += [(one.where, one.what + (" (harmless)" if one.harmless else "")) for one in found]
    _print(args, found, rows, "nothing is wrong")
    return 1 if any(not one.harmless for one in found) else 0


def _prune(args: argparse.Namespace) -> int:
    if args.remove is not None:
        if args.place is not None or args.older_than is not None:
            raise OptionError(
                "cache prune: --remove is of a whole environment in the user's store. Leave the place and --older-than out."
            )
        paths = remove(args.remove, yes=args.yes)
        _print(
            args, [str(path) for path in paths], [("file",), *((str(path),) for path in paths)], "no files"
        )
    else:
        found = prune(args.place, older_than=args.older_than, yes=args.yes)
        rows: Table = [("environment", "operation", "superseded", "damaged", "old", "files to one", "in use")]
        for one in found:
            counts = (str(n) for n in (one.superseded, one.damaged, one.old, one.files, one.held))
            rows.append((one.environment, one.operation, *counts))
        _print(args, found, rows, "nothing to take away")
    if not args.yes and not args.json:
        print("Nothing was changed. Add --yes to do it.")
    return 0


def _print(args: argparse.Namespace, found: Sequence[Any], rows: Table, empty: str) -> None:
    if args.json:
        print(
            json.dumps([one if isinstance(one, str) else dataclasses.asdict(one) for one in found], indent=1)
        )
    elif not found:
        print(empty)
    else:
        print(table(rows))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under their heads.

    >>> print(table([("operation", "tuned"), ("qr", "3")]))
    operation  tuned
    qr         3
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip() for row in rows
    )
