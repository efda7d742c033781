"""Compile kernels on first use, or load them from numba's cache on disk."""

import ctypes
import threading
from functools import cache
from typing import Any

import numba
from numba import types

from seqpar_host import launch as launching
from seqpar_host import walk
from seqpar_host.job import Job, Specialisation

_lock = threading.RLock()
_kept: list[Any] = []  # machine code lives as long as the object that compiled it


def _compile(function: Any, *arguments: Any) -> int:
    # error_model: no check for division by zero, so no exception and no way back into Python.
    compiled = numba.cfunc(types.int64(*arguments), cache=True, error_model="numpy")(function)
    _kept.append(compiled)
    return int(compiled.address)


@cache
def kernel_address(specialisation: Specialisation) -> int:
    with _lock:
        return _compile(walk.kernel, Job(specialisation))


@cache
def worker_address() -> int:
    with _lock:
        return _compile(launching.worker, types.int64)


@cache
def launch_address() -> int:
    with _lock:
        return _compile(launching.launch, *[types.int64] * (2 + launching.MOST_SLOTS))


@cache
def launcher() -> Any:
    """launch(plan, threads, pointers...) as a C function: it lets other Python threads run meanwhile."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * (2 + launching.MOST_SLOTS))(launch_address())
