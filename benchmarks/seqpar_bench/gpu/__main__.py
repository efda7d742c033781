"""Test and measure the library on the GPU at hand.

    python -m seqpar_bench.gpu FOLDER

runs `pytest -m gpu` of the source tree, measures the bandwidth of a copy, then the recurrences, or with --tall the QR of tall
matrices, in PyTorch, CuPy and JAX against it and against every peer that is installed. Every answer is checked before a time is
printed. It takes at most 8 minutes: later cases are left out when time runs out. FOLDER gets gpu.json, table.txt and tests.log.

The exit status is 1 where there is a problem: a test that failed, tests that could not run, a kernel of ours that fails or is
wrong, a case that was left out. Peers that fail, and goals that are missed, are in the table alone.
"""

import argparse
import datetime
import gc
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqpar_bench.gpu import machine
from seqpar_bench.gpu.answers import Inputs, Yardstick, inputs
from seqpar_bench.gpu.cases import CASES, Case
from seqpar_bench.gpu.contenders import Field, LeftOutError, checked
from seqpar_bench.gpu.frameworks import JAX, CuPy, Frame, Torch
from seqpar_bench.gpu.rounds import Budget, Timed, interleaved
from seqpar_bench.gpu.table import Row, gains, table
from seqpar_bench.gpu.tall_answers import TallYardstick, tall_inputs
from seqpar_bench.gpu.tall_cases import TALL_CASES, TallCase
from seqpar_bench.gpu.tall_contenders import TallField
from seqpar_bench.measure import Samples

SCHEMA = 1
MINUTES = 8.0
TESTS = 0.4
"""The share of the time that tests may take."""
SPARE = 12.0
"""Seconds kept for the end: nothing new begins in them, and the command ends when they are over, whatever hangs."""
ROUNDS = 1.5
"""Seconds of rounds at least, when making the contenders took longer than it should."""


class Run:
    """One run of the command: what was found so far, and the file it is kept in."""

    def __init__(self, out: Path, seconds: float, gpu: bool) -> None:
        self.out = out
        self.gpu = gpu
        self.budget = Budget(seconds)
        self.rows: list[Row] = []
        self.facts: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmark": "gpu",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "rehearsal on a CPU": not gpu,
        }
        self.problems: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    def keep(self) -> None:
        """Write what there is: a run that is stopped leaves its rows behind."""
        rows = [row.as_json() for row in self.rows]
        content = {**self.facts, "problems": self.problems, "rows": rows}
        (self.out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.out / "table.txt").write_text(table(self.rows) + "\n")

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"problem: {text}", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m seqpar_bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for gpu.json, table.txt and tests.log")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="at most this long (default 8)")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    parser.add_argument("--no-times", action="store_true", help="test only")
    parser.add_argument("--only", help="cases whose shape contains this, for example 'n = 4' or 65536")
    parser.add_argument("--tall", action="store_true", help="tall QR and least squares, not recurrences")
    parser.add_argument(
        "--dry-run", action="store_true", help="everything in small on the CPU, to try the command"
    )
    args = parser.parse_args(argv)
    everything: Sequence[Case | TallCase] = TALL_CASES if args.tall else CASES
    cases = [case for case in everything if args.only is None or args.only in str(case)]
    if not cases:
        known = "; ".join(dict.fromkeys(map(str, everything)))
        parser.error(f"no case has {args.only!r} in its shape: {known}")
    # PyTorch, CuPy and JAX are in this process, and none may take all memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    run = Run(args.out, 60 * args.minutes, gpu=not args.dry_run)
    run.facts["hardware"], run.facts["versions"] = machine.hardware() if run.gpu else {}, machine.versions()
    print(json.dumps({name: run.facts[name] for name in ("hardware", "versions")}, indent=1), flush=True)
    alarm = threading.Timer(max(1.0, run.budget.left - 2), _stop, (run,))
    alarm.daemon = True
    alarm.start()
    if run.gpu and not args.no_times and not args.tall:
        machine.build_peers()
    try:
        if not args.no_tests:
            run.facts["tests"] = tests = machine.run_tests(TESTS * run.budget.left, args.out)
            print("tests:", json.dumps(tests, indent=1), flush=True)
            if why := machine.why_not_passed(tests, run.gpu):
                run.problem(f"tests: {why}")
            run.keep()
        if not args.no_times:
            _measure(run, cases)
    finally:
        alarm.cancel()
    return _report(run)


def _stop(run: Run) -> None:
    """The time is over and something does not return."""
    run.problem("stopped: the time was over")
    _report(run)
    sys.stdout.flush()
    os._exit(3)


def _report(run: Run) -> int:
    run.keep()
    print(table(run.rows))
    print(
        "of copy: share of the copy bandwidth; goal: for that share; times are medians of interleaved rounds"
    )
    for line in gains(run.rows):
        print(line)
    judged = [row for row in run.rows if row.reached is not None]
    print(f"{sum(bool(row.reached) for row in judged)} of {len(judged)} goals reached; written to {run.out}")
    return 1 if run.problems else 0


