"""The memory of the host as `seqpar.fit_memory` reads it on Linux: the peak of what is resident of this process."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

from seqpar.errors import NotEligibleError

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where containers say how much they may have, in the second and the first version of control groups."""


class HostMemory:
    """Resident memory of the process, all of it: libraries and data count as well as what a step takes."""

    name = "the host"

    def limit(self) -> int:
        """What the machine has to spare and what the process has already, or what its container allows if that is less."""
        most = _kibibytes("/proc/meminfo", "MemAvailable") + _kibibytes("/proc/self/status", "VmRSS")
        for path in CGROUPS:
            try:
                text = Path(path).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                most = min(most, int(text))
        return most

    def start(self) -> None:
        gc.collect()
        # glibc keeps freed memory resident, up to whatever it was once.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
        except OSError as error:
            raise _unknown(error) from error

    def peak(self) -> int | None:
        return _kibibytes("/proc/self/status", "VmHWM")

    def release(self) -> None:
        """Nothing: `start` does."""


def _kibibytes(path: str, name: str) -> int:
    """A line of a file of /proc, in bytes."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    except OSError as error:
        raise _unknown(error) from error
    if found is None:
        raise _unknown(f"{path} has no {name}")
    return 1024 * int(found[1])


def _unknown(why: object) -> NotEligibleError:
    return NotEligibleError(
        f"fit_memory: how much memory of the host was in use at most is read from Linux's /proc, and cannot be here ({why}). "
        "Give measure=, a function that calls the function it is given and returns the bytes in use at most, and limit=."
    )
