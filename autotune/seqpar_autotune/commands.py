"""`seqpar autotune`: what is to be tuned, from the words of a command line.

`seqpar cache` and `seqpar info` have files of their own.
"""

import argparse
import sys
from collections.abc import Iterator

from seqpar.dispatch import store
from seqpar.dispatch.preset import Grade
from seqpar.errors import NotEligibleError, OptionError

from .explicit import explicit, sizes
from .presets import check_here, workloads
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
            "--device", action="append", help="on this device: cpu, cuda, cuda:1; may be given again"
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
            __import__(module)
        given = in_order(problems(args))
        if args.dry_run:
            if not given:
                raise OptionError(NOTHING)
            print("\n".join(planned(given, grade_of(args))))
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


def grade_of(args: argparse.Namespace) -> Grade:
    return "quick" if args.quick else "exhaustive" if args.exhaustive else "default"


def problems(args: argparse.Namespace) -> list[Workload]:
    """What a command line asks for."""
    devices = [device.partition(":")[0] for device in args.device or ()] or None
    if args.recorded is not None:
        if args.shape is not None:
            raise OptionError("--from has sizes of its own. Leave --shape out.")
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


def planned(given: list[Workload], grade: Grade) -> Iterator[str]:
    """A table of what a run of this grade would tune."""
    rows = [("call", "weight", "combinations", "default", "others")]
    for one in given:
        try:
            space = space_for(one, grade)
        except NotEligibleError:
            rows.append((one.name, f"{one.weight:.3g}", "0", "nothing runs it", ""))
            continue
        others = [branch.name for branch in space.branches if branch.name != space.default.branch]
        row = (one.name, f"{one.weight:.3g}", str(space.size), text_of(space.default), ", ".join(others))
        rows.append(row)
    yield from aligned(rows)
    yield f"{counted(len(given), 'call')}."


command = Autotune()
