"""Figure 4 of `qr`: 20 million rows through an accumulator, made as they are needed, in a process of its own.

Rows are random numbers, which take longer to make than to push, so pushes are timed alone and with the making; and windows of a
long series, as an autoregression has them, which take nothing to make. The process says how large it ever was (Linux tells;
elsewhere the figure cannot be taken).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.record import Figure, Record
from seqpar_bench.solving_memory import status

Array = Any
ROWS, COLUMNS, BLOCK, IN_MEMORY = 20_000_000, 64, 1 << 16, 1 << 20
SPEED, GIGABYTES = 0.5, 1.0


def streamed(record: Record, rounds: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "seqpar_bench.tall_stream", str(ROWS)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(run.stdout)
    in_memory = found["in memory"] * ROWS
    what = f"LstsqAccumulator, {ROWS:,} x {COLUMNS}, float32"
    rate = "rows a second over those of one qr(mode='r')"
    record.add(
        [
            Figure(
                "4", f"{what}: largest size of the process", found["peak"] / 1e9, GIGABYTES, "at most", "GB"
            ),
            Figure("4", f"{what}, random rows, pushes alone: {rate}", in_memory / found["pushes"], SPEED),
            Figure("4", f"{what}, windows of a series, all: {rate}", in_memory / found["windows"], SPEED),
        ]
    )
    record.tables["stream"] = [found]


def measure(rows: int) -> dict[str, float]:
    """Seconds of pushes, with the making and of windows; seconds a row of `qr(mode="r")` in memory; bytes of the process."""
    source = np.random.Generator(np.random.SFC64(0))
    block, b = np.empty((BLOCK, COLUMNS), np.float32), np.empty(BLOCK, np.float32)
    truth = np.zeros(COLUMNS, np.float32)
    truth[:2] = 1, -1

    def make(count: int) -> tuple[Array, Array]:
        source.random(out=block, dtype=np.float32)
        # Not a product: threads of BLAS spin for some time behind one, on a core that pushes need.
        np.subtract(block[:, 0], block[:, 1], out=b)
        return block[:count], b[:count]

    seqpar.LstsqAccumulator(COLUMNS).push(*make(BLOCK)).solve()  # loads what is loaded once
    stream = seqpar.LstsqAccumulator(COLUMNS)
    pushes, start = 0.0, time.perf_counter()
    for first in range(0, rows, BLOCK):
        given = make(min(BLOCK, rows - first))
        before = time.perf_counter()
        stream.push(*given)
        pushes += time.perf_counter() - before
    x = stream.solve().x
    whole = time.perf_counter() - start
    assert np.abs(x - truth).max() < 1e-4

    series = source.random(rows + COLUMNS, dtype=np.float32)
    start = time.perf_counter()
    seen = np.lib.stride_tricks.sliding_window_view(series, COLUMNS)
    stream = seqpar.LstsqAccumulator(COLUMNS)
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        stream.push(seen[first:last], series[first + COLUMNS : last + COLUMNS])
    stream.solve()
    windows = time.perf_counter() - start
    del seen, series
    peak = status("VmHWM")

    a = np.empty((IN_MEMORY, COLUMNS), np.float32)
    source.random(out=a, dtype=np.float32)
    seconds = []
    for _ in range(6):
        before = time.perf_counter()
        seqpar.qr(a, mode="r")
        seconds.append(time.perf_counter() - before)
    return {
        "rows": rows,
        "pushes": pushes,
        "with making random rows": whole,
        "windows": windows,
        "in memory": statistics.median(seconds[1:]) / IN_MEMORY,
        "peak": peak,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
