"""What the constants in `seqpar/solving/costs.py` are taken from: `python -m seqpar_bench.solving_costs [framework]`.

Per recurrence, in seconds of the processor (others may use the machine): a step of few and of many rows, one sweep of shooting
over all of time, and what of that is neither of its walks: a part for each sweep, and a part for each state.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from seqpar.solving import shooting
from seqpar.solving.chunks import Cut, cut
from seqpar.solving.costs import costs
from seqpar.solving.forward import ForwardWalk, Start, around, guessed
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.sequential import walked
from seqpar.solving.stepping import Stepper
from seqpar.solving.tolerance import stated
from seqpar.solving.wish import Wish
from seqpar_autotune.solving_steps import contracting, elman, elman_numbers, gru, gru_numbers, input_numbers
from seqpar_autotune.solving_workload import SolveWorkload

ROUNDS = 9
CASES: tuple[tuple[Any, Any, int, int, int, int], ...] = (
    (elman, elman_numbers, 1, 500, 32, 32),
    (elman, elman_numbers, 1, 2000, 32, 64),
    (elman, elman_numbers, 1, 5000, 32, 64),
    (elman, elman_numbers, 8, 4000, 32, 64),
    (elman, elman_numbers, 8, 4000, 32, 256),
    (elman, elman_numbers, 8, 20000, 32, 128),
    (elman, elman_numbers, 1, 10000, 8, 128),
    (elman, elman_numbers, 1, 5000, 256, 128),
    (contracting, input_numbers, 1, 20000, 8, 128),
    (contracting, input_numbers, 1, 50000, 8, 256),
    (gru, gru_numbers, 8, 4000, 32, 128),
)
"""Step, numbers, sequences, steps, state, chunk."""


def medians(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def one_sweep(r: Recurrence, stepper: Stepper, pieces: Cut, start: Start, burn_in: int) -> shooting.Shot:
    """Chunks walked, measured, compared and laid out; more sweeps where one does not do."""
    starts = guessed(r, stepper, pieces, start, burn_in)
    found = shooting.shoot(ForwardWalk(r, stepper, pieces), starts, tol=stated(r, stepper, Wish()))
    pieces.states(r.xp, found.tile)
    return found


def main(framework: str) -> None:
    print(
        "step       batch  steps  state chunk | loop us/step (model) | loop ms  one sweep ms (model) | excess ms, us/state"
    )
    for step, maker, batch, steps, n, chunk in CASES:
        r = SolveWorkload.made(step, maker, framework, "cpu", batch=batch, steps=steps, n=n).recurrence()
        stepper, pieces = r.stepper(), cut(steps, batch, chunk)
        start, burn_in = around(r.xp, r.h0), chunk // 2
        whole = partial(one_sweep, r, stepper, pieces, start, burn_in)

        walk = ForwardWalk(r, stepper, pieces)
        rows = pieces.by_row(r.xp, start.states(r, pieces))
        found = medians(
            {
                "loop": partial(walked, r, stepper),
                "chunks": partial(walk.run, rows, None),
                "whole": whole,
            }
        )
        sweeps = len(whole().history)
        excess = found["whole"] - found["chunks"] * (1 + sweeps + burn_in / chunk)
        cost = costs(r, stepper)
        model = (
            cost.walk(burn_in + 2 * pieces.chunk, pieces.rows)
            + 2 * cost.exchange
            + batch * steps * cost.compare
        )
        print(
            f"{step.__name__:11} {batch:4} {steps:6} {n:5} {chunk:5}  | {1e6 * found['loop'] / steps:6.1f} "
            f"({cost.walk(1, batch):6.1f}) {1e6 * found['chunks'] / pieces.chunk:6.1f} ({cost.walk(1, pieces.rows):6.1f}) of "
            f"{pieces.rows} | {1e3 * found['loop']:7.2f} {1e3 * found['whole']:7.2f} ({model / 1e3:7.2f}) sweeps={sweeps} | "
            f"{1e3 * excess:7.2f} {1e6 * excess / (batch * steps):6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "numpy")
