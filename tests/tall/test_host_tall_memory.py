"""The host kernels of QR on threads, in memory of any strides, in XLA programs, on older CPUs, and at the edges of memory."""

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from host_tall import check_factors, factorise, triangle
from host_xla import target
from seqpar.tall.operations import Factorisation
from seqpar_host.tall_kernels import TallQR, TallR

TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def eager_threads(monkeypatch):
    """Every call uses the threads it asks for, however small it is and however few processors there are."""
    monkeypatch.setattr("seqpar_host.tall_plan.THREAD_NANOSECONDS", 1)
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 256)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)


@pytest.mark.parametrize("shape", [(40_000, 33), (3, 17_000, 8), (50, 40, 10)], ids=str)
@pytest.mark.usefixtures("eager_threads")
def test_threads_change_no_bit(shape):
    random = np.random.default_rng(0)
    a, b = (
        random.standard_normal(shape).astype(np.float32),
        random.standard_normal((*shape[:-1], 2)).astype(np.float32),
    )
    right = [*factorise(a, threads=1), triangle(a, b, threads=1)]
    for threads in (2, 3, 8, 200):
        again = [*factorise(a, threads=threads), triangle(a, b, threads=threads)]
        assert all(np.array_equal(x, y) for x, y in zip(again, right, strict=True))


def test_a_matrix_of_a_batch_has_the_bits_of_that_matrix_alone():
    a = np.random.default_rng(0).standard_normal((3, 17_000, 20))
    for index in range(3):
        for together, alone in zip(factorise(a), factorise(a[index]), strict=True):
            assert np.array_equal(together[index], alone)


VIEWS = {
    "columns first": lambda x: np.asfortranarray(x),
    "backwards": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "rows apart": lambda x: np.stack([x, x + 1], axis=-2).reshape(*x.shape[:-2], -1, x.shape[-1])[
        ..., ::2, :
    ],
    "columns apart": lambda x: np.stack([x, x + 1], axis=-1)[..., 0],
    "batch last": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "in wider rows": lambda x: np.concatenate([x, x + 1], axis=-1)[..., : x.shape[-1]],
}


@pytest.mark.parametrize("n", [1, 7, 33])
@pytest.mark.parametrize("turn", [1.0, 0.6 + 0.8j])
@pytest.mark.parametrize("name", VIEWS)
def test_operands_may_have_any_strides(name, turn, n):
    random = np.random.default_rng(0)
    a, b = turn * random.standard_normal((3, 400, n)), random.standard_normal((3, 400, 2)) + 0 * turn
    weights, seed = random.random((3, 400)), random.standard_normal((3, 5, n + 2)) + 0 * turn
    view = VIEWS[name]
    assert np.array_equal(view(a), a)
    for x, y in zip(factorise(view(a)), factorise(a), strict=True):
        assert np.array_equal(x, y)
    strided = triangle(view(a), view(b), view(weights[..., None])[..., 0], view(seed))
    assert np.array_equal(strided, triangle(a, b, weights, seed))


def test_operands_may_be_shared_by_the_batch():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((1, 300, 4)), random.standard_normal((5, 300, 2))
    weights = random.random((1, 300))
    found = triangle(a, b, weights)
    for index in range(5):
        assert np.array_equal(found[index], triangle(a[0], b[index], weights[0]))


def test_an_empty_batch_is_no_error():
    q, r = factorise(np.zeros((0, 20, 3)))
    assert q.shape == (0, 20, 3) and r.shape == (0, 3, 3)


