"""Figure 2 of `plan_buckets`: how long a plan takes from a histogram, in a process of its own that has one core.

The whole public call is timed: checks, search, the curve of costs, and what other choices would have cost. Beside it stands the
same optimum by a table of all pairs of lengths in NumPy, and the first call of a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import seqpar
from seqpar_bench import buckets_peers as peers
from seqpar_bench.buckets_cases import SPEECH, TEXT, Workload, histogram, samples
from seqpar_bench.measure import Samples, Thunk, interleave
from seqpar_bench.record import Figure, Record

LIMITS: tuple[tuple[Workload, int, float], ...] = ((SPEECH, 8, 5.0), (TEXT, 32, 150.0))
"""Workload, buckets, milliseconds."""
FEW = 8
"""Buckets of the table of all pairs of lengths: a bucket of 12,000 lengths takes it a quarter of a second."""


def planning(record: Record, rounds: int) -> None:
    found = _child(str(rounds))
    for case, (workload, number, limit) in zip(found["cases"], LIMITS, strict=True):
        times = {who: Samples(tuple(seconds)) for who, seconds in case["seconds"].items()}
        what = f"{workload.name}, {case['distinct']:,} distinct lengths, {number} buckets"
        text = f"{what}: time of a plan from a histogram, one core"
        group = f"2 {workload.name}, {number} buckets"
        record.add(
            [Figure("2", text, 1e3 * times["plan_buckets"].median, limit, "at most", "ms", group)],
            {group: times},
        )
    record.add([], {"2 plans in NumPy": {who: Samples(tuple(s)) for who, s in found["numpy"].items()}})
    with tempfile.TemporaryDirectory() as cache:
        cold = _child("first", NUMBA_CACHE_DIR=cache)
        warm = [_child("first", NUMBA_CACHE_DIR=cache) for _ in range(3)]
    for name, case in (("speech", SPEECH), ("text", TEXT)):
        group = f"2 first plan of a process, {case.name}"
        record.add(
            [],
            {
                group: {
                    "kernels in their cache": Samples(tuple(run[name] for run in warm)),
                    "nothing in the cache": Samples((cold[name],)),
                }
            },
        )


def _child(what: str, **environment: str) -> Any:
    command = [sys.executable, "-m", "seqpar_bench.buckets_planning", what]
    one = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    run = subprocess.run(
        command, env={**os.environ, **one, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout)


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of plans, and of the same optimum in NumPy."""
    cases = []
    numpy_ways: dict[str, Thunk] = {}
    for workload, number, _ in LIMITS:
        given = histogram(workload)
        lengths = samples(workload)
        ways: dict[str, Thunk] = {
            "plan_buckets": partial(seqpar.plan_buckets, given, number),
            "plan_buckets from all lengths": partial(seqpar.plan_buckets, lengths, number),
            "plan_buckets, number left open": partial(seqpar.plan_buckets, given),
            "plan_buckets, Python's own loops": partial(
                seqpar.plan_buckets, given, number, backend="reference"
            ),
        }
        times = interleave(ways, rounds=rounds)
        cases.append({"distinct": len(given[0]), "seconds": {who: s.seconds for who, s in times.items()}})

        cost, boundaries = peers.numpy_dp(*given, FEW)
        plan = seqpar.plan_buckets(given, FEW)
        assert (cost, tuple(boundaries.tolist())) == (plan.predicted_cost, plan.boundaries)
        numpy_ways[f"{len(given[0]):,} lengths, {FEW} buckets, plan_buckets"] = partial(
            seqpar.plan_buckets, given, FEW
        )
        numpy_ways[f"{len(given[0]):,} lengths, {FEW} buckets, table of all pairs in NumPy"] = partial(
            peers.numpy_dp, *given, FEW
        )
    few = interleave(numpy_ways, rounds=min(rounds, 2))
    return {"cases": cases, "numpy": {who: s.seconds for who, s in few.items()}}


def first_calls() -> dict[str, float]:
    """Seconds of the first plan, and of the first one of the other size."""
    given = {name: histogram(workload) for name, workload in (("speech", SPEECH), ("text", TEXT))}
    numbers = {"speech": 8, "text": 32}
    found = {}
    for name, case in given.items():
        start = time.perf_counter()
        seqpar.plan_buckets(case, numbers[name])
        found[name] = time.perf_counter() - start
    return found


def one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])


if __name__ == "__main__":
    one_core()
    given = sys.argv[1]
    print(json.dumps(first_calls() if given == "first" else measure(int(given))))
