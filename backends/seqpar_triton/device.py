"""What a grid depends on, probed from the device at hand."""

from functools import cache
from typing import NamedTuple

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
    return _probed(triton.runtime.driver.active.get_current_device())


@cache
def _probed(index: int) -> Device:
    facts = triton.runtime.driver.active.utils.get_device_properties(index)
    # Two transfers per clock; the rates are in kHz, the width of the bus in bits.
    bandwidth = 2.0 * facts["mem_clock_rate"] * 1e3 * facts["mem_bus_width"] / 8
    return Device(facts["multiprocessor_count"], facts["max_shared_mem"], bandwidth)
