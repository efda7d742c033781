"""Compile kernels on first use, or load them from numba's cache on disk."""

import ctypes
import threading
from functools import cache
from typing import Any

import numba
from numba import types

from seqpar_host import handle as handling
from seqpar_host import launch as launching
from seqpar_host import walk
from seqpar_host.job import Address, Job, Specialisation

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
        return _compile(launching.worker, Address("call"))


@cache
def handle_address() -> int:
    with _lock:
        return _compile(handling.handle, types.int64, Address("target"))


@cache
def launcher() -> Any:
    """launch(plan, threads, pointers...) as a C function: it lets other Python threads run meanwhile."""
    integers = 1 + launching.MOST_SLOTS
    with _lock:
        address = _compile(launching.launch, Address("plan"), *[types.int64] * integers)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * (1 + integers))(address)
