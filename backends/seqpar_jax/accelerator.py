"""Waiting for arrays of JAX, how much memory of a device its allocator had in use at most, and the device's profile."""

from typing import Any

import jax
from jax._src import xla_bridge

from seqpar.dispatch.gpu_profile import gpu_profile
from seqpar.dispatch.profile import HardwareProfile, host_profile, version
from seqpar.errors import NotEligibleError

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


def finish(x: jax.Array | None) -> None:
    if x is not None:
        x.block_until_ready()
    elif _in_use():
        # JAX waits for arrays, not for devices: those alive are all that a step can have left behind.
        for y in jax.live_arrays():
            y.block_until_ready()


def memory_of(where: Any) -> "AllocatorMemory | None":
    if where is None:
        if not _in_use() or not jax.live_arrays():
            return None
        where = jax.local_devices()[0]
    if isinstance(where, jax.Array):
        # Of an array on several devices each has a part, all alike as a rule.
        where = where.addressable_shards[0].device
    return None if where.platform == "cpu" else AllocatorMemory(where)


def profile(device: str) -> HardwareProfile | None:
    """The host, or JAX's first GPU of NVIDIA; other devices have no kernels to tune."""
    tools = (("jaxlib", version("jaxlib")),)
    if device == "cpu":
        return host_profile(tools)
    found = next((one for one in jax.local_devices() if one.platform == "gpu"), None)
    if device != "cuda" or found is None:
        return None
    compilers = (("triton", version("triton")), ("jax-triton", version("jax-triton")))
    return gpu_profile(found.local_hardware_id or 0, (*tools, *compilers))


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) and any(x in str(error) for x in OUT_OF_MEMORY)


def _in_use() -> bool:
    """Has anything run yet? Asking JAX for its devices would set them up, and take most of a GPU's memory."""
    known = getattr(xla_bridge, "backends_are_initialized", None)
    return True if known is None else bool(known())


class AllocatorMemory:
    """The allocator's statistics of one device. Its peak cannot be forgotten: only what exceeds all before is seen."""

    def __init__(self, device: jax.Device) -> None:
        self.device = device
        self.name = f"jax on {device}"
        self._before = 0

    def limit(self) -> int:
        return int(self._statistics()["bytes_limit"])

    def start(self) -> None:
        finish(None)
        self._before = int(self._statistics()["peak_bytes_in_use"])

    def peak(self) -> int | None:
        finish(None)
        found = int(self._statistics()["peak_bytes_in_use"])
        return found if found > self._before else None

    def release(self) -> None:
        """Nothing: what arrays have left, others can have."""

    def _statistics(self) -> dict[str, int]:
        found: dict[str, int] | None = self.device.memory_stats()
        if not found or "peak_bytes_in_use" not in found or "bytes_limit" not in found:
            raise NotEligibleError(
                f"fit_memory: JAX counts no memory on {self.device} (XLA_PYTHON_CLIENT_ALLOCATOR=platform switches that off). "
                "Give measure=, a function that runs a step and returns the bytes in use at most, and limit=."
            )
        return found
