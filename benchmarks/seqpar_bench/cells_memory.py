"""Figure 6 of `seqpar.cells`: the memory of a training step in PyTorch, in a process of its own, as `solving_memory` has it."""

import json
import subprocess
import sys

from seqpar_bench.cells_cases import FULL, Sizes, network
from seqpar_bench.cells_ways import Torch
from seqpar_bench.record import Figure, Record
from seqpar_bench.solving_memory import forget_peak, status

BATCH, UNITS, LIMIT = 4, 32, 9.0


def training_memory(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """Peak of the resident size in a training step less what was there before, in sizes of the states."""
    steps = sizes.more_steps
    command = [sys.executable, "-m", "seqpar_bench.cells_memory", str(steps)]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    text = f"torch, GRU, training step, batch {BATCH}, T = {steps:,}, n = {UNITS}: peak memory over that of the states"
    record.add([Figure("6", text, measured["peak"] / measured["states"], LIMIT, "at most")])


def measure(steps: int) -> dict[str, int]:
    """Bytes: of the states, and of the peak above what the problem itself takes."""
    small, full = (
        Torch(network("gru", UNITS, BATCH, length)).training() for length in (min(steps, 4096), steps)
    )
    small.call()  # loads what is loaded once
    before = forget_peak()
    gradients = full.call()
    peak = status("VmHWM") - before
    assert all(name.size for name in full.read(gradients).values())
    return {"peak": peak, "states": 4 * BATCH * steps * UNITS}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
