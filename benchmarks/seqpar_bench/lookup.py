"""What asking for a stored result costs once it has been asked for: `python -m seqpar_bench.lookup`.

A store of its own is filled, the choice is made once, and then again and again: of a problem that is stored, of one that
lies between two, and of one for which there is nothing. The user's results are neither read nor touched.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import seqpar
from seqpar.dispatch.choice import choose
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.store import VARIABLE, profile_for
from seqpar_autotune.rows import Record
from seqpar_autotune.store import Recorder

STORED = (64, 4096)
ASKED = {"stored": 64, "between two": 1000, "not stored": 9999}
LIMIT_US = 3.0


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ[VARIABLE] = directory
        for time_steps in STORED:
            _store(time_steps)
        print(f"{'problem':<12} {'first':>9} {'again':>9}   from")
        for name, time_steps in ASKED.items():
            why = _explained(time_steps)
            invalidate()
            look_up = partial(choose, why.problem)
            first, again = _microseconds(look_up, times=1), _microseconds(look_up, times=20_000)
            print(f"{name:<12} {first:6.0f} us {again:6.2f} us   {why.provenance}")
        print(f"The limit for a look-up that is not the first is {LIMIT_US:.0f} us.")


def _store(time_steps: int) -> None:
    profile = profile_for("numpy", "cpu")
    assert profile is not None
    with Recorder("linear_recurrence", _explained(time_steps).problem, profile) as recorder:
        recorder.write(Record(backend="reference", method="chunked", config={"chunk": 16}, adopted=True))


def _explained(time_steps: int) -> seqpar.Explanation:
    x = np.full((2, time_steps, 3), 0.5, np.float32)
    why: seqpar.Explanation = seqpar.explain(seqpar.linear_recurrence, x, x)
    return why


def _microseconds(call: Callable[[], object], times: int) -> float:
    """The least of ten attempts, where there are many; the one, where it cannot be made again."""
    found = []
    for _ in range(1 if times == 1 else 10):
        start = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - start) / times * 1e6)
    return min(found)


if __name__ == "__main__":
    main()
