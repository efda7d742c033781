"""Small operations on one processor core: what a walk over the steps of a recurrence consists of.

PyTorch shares tanh of (256, 32) numbers among all threads, and MKL a product of that size. Each wait for the other threads then
costs as much as the work, and a scheduler's time slice where the cores are busy: 700 ms for a walk of 13.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

TILE = 1 << 14
"""A state of all rows with more numbers than this is shared among threads, as PyTorch likes."""
TILE_PRODUCTS = 1 << 20
"""The same for the multiplications of its product with a square matrix."""

WHOLE = 1 << 20
"""A problem with no more numbers in all its states is solved on one thread altogether."""
WHOLE_PRODUCTS = 1 << 25


def for_tile(state: torch.Tensor) -> Any:
    """The threads for operations on the state (rows, n) of one step of all rows."""
    rows, n = state.shape
    return _one(state, rows * n <= TILE and rows * n * n <= TILE_PRODUCTS)


def for_whole(state: torch.Tensor, steps: int) -> Any:
    """The threads for solving `steps` steps of states (batch, n)."""
    numbers, n = state.numel() * steps, state.shape[-1]
    return _one(state, numbers <= WHOLE and numbers * n <= WHOLE_PRODUCTS)


@contextmanager
def _one(state: torch.Tensor, small: bool) -> Iterator[None]:
    """One thread for the operations of this Python thread; nothing changes for any other."""
    library = _library() if small and state.device.type == "cpu" and torch.get_num_threads() > 1 else None
    if library is None:
        yield
        return
    # Not torch.set_num_threads, which also says how many threads the Python threads get that begin just now.
    before = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    before_mkl = library.MKL_Set_Num_Threads_Local(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(before)
        library.MKL_Set_Num_Threads_Local(before_mkl)


@cache
def _library() -> Any:
    """PyTorch's own library with the thread settings of OpenMP and MKL, or None where it has others."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so"))
        _ = library.omp_get_max_threads, library.omp_set_num_threads, library.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return None
    return library
