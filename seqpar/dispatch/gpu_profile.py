"""The profile of an NVIDIA GPU, asked of CUDA's driver, so that every framework files its results under the same facts.

Bindings call `gpu_profile` with the number of the device in use; `seqpar info` lists `gpus()`, which imports no framework.
On a machine with unlike GPUs a process has the profile of the one that was in use when the first choice was made.
"""

import ctypes
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from seqpar.dispatch.profile import Facts, HardwareProfile, Tools, version

ATTRIBUTES = {
    "processors": 16,
    "shared_memory": 97,
    "L2": 38,
    "registers": 82,
    "major": 75,
    "minor": 76,
}
"""Numbers of CUdevice_attribute in cuda.h: MULTIPROCESSOR_COUNT, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, L2_CACHE_SIZE, ..."""


def gpu_profile(number: int, tools: Tools = ()) -> HardwareProfile | None:
    """The profile of the device of that number among the visible ones; None where there is no such device or no driver."""
    found = _probed(number)
    if found is None:
        return None
    name, facts = found
    return HardwareProfile(
        device="cuda", name=name, facts=facts, tools=(("seqpar", version("seqpar")), *tools)
    )


def gpus() -> list[HardwareProfile]:
    """Every visible GPU. CUDA's driver is set up in this process by asking."""
    driver = _driver()
    if driver is None:
        return []
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = [gpu_profile(number) for number in range(count.value)]
    return [profile for profile in found if profile is not None]


@cache
def _probed(number: int) -> tuple[str, Facts] | None:
    driver = _driver()
    device, memory, cuda = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    if (
        driver is None
        or driver.cuDeviceGet(ctypes.byref(device), number)
        or driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        or driver.cuDriverGetVersion(ctypes.byref(cuda))
    ):
        return None
    asked = {}
    for word, attribute in ATTRIBUTES.items():
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        asked[word] = value.value
    facts: Facts = (
        ("compute_capability", f"{asked.pop('major')}.{asked.pop('minor')}"),
        *asked.items(),
        # In GiB: what the driver keeps for itself differs from machine to machine.
        ("memory", f"{round(memory.value / 2**30)}G"),
        ("driver", _driver_branch()),
        ("cuda", f"{cuda.value // 1000}.{cuda.value % 1000 // 10}"),
    )
    return name.value.decode(errors="replace"), facts


@cache
def _driver() -> Any:
    """CUDA's driver, ready to be asked; None where there is none or no device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return None if driver.cuInit(0) else driver
    except (OSError, AttributeError):
        return None


def _driver_branch() -> str:
    """The driver's major version ("580"), "" where the system does not tell it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    found = re.search(r"\s(\d{3,})\.\d+", text)
    return found.group(1) if found else ""
