"""`seqpar autotune`: what is to be tuned, from the words of a command line.

`seqpar cache` and `seqpar info` have files of their own.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.preset import Grade
from seqpar.errors import NotEligibleError, OptionError

from .explicit import explicit, sizes
from .presets import check_here, workloads
from .process import check_devices
from .progress import display_for
from .recording import read
from .report import aligned, counted, text_of
from .tuner import NOTHING, ONE_CANDIDATE, in_order, space_for, tune
from .workload import Workload

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


class Autotune:
    """The command, as `seqpar.commands` wants it."""

    name = "autotune"
    help = "measure methods and their knobs on this machine, and choose by that from now on"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        grade = parser.add_mutually_exclusive_group()
        grade.add_argument("--quick", action="store_true", help="about a minute: few problems, fewer rounds")
        grade.add_argument(
            "--exhaustive", action="store_true", help="no limit of time: many problems, many rounds"
        )
        parser.add_argument(
            "--op", action="append", metavar="NAME", help="this operation only; may be given several times"
        )
        parser.add_argument("--shape", help="with --op: one problem of these sizes, as in 8,65536,1536")
        parser.add_argument(
            "--dtype", default=None, help="with --shape: type of its numbers (default float32)"
        )
        parser.add_argument(
            "--backward", action="store_true", help="with --shape: the backward pass of the problem as well"
        )
        parser.add_argument("--framework", action="append", help="for arrays of this one; may be given again")
        parser.add_argument(
            "--device", action="append", help="on this device: cpu, cuda, cuda:1; one of each kind"
        )
        parser.add_argument(
            "--from", dest="recorded", metavar="FILE", help="problems that seqpar_autotune.record wrote"
        )
        parser.add_argument("--seconds", type=float, help="time for everything (quick 60, default 600)")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--numerics", choices=("any", "deterministic"), default="any", help="which methods are admitted"
        )
        parser.add_argument(
            "--storage",
            metavar="WHERE",
            help="a file, grpc://host:port or a database's URL, through which machines share the search",
        )
        parser.add_argument(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="MODULE",
            help="a module with kernels that are not installed",
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--json", action="store_true", help="JSON lines: what happens, and the report")
        how.add_argument("--plain", action="store_true", help="lines, on a terminal as well")
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be tuned, and tune nothing"
        )

    def run(self, args: argparse.Namespace) -> int:
        for module in args.imports:
            import_named(module)
        given = in_order(problems(args))
        if args.dry_run:
            if not given:
                raise OptionError(NOTHING)
            found = [plan_of(one, grade_of(args)) for one in given]
            print("\n".join(map(json.dumps, found) if args.json else planned(found)))
            return 0
        report = tune(
            given,
            preset=grade_of(args),
            numerics=args.numerics,
            seconds=args.seconds,
            devices=args.device,
            seed=args.seed,
            storage=args.storage,
            progress=display_for("json" if args.json else "plain" if args.plain else "auto", sys.stdout),
            imports=args.imports,
        )
        if not args.json and any(not one.note for one in report.measured):
            print(f"Results are in {store.user_directory()}; `seqpar cache show` lists them.")
        if report.interrupted:
            return INTERRUPTED
        # Nothing to choose is nothing to complain of.
        return 0 if report.measured or all(one.note == ONE_CANDIDATE for one in report.results) else 1


def import_named(module: str) -> None:
    """What `--import` names."""
    try:
        __import__(module)
    except (ImportError, ValueError) as error:  # ValueError: no name at all
        raise OptionError(
            f"--import {module!r} cannot be imported ({type(error).__name__}: {error}). Name a module that Python finds from "
            "here, as `python -c 'import name'` does."
        ) from error


def grade_of(args: argparse.Namespace) -> Grade:
    return "quick" if args.quick else "exhaustive" if args.exhaustive else "default"


def problems(args: argparse.Namespace) -> list[Workload]:
    """What a command line asks for."""
    check_devices("tune", args.device or ())
    devices = [device.partition(":")[0] for device in args.device or ()] or None
    if args.recorded is not None:
        if args.shape is not None:
            raise OptionError("--from has sizes of its own. Leave --shape out.")
        if args.dtype is not None or args.backward:
            raise OptionError(
                "--from has calls with dtypes and backward passes of their own. Leave --dtype and --backward out."
            )
        found = [
            one
            for one in read(args.recorded)
            if (not args.op or one.operation in args.op)
            and (not args.framework or one.framework in args.framework)
            and (not devices or one.device in devices)
        ]
        if not found:
            raise OptionError(
                f"{args.recorded} holds no call of what was asked for. Record a run with seqpar_autotune.record."
            )
        return found
    if args.shape is None:
        if args.dtype is not None or args.backward:
            raise OptionError("--dtype and --backward belong to one problem. Give --op and --shape.")
        check_here("tune", args.framework, devices)
        return workloads(grade_of(args), args.op, args.framework, devices)
    if not args.op or len(args.op) != 1:
        raise OptionError("--shape is of one operation. Give one --op.")
    return explicit(
        args.op[0],
        sizes(args.shape),
        args.dtype or "float32",
        frameworks=args.framework,
        devices=devices,
        backward=args.backward,
    )


def plan_of(one: Workload, grade: Grade) -> dict[str, Any]:
    """What a run of this grade would search for a call, as plain data; `default` is None where nothing runs it."""
    try:
        space = space_for(one, grade)
    except NotEligibleError as error:
        found: dict[str, Any] = {"combinations": 0, "default": None, "others": [], "note": str(error)}
    else:
        others = [branch.name for branch in space.branches if branch.name != space.default.branch]
        default = text_of(space.default)
        found = {"combinations": space.size, "default": default, "others": others, "note": ""}
    return {"event": "planned", "name": one.name, "weight": one.weight, **found}


def planned(found: list[dict[str, Any]]) -> Iterator[str]:
    """The same of several calls as a table."""
    rows = [("call", "weight", "combinations", "default", "others")]
    for one in found:
        default = one["default"] or "nothing runs it"
        numbers = f"{one['weight']:.3g}", str(one["combinations"])
        rows.append((one["name"], *numbers, default, ", ".join(one["others"])))
    yield from aligned(rows)
    yield f"{counted(len(found), 'call')}."


command = Autotune()