EDGES = """
import ctypes, mmap, sys
sys.path.insert(0, {tests!r})
import numpy as np
import host_memory, host_tall

libc = ctypes.CDLL(None, use_errno=True)
whole = host_memory.launch

def at_the_edge(x, end):
    # Nothing after its last byte, or before its first one, may be read or written.
    pages = -(-x.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        assert libc.mprotect(ctypes.c_void_p(start + page * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    offset = (pages + 1) * mmap.PAGESIZE - x.nbytes if end else mmap.PAGESIZE
    y = np.ndarray(x.shape, x.dtype, memory, offset)
    y[...] = x
    return y

def guarded(kernel, spec, arrays, threads=None):
    for end in (False, True):
        placed = [None if x is None else at_the_edge(x, end) for x in arrays]
        whole(kernel, spec, placed, threads)
    for x, y in zip(arrays, placed):
        if x is not None:
            x[...] = y

host_tall.launch = guarded
random = np.random.default_rng(0)
for dtype in ("float32", "float64", "complex64", "complex128"):
    for m, n in ((1, 1), (5, 3), (16, 16), (300, 17), (600, 33), (17000, 5), (256, 250)):
        a = random.standard_normal((2, m, n)).astype(dtype)
        host_tall.check_factors(a, *host_tall.factorise(a))
        b, weights = random.standard_normal((2, m, 3)).astype(dtype), np.ones((2, m), a.real.dtype)
        seed = random.standard_normal((2, 9, n + 3)).astype(dtype)
        host_tall.triangle(a, b, weights, seed)
        if dtype.startswith("complex"):
            continue
        packed, _ = host_tall.pack(a)
        host_tall.multiply(packed, random.standard_normal((2, n, 5)).astype(dtype), m, False)
        host_tall.multiply(packed, random.standard_normal((2, m, 5)).astype(dtype), m, True)
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
from host_tall import check_factors, check_triangle, factorise, triangle

random = np.random.default_rng(0)
for dtype in ("float32", "complex128"):
    for m, n in ((600, 33), (17000, 5), (5, 3)):
        a = random.standard_normal((m, n))
        a = (a + 1j * a[::-1] if dtype.startswith("complex") else a).astype(dtype)
        check_factors(a, *factorise(a))
        check_triangle(a, triangle(a))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other CPUs are x86")
@pytest.mark.parametrize(("name", "features"), [("x86-64", ""), ("haswell", "+avx2,+fma,+f16c,+avx")])
def test_kernels_for_older_cpus_are_right(name, features):
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", OLDER.format(tests=TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_jitted_results_are_those_of_numpy_to_the_bit(dtype):
    jax = pytest.importorskip("jax")
    random = np.random.default_rng(1)
    a, b = (
        random.standard_normal((3, 300, 17)).astype(dtype),
        random.standard_normal((3, 300, 1)).astype(dtype),
    )
    q, r = factorise(a)
    ran = np.zeros(3, np.int32)
    function, _ = target(TallQR(), Factorisation(), [a], [q, r, ran])
    for actual, right in zip(jax.jit(function)(a)[:2], (q, r), strict=True):
        assert np.array_equal(actual, right)
    r = triangle(a, b)
    function, _ = target(TallR(), Factorisation(), [a, b, None, None], [r, ran])
    assert np.array_equal(jax.jit(function)(a, b)[0], r)


def test_a_memory_that_is_too_small_is_an_error(monkeypatch):
    monkeypatch.setattr("seqpar_host.tall_plan.LEAD", 1 << 44)
    with pytest.raises(MemoryError, match="qr: there is no memory"):
        factorise(np.ones((20, 3)))


def test_a_factorisation_changes_none_of_its_operands():
    random = np.random.default_rng(0)
    a = random.standard_normal((600, 33))
    a.flags.writeable = False
    before = a.copy()
    check_factors(a, *factorise(a))
    assert np.array_equal(a, before)


# Axes of a matrix or of a batch along which memory lies far apart: a batch of two, four rows, three columns.
FAR = {"matrices": ((2, 40, 3), 0), "rows": ((4, 3), 0), "columns": ((40, 3), 1)}


@pytest.mark.parametrize("far", FAR)
def test_offsets_beyond_32_bits(far):
    """Strides of more than 2**31 elements, in memory of which a few pages are ever touched."""
    shape, axis = FAR[far]
    stride = 5 << 29
    size = 4 * stride * (shape[axis] - 1) + (1 << 16)
    try:
        # MAP_NORESERVE: room is asked for where it is written to.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    except (OSError, ValueError) as error:
        pytest.skip(f"no room for a sparse {size >> 30} GB: {error}")
    strides = [4 * int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    strides[axis] = 4 * stride
    a = np.ndarray(shape, np.float32, memory, 0, tuple(strides))
    a[...] = np.random.default_rng(8).standard_normal(shape)
    near = np.array(a)
    for found, right in zip(factorise(a), factorise(near), strict=True):
        assert np.array_equal(found, right)
    # As the rows of a fit, as its right-hand sides and on top of it.
    assert np.array_equal(triangle(a), triangle(near))
    assert np.array_equal(triangle(near, a), triangle(near, near))
    two, one = near[..., :2], near[..., 2:]
    assert np.array_equal(triangle(two, one, seed=a), triangle(two, one, seed=near))
