"""Compiled kernels on disk: found again, and safe from processes that compile at the same time."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

CALLS = """
import numpy as np, seqpar
for dtype in ("float32", "float64"):
    h = seqpar.linear_recurrence(np.full(3, 0.5, dtype), np.ones(3, dtype))
    assert h.tolist() == [1.0, 1.5, 1.75], h
    h = seqpar.matrix_recurrence(np.eye(2, dtype=dtype) / 2, np.ones((3, 2), dtype))
    assert h[:, 1].tolist() == [1.0, 1.5, 1.75], h
"""


def test_no_two_kernels_share_an_index(tmp_path: Path) -> None:
    # One index for several kernels hands out one number twice when two processes write it at once.
    run(tmp_path)
    indices = sorted(tmp_path.rglob("*.nbi"))
    assert len(indices) >= 4
    for path in indices:
        with path.open("rb") as file:
            pickle.load(file)  # numba's version
            _, kernels = pickle.loads(file.read())
        assert len(kernels) == 1, path.name
    assert len(list(tmp_path.rglob("*.nbc"))) == len(indices)


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == written


def run(cache: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", CALLS], env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, check=True
    )
