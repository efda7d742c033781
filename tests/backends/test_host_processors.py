"""CPUs other than this one: without half floats, vectors of 16 or fused multiply-add."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HALVES = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from host_memory import backward, coefficients, numbers, walk
from seqpar.linear_recurrence_operation import Walk
from seqpar.testing import oracle

every = np.arange(65536, dtype=np.uint16).view(np.float16)[None, None, :]
exact = every[0].astype(np.float32)
with np.errstate(all="ignore"):
    near = [exact, np.nextafter(exact, np.float32(np.inf)), (exact + np.roll(exact, 1)) / 2]
    random = np.random.default_rng(0).integers(0, 2**32, (1, 50000), dtype=np.uint32).view(np.float32)
    state = np.concatenate([*near, random], -1)
    right = state.astype(np.float16)
shape = (1, 1, state.shape[1])
h, _ = walk(Walk(1), np.ones(shape, np.float32), -np.zeros(shape, np.float16), state)
same = (np.isnan(h[0]) & np.isnan(right)) | (h[0].view(np.uint16) == right.view(np.uint16))
assert same.all(), "to half"
_, final = walk(Walk(1), np.zeros(every.shape, np.float32), every)
assert np.array_equal(final, exact, equal_nan=True), "from half"

random = np.random.default_rng(1)
for shape in ((2, 30, 37), (5, 70, 1)):
    a, b = coefficients(random, shape, "float32", "logit"), numbers(random, shape, "float32")
    flags = {{"axis": 1, "gate": "logit", "convex": True}}
    h, _ = walk(Walk(**flags), a, b)
    oracle.assert_within(h, oracle.walk(a, b, **flags)[0], oracle.error_bound(a, b, roundings=16, **flags)[0])
    results = backward(Walk(**flags), a, b, None, None, h, b, None)
    right = oracle.backward(a, b, None, None, h, b, None, **flags)
    bounds = oracle.backward_error_bound(a, b, None, None, b, None, roundings=16, **flags)
    for x, y, bound in zip(results, right, bounds):
        oracle.assert_within(x, y, bound)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other CPUs are x86")
@pytest.mark.parametrize(("name", "features"), [("x86-64", ""), ("haswell", "+avx2,+fma,+f16c,+avx")])
def test_kernels_for_older_cpus_are_right(name, features):
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", HALVES.format(tests=tests)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
