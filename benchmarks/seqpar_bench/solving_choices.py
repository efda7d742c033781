"""How far the automatic choice of `solve_recurrence` is from the best chunk: `python -m seqpar_bench.solving_choices [FILE]`.

The presets of `seqpar_autotune.solving_presets` in NumPy and PyTorch, with a coarse grid of chunks and burn-ins, in turns and in
seconds of the processor, so that a busy machine tells the same. Set OMP_NUM_THREADS=1: threads would be counted together.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from seqpar.solving.bindings import solver_of
from seqpar.solving.tuned import BACKEND
from seqpar_autotune.candidates import Candidate
from seqpar_autotune.solving import geometric_mean
from seqpar_autotune.solving_candidates import refused, wish_of
from seqpar_autotune.solving_presets import PRESETS
from seqpar_autotune.solving_workload import SolveWorkload

ROUNDS, FEWEST = 7, 4
PATIENCE = 25.0
"""Seconds for one problem, once there are as many rounds as are needed."""
FAR = 1.3
"""What is slower than the automatic choice by this after a round is left out."""


def candidates(workload: SolveWorkload) -> list[Candidate]:
    found = [Candidate(BACKEND, "auto"), Candidate(BACKEND, "sequential")]
    for chunk in (32 << i for i in range(8)):
        found += [
            Candidate(BACKEND, "shooting", {"chunk": chunk, "burn_in": burn_in})
            for burn_in in (chunk // 4, chunk)
        ]
    return [one for one in found if refused(one, workload.problem) is None]


def compared(workload: SolveWorkload) -> dict[str, Any]:
    recurrence = workload.recurrence()
    solver, given = solver_of(recurrence.binding), candidates(workload)
    auto, alive = given[0], list(given)
    times: dict[Candidate, list[float]] = {one: [] for one in given}
    start = time.monotonic()
    for number in range(ROUNDS + 1):
        for one in alive:
            before = time.process_time()
            solver.solve(recurrence, wish_of(one))
            if number:
                times[one].append(time.process_time() - before)
        if number == 1:
            bound = FAR * times[auto][0]
            alive = [one for one in given if one == auto or times[one][0] < bound]
        if number >= FEWEST and time.monotonic() - start > PATIENCE:
            break
    medians = {one: statistics.median(times[one]) for one in alive}
    best = min(medians, key=medians.__getitem__)
    return {
        "problem": workload.name,
        "auto_ms": round(1e3 * medians[auto], 2),
        "best": str(best),
        "best_ms": round(1e3 * medians[best], 2),
        "gain": round(medians[auto] / medians[best], 3),
        "candidates": len(given),
        "rounds": len(times[best]),
    }


def main(file: str | None = None) -> None:
    results = []
    for preset in PRESETS:
        if preset.framework == "jax":  # which compiles each candidate, and runs threads of its own
            continue
        found = compared(preset.workload())
        results.append(found)
        print(
            f"{found['problem']:42} auto {found['auto_ms']:7.1f} ms, best {found['best_ms']:7.1f} ms by {found['best']}: "
            f"{found['gain']:.2f}x",
            flush=True,
        )
    gain = geometric_mean(one["gain"] for one in results)
    print(f"{len(results)} problems, geometric mean {gain:.3f}")
    if file is not None:
        Path(file).write_text(json.dumps({"gain": round(gain, 3), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
