"""Run the CUDA kernels on memory with unreadable pages before or behind every array: a read beyond them ends the process."""

import ctypes
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import cuda_memory
from cuda_memory import check_backward, check_matrix, check_walk
from host_matrices import matrices
from host_memory import coefficients, numbers, state_of
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.recurrence_operation import without
from seqpar_cupy import ChunkedConfig, SequentialConfig

PAGE = mmap.PAGESIZE
BEHIND = sys.argv[1:] == ["behind"]
_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_kept: list[Any] = []


def guarded(shape: Sequence[int], dtype: Any) -> Any:
    """Memory next to a page that cannot be touched."""
    size = int(np.prod(shape)) * dtype.itemsize
    whole = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, whole + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + whole):
        assert _protect(page, PAGE, 0) == 0
    _kept.append(memory)
    offset = PAGE + (whole - size if BEHIND else 0)
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(tuple(shape))


def placed(x: Any) -> Any:
    memory = guarded(x.shape, x.dtype)
    memory[...] = x
    return memory


def linear() -> None:
    # Whole vectors, single numbers, rows with and without a rest, and the smallest problem.
    for shape in ((2, 37, 16), (2, 37, 3), (3, 272), (2, 128), (3, 45), (1, 1)):
        for dtype in ("float32", "float16"):
            random = np.random.default_rng(0)
            a = placed(coefficients(random, shape, dtype, "value"))
            b, g = (placed(numbers(random, shape, dtype)) for _ in range(2))
            state = state_of(b.dtype).name
            h0, g_final = (placed(numbers(random, without(shape, 1), state)) for _ in range(2))
            resets = placed(random.random(shape) < 0.1)
            for reverse in (False, True):
                for config in (SequentialConfig(), ChunkedConfig(segments=3)):
                    spec = Walk(1, reverse=reverse, convex=True)
                    h = placed(check_walk(spec, config, a, b, h0, resets)[0])
                    check_backward(spec, config, a, b, h0, resets, h, g, g_final)


def matrix() -> None:
    for n, k in ((3, 1), (4, 2), (4, 9)):
        random = np.random.default_rng(0)
        A = placed(matrices(random, (2, 11, n, n), "float32"))
        b = placed(numbers(random, (2, 11, n, k), "float32"))
        h0, g_final = (placed(numbers(random, (2, n, k), "float32")) for _ in range(2))
        resets = placed(random.random((2, 11, 1, 1)) < 0.1)
        for reverse in (False, True):
            for config in (SequentialConfig(), ChunkedConfig(segments=3)):
                check_matrix(MatrixWalk(1, reverse=reverse), config, A, b, h0, resets, g_final=g_final)


if __name__ == "__main__":
    cuda_memory.aligned = guarded
    linear()
    matrix()
