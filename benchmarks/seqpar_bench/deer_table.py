"""How long a GRU takes over a long sequence, by units, batch and steps, on the device at hand: the sizes that DEER was shown on.

    python -m seqpar_bench.deer_table FOLDER

times the public call in PyTorch and JAX, our own kernel step by step, torch.nn.GRU (cuDNN on a GPU) and `jax.lax.scan`, forward
and with gradients, for batch 16 and 1, 1 to 64 units and 1,000 to 1,000,000 steps (as Lim et al. 2024, arXiv:2309.12252, have
them). Every answer is checked before its time is printed. It takes at most 8 minutes, what matters most first: later cases
are left out when time runs out, and so is what would take too long by itself. FOLDER gets deer_table.json and deer_table.txt.

The exit status is 1 where there is a problem: a call of ours that fails or is wrong, or a case that was left out.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seqpar_bench.deer_ways import PASSES, Pass, Problem, Way
from seqpar_bench.gpu import machine
from seqpar_bench.gpu.frameworks import JAX, Torch
from seqpar_bench.gpu.rounds import Budget, Timed, interleaved
from seqpar_bench.measure import Samples
from seqpar_bench.tables import plain

SCHEMA = 1
MINUTES = 8.0
LONGEST_CALL = 8.0
"""Seconds that one call may take by what fewer steps took; more are left out, with the estimate."""
HEADER = ("units", "batch", "steps", "pass", "way", "ms", "ns a step", "times seqpar")


@dataclass(frozen=True)
class Sizes:
    """Of the table, the most important first."""

    units: tuple[int, ...] = (32, 8, 64, 1, 16, 4, 2)
    batches: tuple[int, ...] = (16, 1)
    steps: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)

    def cases(self) -> list[tuple[int, int, int]]:
        return [(n, b, t) for n in self.units for b in self.batches for t in self.steps]


QUICK = Sizes(units=(3,), batches=(2, 1), steps=(20, 60))
"""Whether everything runs and all answers are right; nothing about times."""


@dataclass(frozen=True)
class Row:
    """One way in one case and pass."""

    units: int
    batch: int
    steps: int
    which: Pass
    way: str
    samples: Samples | None = None
    error: float | None = None
    what: str = ""
    note: str = ""
    """Why there is no time."""

    @property
    def case(self) -> tuple[int, int, int, str]:
        return self.units, self.batch, self.steps, self.which

    def as_json(self) -> dict[str, Any]:
        facts = {name: x for name, x in asdict(self).items() if name != "samples"}
        seconds = self.samples and {
            "median": self.samples.median,
            "minimum": self.samples.minimum,
            "samples": [float(f"{x:.6g}") for x in self.samples.seconds],
        }
        return {**facts, "seconds": seconds}


class Run:
    """One run of the command."""

    def __init__(self, out: Path, seconds: float, gpu: bool) -> None:
        self.out, self.gpu = out, gpu
        self.budget = Budget(seconds)
        self.rows: list[Row] = []
        self.problems: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    def keep(self) -> None:
        """Write what there is: a run that is stopped leaves its rows behind."""
        content = {
            "schema": SCHEMA,
            "benchmark": "deer_table",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "rehearsal on a CPU": not self.gpu,
            "hardware": machine.hardware() if self.gpu else {},
            "versions": machine.versions(),
            "problems": self.problems,
            "rows": [row.as_json() for row in self.rows],
        }
        (self.out / "deer_table.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.out / "deer_table.txt").write_text(table(self.rows) + "\n")

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"problem: {text}", flush=True)

    def expected(self, row: Row) -> float:
        """Seconds of a call by what fewer steps took; 0 where nothing is known."""
        for other in reversed(self.rows):
            same = (other.units, other.batch, other.which, other.way) == (
                row.units,
                row.batch,
                row.which,
                row.way,
            )
            if same and other.samples:
                return other.samples.median * row.steps / other.steps
            if same and other.note.startswith("about"):
                return float("inf")
        return 0.0


def table(rows: Sequence[Row]) -> str:
    """Times, and how many times as long as the public call in the same framework everybody takes."""
    lines = []
    for row in rows:
        head = (*map(str, row.case), row.way)
        if row.samples is None:
            lines.append((*head, row.note, "", ""))
            continue
        public = "seqpar in JAX" if "jax" in row.way.lower() else "seqpar in PyTorch"
        ours = next((r.samples for r in rows if r.case == row.case and r.way == public and r.samples), None)
        ratio = f"{row.samples.over(ours):.2f}" if ours and row.way != public and _alike(row, ours) else ""
        each = row.samples.median / row.steps * 1e9
        lines.append((*head, f"{row.samples.median * 1e3:.4g}", f"{each:.4g}", ratio))
    return plain(HEADER, lines)


def _alike(row: Row, ours: Samples) -> bool:
    """Have both as many rounds? What takes long is taken once, and has no rounds to compare."""
    return row.samples is not None and len(row.samples.seconds) == len(ours.seconds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m seqpar_bench.deer_table", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="folder for deer_table.json and deer_table.txt")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="at most this long (default 8)")
    parser.add_argument("--only", help="cases whose 'units batch steps' contain this, for example '32 16 '")
    parser.add_argument("--quick", action="store_true", help="everything in small on the CPU")
    args = parser.parse_args(argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    torch = Torch(True)
    gpu = not args.quick and torch.missing() is None
    torch = Torch(gpu)
    if why := torch.missing():
        parser.error(f"PyTorch makes the inputs and checks the answers, and is missing: {why}")
    sizes = QUICK if args.quick else Sizes()
    cases = [c for c in sizes.cases() if args.only is None or args.only in "{} {} {} ".format(*c)]
    if not cases:
        parser.error(f"no case has {args.only!r} in its 'units batch steps '")
    run = Run(args.out, 60 * args.minutes, gpu)
    jax: JAX | None = JAX(gpu)
    assert jax is not None
    if why := jax.missing():
        print(f"JAX takes no part: {why}", flush=True)
        jax = None
    torch.module.backends.cudnn.allow_tf32 = False
    measure(run, cases, torch, jax, rounds=not args.quick)
    run.keep()
    print(table(run.rows))
    print(f"{len(run.problems)} problems; written to {run.out}")
    return 1 if run.problems else 0


def measure(
    run: Run, cases: Sequence[tuple[int, int, int]], torch: Torch, jax: JAX | None, rounds: bool
) -> None:
    """All cases, as far as time allows."""
    passes = [(case, which) for case in cases for which in PASSES]
    for number, (case, which) in enumerate(passes):
        if run.budget.left < 5:
            left = [f"{c} {w}" for c, w in passes[number:]]
            run.problem(f"out of time: left out {len(left)} of {len(passes)}: {'; '.join(left)}")
            return
        share = Budget(run.budget.left / (len(passes) - number))
        try:
            problem = Problem(*case, torch, jax)
            found = list(rows_of(run, problem, which, share if rounds else Budget(0)))
        except Exception as error:
            run.problem(f"{case} {which}: {_line(error)}")
            found = []
        run.rows += found
        print(table(found) if found else "", flush=True)
        run.keep()
        problem = None  # type: ignore[assignment]  # gigabytes
        gc.collect()
        torch.free()


def rows_of(run: Run, problem: Problem, which: Pass, share: Budget) -> Iterator[Row]:
    """Every way made, checked, and, if it is right, timed in the same rounds as the others."""
    rows: dict[str, Row] = {}
    ready: dict[str, Timed] = {}
    for way in problem.ways():
        row = Row(problem.units, problem.batch, problem.steps, which, way.name)
        seconds = run.expected(row)
        if seconds > LONGEST_CALL:
            known = f"about {seconds:.0f} s" if seconds < float("inf") else "about as long as that"
            rows[way.name] = replace(row, note=f"{known}: left out")
            continue
        try:
            what = way.what()
            thunk, error = _checked(way, problem, which)
        except Exception as failure:
            rows[way.name] = replace(row, note=_line(failure))
            if way.ours:
                run.problem(f"{row.case} {way.name}: {_line(failure)}")
            continue
        rows[way.name] = replace(row, error=error, what=what)
        ready[way.name] = Timed(way.frame, thunk)
    for name, taken in interleaved(ready, share.left).items():
        if isinstance(taken, Samples):
            rows[name] = replace(rows[name], samples=taken)
        else:
            rows[name] = replace(rows[name], note=f"while it was timed: {_line(taken)}")
            run.problem(f"{rows[name].case} {name}: {rows[name].note}")
    yield from rows.values()


def _checked(way: Way, problem: Problem, which: Pass) -> tuple[Any, float]:
    """Made, run and found right."""
    thunk = way.make(which)
    result = thunk()
    way.frame.wait()
    return thunk, problem.check(way.read(result, which), which)


def _line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


if __name__ == "__main__":
    sys.exit(main())
