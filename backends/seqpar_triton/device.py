"""What a grid depends on, probed from the device at hand."""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import triton

from seqpar_triton.program import interpreted


class Device(NamedTuple):
    """A GPU: multiprocessors, shared memory that one program may use, bytes per second of its memory."""

    processors: int
    shared_bytes: int
    bandwidth: float


NOMINAL = Device(processors=132, shared_bytes=227 << 10, bandwidth=3.35e12)
"""What is assumed where there is no GPU to ask, in tables of what would run on one: about an H100."""


def current_device() -> Device:
    """The device that kernels are launched on now."""
    if interpreted():
        return Device(processors=4, shared_bytes=1 << 16, bandwidth=1e11)
    try:
        index = triton.runtime.driver.active.get_current_device()
    except RuntimeError:  # Triton asks PyTorch, and there may be none, or one without CUDA, beside JAX
        return of_driver()
    return _probed(index)


@cache
def _probed(index: int) -> Device:
    facts = triton.runtime.driver.active.utils.get_device_properties(index)
    # Two transfers per clock; the rates are in kHz, the width of the bus in bits.
    bandwidth = 2.0 * facts["mem_clock_rate"] * 1e3 * facts["mem_bus_width"] / 8
    return Device(facts["multiprocessor_count"], facts["max_shared_mem"], bandwidth or NOMINAL.bandwidth)


ATTRIBUTES = {
    "MULTIPROCESSOR_COUNT": 16,
    "MEMORY_CLOCK_RATE": 36,
    "GLOBAL_MEMORY_BUS_WIDTH": 37,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 97,
}
"""By the names they have in cuda.h, behind CU_DEVICE_ATTRIBUTE_."""


@cache
def of_driver() -> Device:
    """The same of the first device, as CUDA's driver says; raises OSError where there is none."""
    driver, device, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_int()

    def asked(function: str, *given: Any) -> None:
        if code := getattr(driver, function)(*given):
            raise OSError(f"of_driver: {function} returned {code}")

    asked("cuInit", 0)
    asked("cuDeviceGet", ctypes.byref(device), 0)
    facts = {}
    for name, attribute in ATTRIBUTES.items():
        asked("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        facts[name] = number.value
    bandwidth = 2.0 * facts["MEMORY_CLOCK_RATE"] * 1e3 * facts["GLOBAL_MEMORY_BUS_WIDTH"] / 8
    return Device(
        facts["MULTIPROCESSOR_COUNT"],
        facts["MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"],
        bandwidth or NOMINAL.bandwidth,
    )
