"""Measure every promised figure of an operation in one run and write it down.

    python -m seqpar_bench.figures [linear_recurrence | matrix_recurrence | associative_scan | solve_recurrence | cells | qr |
                                    buckets | autotune]

prints a table of promised and measured and writes benchmarks/results/<machine>/<operation>.json. What cannot run
is listed under "problems"; the exit status is 1 if a figure was missed or could not be measured.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from seqpar_bench import (
    accuracy,
    autotune,
    autotune_buckets,
    autotune_solving,
    buckets,
    buckets_batches,
    buckets_planning,
    buckets_ranks,
    buckets_strokes,
    buckets_time,
    cells,
    cells_cases,
    cells_memory,
    cells_startup,
    cells_table,
    coverage,
    matrices,
    overhead,
    scans,
    solving,
    solving_evidence,
    solving_memory,
    speed,
    startup,
    tall,
    tall_stream,
)
from seqpar_bench.record import Record, profile_name

Part = Callable[..., None]
"""Takes the record and the number of rounds; those of cells also how large the problems are."""

OPERATIONS: dict[str, dict[str, tuple[Part, ...]]] = {
    "linear_recurrence": {
        "1": (speed.numpy_speed,),
        "2": (speed.torch_speed,),
        "3": (speed.jax_speed,),
        "4": (speed.time_last_speed,),
        "5": (overhead.overhead,),
        "6": (speed.filter_speed,),
        "7": (accuracy.accuracy,),
        "8": (startup.compile_times, startup.first_calls),
        "9": (coverage.coverage,),
        "extra": (speed.extra_cases,),
    },
    "matrix_recurrence": {
        "1": (matrices.forward_speed,),
        "extra": (matrices.gradient_speed, matrices.other_sizes),
    },
    "associative_scan": {
        "2": (scans.affine_speed, scans.compile_time),
        "3": (scans.kalman_filter,),
    },
    "solve_recurrence": {
        "1": (solving.own_step,),
        "2": (solving_evidence.evidence,),
        "3": (solving.never_slower,),
        "4": (solving_memory.training_memory,),
        "5": (solving_evidence.newton_peers,),
    },
    "cells": {
        "1": (cells.torch_gru,),
        "2": (cells.torch_gru_small,),
        "3": (cells.jax_gru,),
        "4": (cells.torch_lstm,),
        "5": (cells.never_slower,),
        "6": (cells_memory.training_memory,),
        "7": (cells_startup.first_calls,),
        "more": (cells_table.table,),
    },
    "qr": {
        "1": (tall.numpy_qr,),
        "2": (tall.framework_qr,),
        "3": (tall.least_squares, tall.accuracy),
        "4": (tall_stream.streamed,),
        "extra": (tall.other_sizes,),
    },
    "buckets": {
        "1": (buckets.optima, buckets.every_choice),
        "2": (buckets_planning.planning,),
        "3": (buckets_time.least_time, buckets_strokes.strokes),
        "4": (buckets_ranks.eight_ranks,),
        "extra": (buckets_batches.sampling, buckets_batches.padding, buckets_batches.packing),
    },
    "autotune": {
        "1": (autotune.quick,),
        "2": (autotune_solving.methods, autotune.operations),
        "3": (autotune_buckets.buckets,),
    },
}
ASKED = {"more"}
"""What takes long and holds no promised figure: measured with --more."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m seqpar_bench.figures", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "operation", nargs="?", default="linear_recurrence", choices=OPERATIONS, help="whose figures"
    )
    parser.add_argument("--out", type=Path, help="the JSON file (default: benchmarks/results/<machine>/...)")
    parser.add_argument("--only", help="figures to measure, for example 1,4 (default: all)")
    parser.add_argument("--rounds", type=int, default=21, help="samples of each time (default 21)")
    parser.add_argument("--threads", type=int, default=2, help="cores to use (default 2)")
    parser.add_argument("--more", action="store_true", help="cells: other sizes too, in a table")
    parser.add_argument("--quick", action="store_true", help="cells: tiny problems, to see that all runs")
    args = parser.parse_args(argv)
    parts = OPERATIONS[args.operation]
    if (args.quick or args.more) and args.operation != "cells":
        parser.error("--quick and --more are for cells")
    usual = [number for number in parts if args.more or number not in ASKED]
    wanted = args.only.split(",") if args.only else usual
    sizes = (cells_cases.QUICK,) if args.quick else ()
    if unknown := [number for number in wanted if number not in parts]:
        parser.error(f"--only: no figure {', '.join(unknown)}; there are {', '.join(parts)}")
    restrict(args.threads)

    record = Record(args.operation)
    for number in wanted:
        for part in parts[number]:
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    part(record, args.rounds, *sizes)
            except Exception as error:
                record.problems.append(f"{number}: {part.__name__}: {type(error).__name__}: {error}")
            # A kernel that fell back says so in a warning; a figure taken then must not look like the kernel's.
            record.problems += sorted(
                {f"{number}: warning: {w.message}" for w in caught if w.category is RuntimeWarning}
            )
    print(record.table())
    for problem in record.problems:
        print(f"problem: {problem}")
    if args.out is None and set(wanted) >= set(parts) - ASKED and not args.quick:
        args.out = Path("benchmarks/results") / profile_name() / f"{args.operation}.json"
    if args.out is not None:
        record.write(args.out)
        print(f"written: {args.out}")
    missed = [figure for figure in record.figures if not figure.reached]
    print(f"{len(record.figures) - len(missed)} of {len(record.figures)} figures reached")
    return 1 if (missed and not args.quick) or record.problems else 0


def restrict(threads: int) -> None:
    """Keep this process on a number of cores, before any framework sizes its thread pool."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


if __name__ == "__main__":
    sys.exit(main())
