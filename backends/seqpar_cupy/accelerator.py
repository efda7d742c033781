"""Waiting for a GPU, how much of its memory the pool of CuPy had at most, and its profile."""

from typing import Any

import cupy

from seqpar.dispatch.gpu_profile import gpu_profile
from seqpar.dispatch.profile import HardwareProfile, minor

ALLOCATION_FAILED = ("cudaErrorMemoryAllocation", "_STATUS_ALLOC_FAILED")
"""How errors of CUDA's runtime and libraries say so; the pool's own is a builtin MemoryError."""


def finish(x: Any | None) -> None:
    if x is not None:
        with cupy.cuda.Device(x.device.id):
            cupy.cuda.runtime.deviceSynchronize()
    elif _pool().total_bytes():
        cupy.cuda.runtime.deviceSynchronize()


def memory_of(where: Any) -> "PoolMemory | None":
    if where is None:
        return PoolMemory(cupy.cuda.Device().id) if _pool().total_bytes() else None
    return PoolMemory(where.device.id if isinstance(where, cupy.ndarray) else cupy.cuda.Device(where).id)


def profile(device: str) -> HardwareProfile | None:
    """The GPU in use, with the compiler that CuPy brought."""
    if device != "cuda":
        return None
    compiler = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    return gpu_profile(cupy.cuda.Device().id, (("cupy", minor(cupy.__version__)), ("nvrtc", compiler)))


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in ALLOCATION_FAILED)


class Events:
    """Events of CUDA around calls, in the stream in use on a device."""

    def __init__(self, number: int) -> None:
        self._number = number
        with cupy.cuda.Device(number):
            self._first, self._last = cupy.cuda.Event(), cupy.cuda.Event()

    def start(self, calls: int) -> None:
        with cupy.cuda.Device(self._number):
            self._first.record()

    def stop(self) -> float:
        with cupy.cuda.Device(self._number):
            self._last.record()
            self._last.synchronize()
            return float(cupy.cuda.get_elapsed_time(self._first, self._last)) / 1e3


class PoolMemory:
    """The default pool on one device: emptied before a step, it holds at the end what the step needed at most."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"cupy on device {number}"

    def limit(self) -> int:
        with cupy.cuda.Device(self.number):
            free, _ = cupy.cuda.runtime.memGetInfo()
            most = int(free) + int(_pool().total_bytes())
            own = int(_pool().get_limit())
            return min(most, own) if own else most

    def start(self) -> None:
        with cupy.cuda.Device(self.number):
            cupy.cuda.runtime.deviceSynchronize()
            _pool().free_all_blocks()

    def peak(self) -> int | None:
        with cupy.cuda.Device(self.number):
            cupy.cuda.runtime.deviceSynchronize()
            return int(_pool().total_bytes())

    def release(self) -> None:
        with cupy.cuda.Device(self.number):
            _pool().free_all_blocks()


def _pool() -> Any:
    return cupy.get_default_memory_pool()
