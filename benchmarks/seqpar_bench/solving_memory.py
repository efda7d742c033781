"""Figure 4 of `solve_recurrence`: the memory of a training step in PyTorch, in a process of its own.

Linux tells a process its largest resident size since it last asked to forget it; elsewhere the figure cannot be taken.
"""

import json
import subprocess
import sys
from pathlib import Path

from seqpar_bench.record import Figure, Record
from seqpar_bench.solving_cases import elman
from seqpar_bench.solving_frameworks import Torch

STEPS, BATCH, STATES = 100_000, 4, 32
LIMIT = 12.0


def training_memory(record: Record, rounds: int) -> None:
    """Peak of the resident size in a training step less what was there before, in sizes of the states."""
    run = subprocess.run(
        [sys.executable, "-m", "seqpar_bench.solving_memory"], check=True, capture_output=True, text=True
    )
    measured = json.loads(run.stdout)
    text = f"torch, Elman network, training step, batch {BATCH}, T = {STEPS:,}, n = {STATES}: peak memory over that of the states"
    record.add([Figure("4", text, measured["peak"] / measured["states"], LIMIT, "at most")])


def measure() -> dict[str, int]:
    """Bytes: of the states, and of the peak above what the problem itself takes."""
    torch = Torch()
    small, full = (torch.posed(elman(batch=BATCH, steps=steps, n=STATES)) for steps in (2048, STEPS))
    for problem in (small, full):
        cotangent = 0 * problem.x + 1
        step = torch.training_step(torch.solver(problem), problem, cotangent)
        if problem is small:  # loads what is loaded once
            step()
    before = forget_peak()
    step()
    return {"peak": status("VmHWM") - before, "states": 4 * BATCH * STEPS * STATES}


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(key: str) -> int:
    """A size in bytes from the process's own status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


if __name__ == "__main__":
    print(json.dumps(measure()))