def _measure(run: Run, cases: Sequence[Case | TallCase]) -> None:
    """All cases in all frameworks that are there, in order of importance, as far as time allows."""
    frames: list[Frame] = []
    everybody: tuple[Frame, ...] = (Torch(run.gpu), CuPy(run.gpu), JAX(run.gpu))
    for frame in everybody:
        if (why := frame.missing()) is None:
            frames.append(frame)
        else:
            print(f"{frame.title} takes no part: {why}", flush=True)
    if not frames:
        run.problem("no framework finds a GPU")
        return
    maker = frames[0]
    size = machine.COPIED if run.gpu else 1 << 16
    run.facts["copy bytes per second"] = copy = machine.copy_bandwidth(maker, size)
    print(f"copy: {copy / 1e9:.0f} GB/s, bytes read and written, by {maker.title}", flush=True)
    passes = [(case if run.gpu else case.small(), which) for case in cases for which in case.passes]
    for number, (case, which) in enumerate(passes):
        if run.budget.left < 2 * SPARE:
            run.problem(f"out of time: left out {', '.join(f'{c} {w}' for c, w in passes[number:])}")
            break
        weights = [c.weight for c, _ in passes[number:]]
        share = Budget((run.budget.left - SPARE) * weights[0] / sum(weights))
        try:
            given = tall_inputs(case, maker) if isinstance(case, TallCase) else inputs(case, maker)
            rows = _rows(run, case, which, frames, maker, given, share)
        except Exception as error:
            run.problem(f"{case} {which}: {error!r}")
            rows = []
        run.rows += rows
        print(table(rows) if rows else "", flush=True)
        run.keep()
        given = None  # type: ignore[assignment]  # gigabytes
        gc.collect()
        for frame in frames:
            frame.free()
    run.facts["copy bytes per second, at the end"] = machine.copy_bandwidth(maker, size)


def _rows(
    run: Run,
    case: Case | TallCase,
    which: Any,
    frames: Sequence[Frame],
    maker: Frame,
    given: Inputs,
    share: Budget,
) -> list[Row]:
    """Make and check every contender, time those that are right, all in the same rounds.

    Making them compiles. When that has eaten the share of the time, only the public calls are still made.
    """
    yardstick: Any
    meet: Any
    if isinstance(case, TallCase):
        yardstick, meet = TallYardstick(case, maker, given), TallField
    else:
        yardstick, meet = Yardstick(case, maker, given), Field
    maker.wait()
    rows: dict[str, Row] = {}
    ready: dict[str, Timed] = {}
    ours: set[str] = set()
    where = f"{case} {case.dtype} {which}"
    for frame in frames:
        base = Row(shape=str(case), dtype=case.dtype, which=which, framework=frame.title)
        if case.dtype in frame.lacks:
            rows[frame.name] = replace(base, method="all", note=f"has no {case.dtype}")
            continue
        try:
            field = meet(case, which, frame, Inputs(*(frame.take(x) for x in given)), yardstick)
            everyone = list(field.contenders())
        except Exception as error:
            rows[frame.name] = replace(base, method="all", note=_line(error))
            run.problem(f"{where}, {frame.title}: {_line(error)}")
            continue
        for contender in everyone:
            key = f"{frame.name} {contender.name}"
            numerics = contender.numerics
            goal = case.goal(frame.name, numerics, which) if numerics else None
            row = replace(base, method=contender.name, numerics=numerics, peer=contender.peer, goal=goal)
            try:
                if run.budget.left < SPARE or (share.left < 0 and not numerics):
                    raise LeftOutError("out of time")
                made = checked(contender, field)
            except Exception as error:
                rows[key] = replace(row, note=_line(error))
                # A kernel by name may be left out, the public call may not. Peers may fail as they like.
                if numerics or (contender.ours and not isinstance(error, LeftOutError)):
                    run.problem(f"{where}, {frame.title}, {contender.name}: {_line(error)}")
                continue
            moved = made.moved or case.bytes_moved(which)
            rows[key] = replace(row, what=made.what, moved=moved, copy=run.facts["copy bytes per second"])
            ready[key] = Timed(frame, made.thunk)
            if contender.ours:
                ours.add(key)
    for key, found in interleaved(ready, max(share.left, ROUNDS) if run.gpu else 0.0).items():
        if isinstance(found, Samples):
            rows[key] = replace(rows[key], samples=found)
        else:
            rows[key] = replace(rows[key], note=f"while it was timed: {_line(found)}")
            if key in ours:
                run.problem(f"{where}, {key}: {rows[key].note}")
    return list(rows.values())


def _line(error: Exception) -> str:
    """An error in one line."""
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, LeftOutError) else f"{type(error).__name__}: {first}"


if __name__ == "__main__":
    sys.exit(main())
