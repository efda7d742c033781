"""`seqpar bench`: what is to be measured and shown, from the words of a command line."""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from seqpar.dispatch.preset import Grade
from seqpar.errors import OptionError
from seqpar_bench.bench.changes.comparison import percentage, text
from seqpar_bench.bench.contest import Wanted
from seqpar_bench.bench.hardware import begun, devices
from seqpar_bench.bench.problems import OPERATIONS, Choice, chosen
from seqpar_bench.bench.report.folder import prepare, write
from seqpar_bench.bench.report.terminal import show as show_tables
from seqpar_bench.bench.row import Run, read
from seqpar_bench.bench.session import EFFORTS, Session
from seqpar_bench.bench.watching import Display, display_for

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
QUICK_SECONDS = 170.0
FRAMEWORKS = ("numpy", "torch", "jax", "cupy")


class Bench:
    """The command, as `seqpar.commands` wants it."""

    name = "bench"
    help = "measure every backend and method against each other and against peers"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_argument_group("what is measured")
        grade = what.add_mutually_exclusive_group()
        grade.add_argument(
            "--quick", action="store_true", help="under three minutes: few problems, few rounds"
        )
        grade.add_argument(
            "--exhaustive", action="store_true", help="many problems, up to 4M steps, many rounds"
        )
        _several(what, "--op", "NAME", f"this operation only: {', '.join(OPERATIONS)}")
        _several(what, "--backend", "NAME", "kernels of this backend only: host, reference, triton, ...")
        _several(what, "--method", "NAME", "this method only: sequential, chunked, tsqr, ...")
        _several(what, "--framework", "NAME", f"with arrays of this one only: {', '.join(FRAMEWORKS)}")
        _several(what, "--device", "KIND", "on cpu or cuda (default: the GPU where there is one)")
        what.add_argument(
            "--shape", type=_sizes, default=(), help="with --op: one problem of these sizes, as in 4,4096,256"
        )
        what.add_argument("--dtype", default="", help="type of the numbers (default: that of each problem)")
        _several(what, "--pass", "PASS", "forward or gradient (default: both)")
        what.add_argument(
            "--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries as well"
        )
        what.add_argument(
            "--sweeps",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="time against length as well",
        )
        what.add_argument("--only-sweeps", action="store_true", help="time against length alone")
        what.add_argument(
            "--minutes", type=_positive, help="leave out what does not fit into this time (quick: 3)"
        )
        what.add_argument(
            "--list", action="store_true", help="say what would be measured, and measure nothing"
        )
        shown = parser.add_argument_group("what is shown")
        shown.add_argument(
            "--out", type=Path, metavar="DIR", help="a report: JSON, Markdown, PNG plots and a page"
        )
        shown.add_argument("--json", action="store_true", help="print the run as JSON instead of tables")
        again = parser.add_argument_group("two runs")
        again.add_argument(
            "--compare",
            type=Path,
            nargs=2,
            metavar=("A.json", "B.json"),
            help="what changed from A to B; measures nothing",
        )
        again.add_argument(
            "--fail-above",
            type=percentage,
            metavar="PERCENT",
            help="exit 1 where B is slower by more than this",
        )

    def run(self, args: argparse.Namespace) -> int:
        if args.fail_above is not None and args.compare is None:
            raise OptionError("bench: --fail-above is for --compare. Give two runs: --compare A.json B.json.")
        return compare(args) if args.compare is not None else measure(args)


def measure(args: argparse.Namespace) -> int:
    """Measure, show, write; 1 where one of ours was wrong or failed."""
    grade: Grade = "quick" if args.quick else "exhaustive" if args.exhaustive else "default"
    choice = Choice(
        grade,
        tuple(args.op),
        args.shape,
        args.dtype,
        _passes(getattr(args, "pass")),
        sweeps=args.sweeps and not args.shape,
        only_sweeps=args.only_sweeps,
    )
    for name in args.framework:
        if name not in FRAMEWORKS:
            raise OptionError(f"bench: --framework {name} is none of {', '.join(FRAMEWORKS)}.")
    wanted = Wanted(
        tuple(args.backend),
        tuple(args.method),
        tuple(args.framework) or FRAMEWORKS,
        args.peers,
        plain=not args.quick,
    )
    where = devices(args.device)
    given = {device: chosen(choice, device) for device in where}
    if not any(given.values()):
        raise OptionError("bench: there is no problem of that kind. `seqpar bench --list` names all.")
    if args.list:
        print("\n".join(str(problem) for problems in given.values() for problem in problems))
        return 0
    if args.out is not None:
        prepare(args.out)
    run = begun(_typed(sys.argv))
    seconds = 60 * args.minutes if args.minutes else QUICK_SECONDS if args.quick else None
    display: Display = display_for()
    session = Session(run, grade, wanted, EFFORTS[grade], seconds, display)
    with suppress(KeyboardInterrupt):
        run.interrupted = True
        for device, problems in given.items():
            session.measure(problems, device)
        run.interrupted = False
    display.end()
    show(run, args.json)
    if args.out is not None:
        for path in write(run, args.out):
            print(f"written: {path}", file=sys.stderr)
    if run.interrupted:
        return INTERRUPTED
    return 1 if run.problems and any(not text.startswith("out of time") for text in run.problems) else 0


def show(run: Run, as_json: bool) -> None:
    """Tables, or JSON, on the standard output."""
    if as_json:
        print(json.dumps(run.to_dict(), indent=1))
        return
    show_tables(run)


def compare(args: argparse.Namespace) -> int:
    from seqpar_bench.bench.changes.verdicts import changes

    before, after = (read(path) for path in args.compare)
    found = changes(before, after)
    print(json.dumps(found.to_dict(), indent=1) if args.json else text(found, args.fail_above))
    return 1 if args.fail_above is not None and found.regressions(args.fail_above) else 0


def _several(group: Any, flag: str, metavar: str, text: str) -> None:
    group.add_argument(flag, action="extend", type=_words, default=[], metavar=metavar, help=text)


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _sizes(text: str) -> tuple[int, ...]:
    if re.fullmatch(r"[1-9][\d_]*([,x][1-9][\d_]*)*", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape. Give positive sizes, as in 4,4096,256")
    return tuple(int(word) for word in re.split("[,x]", text))


def _positive(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time. Give a positive number")
    return found


def _passes(given: list[str]) -> tuple[Any, ...]:
    for name in given:
        if name not in ("forward", "gradient"):
            raise OptionError(f"bench: --pass {name} is neither forward nor gradient.")
    return tuple(given)


def _typed(words: list[str]) -> str:
    """The command line, without the places of files."""
    return " ".join(["seqpar", *(Path(word).name if "/" in word else word for word in words[1:])])


command = Bench()
