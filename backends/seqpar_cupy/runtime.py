"""Compilation and launches by CuPy.

CuPy compiles with -ftz=true, whatever it is asked for: as in its own operations, single-precision numbers below 2**-126 are 0.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from seqpar_cupy.program import Function
from seqpar_cupy.source import part

USUAL_MULTIPROCESSORS = 132


class CupyRuntime:
    """CuPy on the current device and its current stream. CuPy compiles a source once per device and keeps it on disk."""

    device = "cuda"

    def multiprocessors(self) -> int:
        # Choices are explained, and listed in the documentation, on machines without a GPU too.
        return _multiprocessors(_current_device()) if _present() else USUAL_MULTIPROCESSORS

    def function(self, source: str) -> Function:
        return _function(source)


@cache
def _present() -> bool:
    """Is there CuPy, and a device?"""
    if find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


def _current_device() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDevice())


@cache
def _multiprocessors(device: int) -> int:
    import cupy

    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


@cache
def _function(source: str) -> Function:
    import cupy

    module = cupy.RawModule(code=f"{part('device')}\n{source}", options=("-std=c++17", "--fmad=true"))
    kernel = module.get_function("kernel")

    def function(grid: tuple[int, int, int], threads: int, shared: int, words: Any) -> None:
        # A NumPy array of one element is passed by value.
        kernel(grid, (threads, 1, 1), (words.view(np.dtype((np.void, words.nbytes))),), shared_mem=shared)

    return function
