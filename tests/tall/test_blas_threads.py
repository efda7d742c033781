"""No call changes how many threads a BLAS has: that number is the process's, and other threads compute with it meanwhile."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

import seqpar

NAMES = ("openblas_{}_num_threads", "scipy_openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_")


def openblas() -> list[tuple[Callable[[], int], Callable[[int], None]]]:
    """How to read and how to set the number of threads, of each OpenBLAS that NumPy and SciPy brought into this process."""
    assert scipy.linalg is not None  # its library is loaded with it
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    found = []
    for library in map(ctypes.CDLL, sorted(paths)):
        for name in NAMES:
            if hasattr(library, name.format("get")):
                found.append((getattr(library, name.format("get")), getattr(library, name.format("set"))))
                break
    return found


class Watch:
    """Reads the numbers ten thousand times a second, from a thread of its own, and keeps every one that it saw."""

    def __init__(self) -> None:
        self.readers = [get for get, _ in openblas()]
        self.seen: set[tuple[int, ...]] = set()
        self.times = 0

    @contextmanager
    def around(self) -> Iterator[None]:
        done = threading.Event()

        def look() -> None:
            while not done.wait(1e-4):
                self.seen.add(tuple(get() for get in self.readers))
                self.times += 1

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads in each library: a number that would show one, which is what code sets that wants none."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the libraries of a process are read from Linux's /proc")
    libraries = openblas()
    if not libraries:
        pytest.skip("NumPy and SciPy have another BLAS than OpenBLAS here")
    before, interval = [get() for get, _ in libraries], sys.getswitchinterval()
    for _, choose in libraries:
        choose(2)
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)
    for (_, choose), number in zip(libraries, before, strict=True):
        choose(number)


def test_no_call_changes_the_threads_of_a_blas(two_threads: None) -> None:
    random = np.random.default_rng(0)
    problems = [
        (random.standard_normal(shape).astype(dtype), random.standard_normal((*shape[:-1], 2)).astype(dtype))
        for dtype in ("float32", "complex128")
        for shape in ((20_000, 12), (1_000, 90), (50, 40, 6), (8, 8))
    ]
    watch = Watch()
    with watch.around():
        for a, b in problems:
            for method in ("auto", "tsqr", "cholesky", "native"):
                seqpar.qr(a, method=method, return_info=True)
                seqpar.qr(a, mode="r", method=method)
                seqpar.lstsq(a, b, method=method, ridge=0.1)
            if a.ndim == 2:
                q = seqpar.qr(a, mode="implicit")
                q.apply_adjoint(b)
                fit = seqpar.LstsqAccumulator(a.shape[1], 2, dtype=a.dtype.name).push(a, b)
                fit.solve(0.1)
    assert watch.times > 100
    assert watch.seen == {(2,) * len(watch.readers)}


def test_the_watch_sees_a_change_that_is_taken_back(two_threads: None) -> None:
    _, choose = openblas()[0]
    a = np.random.default_rng(0).standard_normal((20_000, 12))
    watch = Watch()
    with watch.around():
        for _ in range(200):
            choose(1)
            np.linalg.qr(a)
            choose(2)
            if any(seen[0] == 1 for seen in watch.seen.copy()):
                return
    raise AssertionError("a number that was another for seconds was not seen")
