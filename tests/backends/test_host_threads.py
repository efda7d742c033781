"""Threads change no bit, and survive forks and callers on many threads."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from host_memory import backward, coefficients, launch, numbers, walk
from seqpar.linear_recurrence_operation import Walk
from seqpar_host import ChunkedConfig, SequentialConfig, chunked, compile
from seqpar_host.kernels import Chunked, Sequential
from seqpar_host.threads import thread_limit


@pytest.fixture
def eager_threads(monkeypatch):
    """Every call uses the threads it asks for, however small it is and however few processors there are."""
    monkeypatch.setattr("seqpar_host.plan.BYTES_PER_THREAD", 1)
    monkeypatch.setattr("seqpar_host.plan.TASK_BYTES", 1)
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 256)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("shape", "axis"), [((7, 50, 300), 1), ((1, 50, 700), 1), ((41, 333), 1), ((90, 64, 3), 1)]
)
@pytest.mark.usefixtures("eager_threads")
def test_threads_and_repeats_change_no_bit(shape, axis):
    random = np.random.default_rng(0)
    a, b = coefficients(random, shape, "float32", "log"), numbers(random, shape, "float32")
    g = numbers(random, shape, "float32")
    spec = Walk(axis, gate="log")
    h, final = walk(spec, a, b, threads=1)
    grads = backward(spec, a, None, None, None, h, g, None, threads=1)
    for threads in (1, 2, 3, 8, 200):
        again = walk(spec, a, b, threads=threads)
        assert np.array_equal(again[0], h)
        assert np.array_equal(again[1], final)
        more = backward(spec, a, None, None, None, h, g, None, threads=threads)
        assert all(np.array_equal(x, y) for x, y in zip(more, grads, strict=True))


@pytest.mark.usefixtures("eager_threads")
def test_eight_python_threads_at_once():
    random = np.random.default_rng(1)
    a, b = random.random((8, 64, 200), dtype=np.float32), random.random((8, 64, 200), dtype=np.float32)
    right = walk(Walk(1), a, b, threads=1)[0]
    wrong = []

    def work():
        again = (walk(Walk(1), a, b, threads=3)[0] for _ in range(20))
        wrong.extend(h for h in again if not np.array_equal(h, right))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


FORK = """
import os, sys
sys.path.insert(0, {here!r})
import numpy as np
import seqpar_host.plan, seqpar_host.threads
seqpar_host.plan.BYTES_PER_THREAD = 1
seqpar_host.threads.usable_cores = lambda: 4
from host_memory import walk
from seqpar.linear_recurrence_operation import Walk
a = np.random.default_rng(0).random((8, 64, 200), dtype=np.float32)
right = walk(Walk(1), a, a, threads=4)[0]
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(walk(Walk(1), a, a, threads=4)[0], right) else 1)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert np.array_equal(walk(Walk(1), a, a, threads=4)[0], right)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_forked_child_may_call_after_a_parallel_call():
    here = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", FORK.format(here=here)], check=True, timeout=120)


def test_the_limit_is_the_smallest_of_all_settings(monkeypatch):
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 6)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setitem(sys.modules, "numba.np.ufunc.parallel", None)
    monkeypatch.setitem(sys.modules, "torch.utils.data._utils.worker", None)
    assert thread_limit() == thread_limit(9) == 6
    assert thread_limit(3) == 3
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert thread_limit() == 4

    class Loader:
        @staticmethod
        def get_worker_info():
            return object()

    monkeypatch.setitem(sys.modules, "torch.utils.data._utils.worker", Loader)
    assert thread_limit() == 1


@pytest.mark.parametrize("kernel", [Sequential(), Chunked()], ids=lambda kernel: kernel.method)
@pytest.mark.usefixtures("eager_threads")
def test_no_launch_takes_more_threads_than_the_limit(kernel, monkeypatch):
    taken = []
    record = lambda plan, threads, *pointers: taken.append(threads)
    for module in (compile, chunked):
        monkeypatch.setattr(module, "launcher", lambda: record)
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 6)
    config = ChunkedConfig(chunk=100) if kernel.method == "chunked" else SequentialConfig()
    a, final = np.ones((64, 1000), np.float32), np.ones(64, np.float32)
    for asked, most in ((None, 6), (200, 6), (3, 3), (1, 1)):
        taken.clear()
        launch(kernel, Walk(1), [a, a, None, None, a, final], asked, config)
        assert max(taken) == most


def test_asking_for_the_limit_starts_no_thread_layer():
    code = (
        "import sys, seqpar_host.threads; seqpar_host.threads.thread_limit();"
        "layer = sys.modules.get('numba.np.ufunc.parallel'); assert layer is None or not layer._is_initialized;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
