"""`seqpar demo`: run the recurrence on every framework found, check the answers, print a table of speed."""

import argparse
import sys
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.answers import WrongAnswerError, check
from seqpar_bench.cases import FEATURES, QUICK, Case
from seqpar_bench.frameworks import FRAMEWORKS, Framework
from seqpar_bench.measure import interleave
from seqpar_bench.tables import print_table

HEADER = ("framework", "runs", "time", "GB/s", "of numpy.add", "own loop", "speed-up", "answer")


class Demo:
    """The subcommand."""

    name = "demo"
    help = "run linear_recurrence on every framework found, check the answers, print times"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--quick", action="store_true", help="a small size and few rounds: is everything working?"
        )
        parser.add_argument(
            "--rounds", type=int, default=None, help="samples of each time (default 9, quick 3)"
        )

    def run(self, args: argparse.Namespace) -> int:
        case = QUICK if args.quick else FEATURES
        rounds = args.rounds or (3 if args.quick else 9)
        print(
            f"seqpar {seqpar.__version__}: h[t] = a[t] * h[t-1] + b[t], {case.dtype}, (batch, time, features) = {case.shape}"
        )
        rows, failures = [], 0
        for framework in FRAMEWORKS:
            if not framework.found:
                rows.append(
                    (framework.title, f"not found: pip install 'seqpar[{framework.name}]'", *[""] * 6)
                )
                continue
            try:
                rows.append(_row(framework, case, rounds))
            except WrongAnswerError as error:
                rows.append((framework.title, *[""] * 6, f"WRONG: {error}"))
                failures += 1
            except Exception as error:
                rows.append((framework.title, *[""] * 6, f"FAILED: {error!r}"))
                failures += 1
        print_table(HEADER, rows)
        print(
            "time: median. GB/s: bytes of a, b and h over time. numpy.add: the same arrays added in NumPy, in the same rounds.\n"
            "own loop: a loop over time in the framework (JAX: lax.scan). answer: largest error as a share of its rounding bound."
        )
        if failures:
            print(
                f"{failures} of {len(FRAMEWORKS)} frameworks did not give the right answer.", file=sys.stderr
            )
        return 1 if failures else 0


def _row(framework: Framework, case: Case, rounds: int) -> tuple[str, ...]:
    a, b = case.arrays()
    own_a, own_b = framework.array(a), framework.array(b)
    call = framework.call(case, own_a, own_b)
    share = check(np.asarray(call()), a, b, case.axis, framework.title)
    why = seqpar.explain(seqpar.linear_recurrence, own_a, own_b, axis=case.axis)
    times = interleave(
        {"add": lambda: np.add(a, b), "call": call, "loop": framework.loop(case, own_a, own_b)}, rounds=rounds
    )
    seconds = times["call"].median
    return (
        framework.title,
        f"{why.backend}.{why.method}",
        _milliseconds(seconds),
        f"{case.bytes_moved / seconds / 1e9:.1f}",
        f"{times['add'].over(times['call']):.2f}",
        f"{framework.loop_name} {_milliseconds(times['loop'].median)}",
        f"{times['loop'].over(times['call']):.1f}x",
        f"right ({share:.2f} of bound)",
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


command: Any = Demo()
