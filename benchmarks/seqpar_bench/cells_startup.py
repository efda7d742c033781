"""Figure 7 of `seqpar.cells`: the first call in a fresh process, with an empty kernel cache and with a warm one."""

import json
import os
import subprocess
import sys
import tempfile

from seqpar_bench.cells_cases import FULL, Sizes
from seqpar_bench.measure import Samples
from seqpar_bench.record import Figure, Record

COLD, WARM = 2.0, 0.5
FIRST_CALL = """
import json, sys, time
begin = time.perf_counter()
import numpy as np, seqpar
from seqpar import cells
imported = time.perf_counter()
framework, steps = sys.argv[1], int(sys.argv[2])
x = given = np.random.default_rng(0).standard_normal((1, steps, 32), dtype=np.float32)
params = weights = cells.gru.init(0, inputs=32, hidden=32)
if framework == "torch":
    import torch
    given = torch.from_numpy(x)
    weights = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
start = time.perf_counter()
states = seqpar.recurrence(cells.gru, given, None, weights)
if framework == "torch":
    states.square().mean().backward()
end = time.perf_counter()
if framework == "torch":
    assert weights["u"].grad.abs().max() > 0
    states = states.detach().numpy()
last = cells.gru(params, states[:, -2], x[:, -1])
assert np.abs(last - states[:, -1]).max() < 1e-6
print(json.dumps([end - start, end - start + imported - begin]))
"""


def first_calls(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    for framework, what in (("numpy", "NumPy, forward"), ("torch", "torch, training step")):
        with tempfile.TemporaryDirectory() as cache:
            cold = [_seconds(framework, sizes.steps, cache)]
            warm = [_seconds(framework, sizes.steps, cache) for _ in range(min(rounds, 5))]
        for i, part in enumerate(("", ", with importing numpy and seqpar")):
            title = f"7 first call in a fresh process, {what}{part}"
            times = {
                "warm kernel cache": Samples(tuple(seconds[i] for seconds in warm)),
                "empty kernel cache": Samples(tuple(seconds[i] for seconds in cold)),
            }
            promised = framework == "numpy" and not part
            figures = [
                Figure("7", f"{title[2:]}, {state}", times[state].median, limit, "at most", "s", title)
                for state, limit in (("warm kernel cache", WARM), ("empty kernel cache", COLD))
                if promised
            ]
            record.add(figures, {title: times})


def _seconds(framework: str, steps: int, cache: str) -> list[float]:
    """Seconds of the first call in a new process whose kernel cache is in `cache`, without imports and with them."""
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, framework, str(steps)],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[float] = json.loads(run.stdout)
    return found
