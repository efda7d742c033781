"""The host kernels of the matrix recurrence on threads, in XLA programs, on other CPUs, and at the edges of their memory."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from host_matrices import backward, matrices, walk
from host_memory import numbers
from host_xla import target
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_host.kernels import MatrixBackward, MatrixSequential

TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def eager_threads(monkeypatch):
    """Every call uses the threads it asks for, however small it is and however few processors there are."""
    monkeypatch.setattr("seqpar_host.plan.BYTES_PER_THREAD", 1)
    monkeypatch.setattr("seqpar_host.plan.TASK_BYTES", 1)
    monkeypatch.setattr("seqpar_host.matrix_plan.LONG_PART", 1)
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 256)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("lead", "axis", "n", "k"),
    [
        ((9, 20), 1, 4, 1),
        ((20, 41), 0, 3, 1),
        ((3, 20, 5), 1, 16, 1),
        ((20,), 0, 4, 100),
        ((5, 20), 1, 18, 2),
    ],
)
@pytest.mark.usefixtures("eager_threads")
def test_threads_and_repeats_change_no_bit(lead, axis, n, k):
    random = np.random.default_rng(0)
    A, b = matrices(random, (*lead, n, n), "float32"), numbers(random, (*lead, n, k), "float32")
    g = numbers(random, b.shape, "float32")
    spec = MatrixWalk(axis)
    right = [*walk(spec, A, b, threads=1)]
    right += backward(spec, A, None, None, right[0], g, threads=1)
    for threads in (1, 2, 3, 8, 200):
        again = [*walk(spec, A, b, threads=threads)]
        again += backward(spec, A, None, None, again[0], g, threads=threads)
        assert all(np.array_equal(x, y) for x, y in zip(again, right, strict=True))


EDGES = """
import ctypes, mmap, sys
sys.path.insert(0, {tests!r})
import numpy as np
import host_matrices, host_memory
from host_matrices import check, matrices
from host_memory import launch, numbers
from seqpar.matrix_recurrence_operation import MatrixWalk

libc = ctypes.CDLL(None, use_errno=True)

def at_the_edge(x):
    # Nothing after its last byte may be read or written; and before its first one if flipped.
    pages = -(-x.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + pages * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    y = np.ndarray(x.shape, x.dtype, memory, pages * mmap.PAGESIZE - x.nbytes)
    y[...] = x
    return y

def guarded(kernel, spec, arrays, threads=None):
    placed = [None if x is None else at_the_edge(x) for x in arrays]
    launch(kernel, spec, placed, threads)
    for x, y in zip(arrays, placed):
        if x is not None:
            x[...] = y

host_matrices.launch = guarded
random = np.random.default_rng(0)
for dtype, sizes in {{
    "float32": [(1, 1), (3, 1), (4, 1), (12, 1), (18, 1), (3, 2), (5, 17), (18, 2)],
    "float16": [(3, 1), (6, 3)],
    "complex128": [(3, 1), (3, 3)],
}}.items():
    for n, k in sizes:
        A, b = matrices(random, (3, 7, n, n), dtype), numbers(random, (3, 7, n, k), dtype)
        for transposed in (False, True):
            check(MatrixWalk(1, transposed=transposed), A, b)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's mprotect")
def test_no_kernel_reaches_past_its_operands():
    done = subprocess.run(
        [sys.executable, "-c", EDGES.format(tests=TESTS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"signal or error {done.returncode}: {done.stderr}"


OLDER = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from host_matrices import check, matrices
from host_memory import numbers
from host_xla import target
from seqpar.matrix_recurrence_operation import MatrixWalk

random = np.random.default_rng(0)
for n, k, dtype in ((3, 1, "float32"), (16, 1, "float16"), (5, 3, "complex64")):
    A, b = matrices(random, (2, 9, n, n), dtype), numbers(random, (2, 9, n, k), dtype)
    check(MatrixWalk(1), A, b, None, random.random((2, 9, 1, 1)) < 0.2)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other CPUs are x86")
@pytest.mark.parametrize(("name", "features"), [("x86-64", ""), ("haswell", "+avx2,+fma,+f16c,+avx")])
def test_kernels_for_older_cpus_are_right(name, features):
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", OLDER.format(tests=TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("n", "k", "steps_of_A", "dtype"),
    [
        (1, 1, 9, "float32"),
        (4, 1, 1, "float32"),
        (4, 1, 9, "float16"),
        (3, 5, 9, "complex64"),
        (18, 1, 9, "float32"),
    ],
)
def test_jitted_results_are_those_of_numpy_to_the_bit(n, k, steps_of_A, dtype):
    jax = pytest.importorskip("jax")
    random = np.random.default_rng(1)
    A, b = matrices(random, (1, steps_of_A, n, n), dtype), numbers(random, (3, 9, n, k), dtype)
    resets = random.random((3, 9, 1, 1)) < 0.2
    spec = MatrixWalk(1, reverse=True)
    h, final = walk(spec, A, b, None, resets)
    function, _ = target(MatrixSequential(), spec, [A, b, None, resets], [h, final])
    for actual, right in zip(jax.jit(function)(A, b, resets), (h, final), strict=True):
        assert np.array_equal(actual, right)
    g = numbers(random, b.shape, dtype)
    grads = backward(spec, A, None, resets, h, g)
    function, _ = target(MatrixBackward(), spec, [A, None, resets, h, g, None], grads)
    for actual, right in zip(jax.jit(function)(A, resets, h, g), grads, strict=True):
        assert np.array_equal(actual, right)
