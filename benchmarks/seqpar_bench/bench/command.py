"""`seqpar bench`: what is to be measured and shown, from the words of a command line."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from seqpar.dispatch import registry
from seqpar.dispatch.preset import Grade
from seqpar.errors import OptionError, unknown_name
from seqpar.solving.wish import METHODS
from seqpar_bench.bench.changes.comparison import percentage, text
from seqpar_bench.bench.contest import Wanted
from seqpar_bench.bench.hardware import begun, devices
from seqpar_bench.bench.problems import OPERATIONS, Choice, chosen
from seqpar_bench.bench.report.folder import JSON, keep, prepare, write
from seqpar_bench.bench.report.summary import BUSY
from seqpar_bench.bench.report.terminal import show as show_tables
from seqpar_bench.bench.row import Run, read
from seqpar_bench.bench.session import EFFORTS, Session
from seqpar_bench.bench.watching import display_for

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
QUICK_MINUTES = 3.5
FRAMEWORKS = ("numpy", "torch", "jax", "cupy")


class Bench:
    """The command, as `seqpar.commands` wants it."""

    name = "bench"
    help = "measure every backend and method against each other and against peers"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_argument_group("what is measured")
        grade = what.add_mutually_exclusive_group()
        grade.add_argument(
            "--quick", action="store_true", help="at most three and a half minutes: few problems, few rounds"
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
        what.add_argument(
            "--problem", default="", metavar="TEXT", help="with this in its name, as --list has it: LSTM"
        )
        what.add_argument("--only-sweeps", action="store_true", help="time against length alone")
        what.add_argument(
            "--minutes", type=_positive, help="leave out what does not fit into this time (quick: 3.5)"
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
    if args.only_sweeps and (args.shape or not args.sweeps):
        raise OptionError(
            "bench: --only-sweeps, and neither --shape nor --no-sweeps has any. Give one of them."
        )
    choice = Choice(
        grade,
        tuple(dict.fromkeys(args.op)),
        args.shape,
        args.dtype,
        _passes(getattr(args, "pass")),
        args.problem,
        sweeps=args.sweeps and not args.shape,
        only_sweeps=args.only_sweeps,
    )
    named = _kernel_names(choice.operations or tuple(OPERATIONS)) if args.backend or args.method else ()
    for flag, known in (("framework", set(FRAMEWORKS)), *named):
        for name in getattr(args, flag):
            if name not in known:
                raise unknown_name("bench", f"--{flag}", name, known)
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
    if run.load_before > BUSY:
        print(f"{run.load_before} threads want a core already: do not trust the times", file=sys.stderr)
    minutes = args.minutes or (QUICK_MINUTES if args.quick else None)
    session = Session(run, grade, wanted, EFFORTS[grade], minutes and 60 * minutes, display_for())
    if args.out is not None:
        session.keep = partial(keep, run, args.out)
    with suppress(KeyboardInterrupt), _ended_by_signals():
        run.interrupted = True
        for device, problems in given.items():
            session.measure(problems, device)
        run.interrupted = False
    session.display.end()
    if run.interrupted:
        print("interrupted: what follows is what was measured until then", file=sys.stderr)
    else:
        _complain(run, args)
    if args.out is not None:
        # Before anything is shown: a pipe may be closed by now.
        for path in write(run, args.out):
            print(f"written: {path}", file=sys.stderr)
    show(run, args.json)
    if run.interrupted:
        return INTERRUPTED
    return 1 if run.troubles else 0


def _complain(run: Run, args: argparse.Namespace) -> None:
    """Of a run in which nothing of ours was timed, which is not what anybody asks for."""
    if (
        any(row.timed and row.kind in ("seqpar", "kernel") for row in run.rows)
        or run.left_out
        or run.troubles
    ):
        return
    asked = [
        f"--{flag} {','.join(given)}"
        for flag in ("framework", "backend", "method")
        if (given := getattr(args, flag))
    ]
    why = f" with {' and '.join(asked)}" if asked else ""
    run.troubles.append(f"nothing of seqpar was timed{why}: leave that out, and the tables say what there is")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What ends a process from outside ends the run as Ctrl-C does, with what it has found."""
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            before[getattr(signal, name)] = signal.signal(getattr(signal, name), _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def show(run: Run, as_json: bool) -> None:
    """Tables, or JSON, on the standard output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Not every terminal has every sign.
        sys.stdout.reconfigure(errors="replace")
    if as_json:
        print(json.dumps(run.to_dict(), indent=1))
    else:
        show_tables(run)


def compare(args: argparse.Namespace) -> int:
    from seqpar_bench.bench.changes.judgement import changes

    if args.out is not None or args.op or args.quick or args.exhaustive:
        raise OptionError(
            "bench: --compare reads two runs and measures nothing. Leave --out, --op, --quick and --exhaustive out."
        )
    before, after = (read(path / JSON if path.is_dir() else path) for path in args.compare)
    found = changes(before, after)
    print(json.dumps(found.to_dict(), indent=1) if args.json else text(found, args.fail_above))
    return 1 if args.fail_above is not None and found.fails(args.fail_above) else 0


def _kernel_names(operations: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    """Backends and methods that there are for these operations here, whether or not they can run a problem."""
    within = {
        "recurrence": ("cell",),
        "lstsq": ("r_factor", "qr"),
        "qr": ("qr", "r_factor"),
        "solve_recurrence": (),
    }
    kernels = {
        (kernel.backend, kernel.method)
        for framework in FRAMEWORKS
        # Kernels of a framework are loaded with it.
        if importlib.util.find_spec(framework) is not None
        for name in operations
        for operation in within.get(name, (name,))
        for kernel in registry.kernels(operation, framework)
    }
    if "solve_recurrence" in operations:
        kernels |= {("solve", method) for method in METHODS}
    yield "backend", {"reference", *(backend for backend, _ in kernels)}
    yield "method", {method for _, method in kernels}


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
