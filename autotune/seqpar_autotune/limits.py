"""What physics allows: the time in which a device's memory can be read and written as often as a call has to.

Called by the tuner, for its table and for ending a search that is near enough. The bandwidth is measured, by copying, when it
is first asked for: data sheets say what memory could do, not what programs get.
"""

import math
import time
from functools import cache

import numpy as np

from seqpar.dispatch.frameworks import binding_named

from .workload import Workload, itemsize

DEVICE_BYTES = 1 << 28
ROUNDS = 7


def least_bytes(workload: Workload) -> int:
    """Bytes that any method has to move: every operand is read once, every result is written once.

    >>> import numpy as np, seqpar
    >>> ones = np.ones((4, 100, 8), np.float32)
    >>> least_bytes(Workload.of(seqpar.linear_recurrence, ones, ones)) == 3 * ones.nbytes + ones[:, 0].nbytes
    True
    """
    results = workload.rules.raw(workload.static, workload.metas)
    return workload.nbytes + sum(math.prod(x.shape) * itemsize(x.dtype) for x in results)


def least_seconds(workload: Workload) -> float | None:
    """The time that takes at the bandwidth of a copy on its device; None where that is no bound or cannot be measured.

    The memory of a host is behind caches that hold whole calls, and is shared with neighbours: no bound there.
    """
    speed = copy_bandwidth(workload.framework, workload.device)
    return None if speed is None else least_bytes(workload) / speed


def copy_bandwidth(framework: str, device: str) -> float | None:
    """Bytes read and written per second by a large copy; None on a CPU."""
    if device == "cpu":
        return None
    try:
        return _of_device(framework, device)
    except (
        Exception
    ):  # no memory left for it, a device that is busy or gone: then the table has no such column
        return None


@cache
def _of_device(framework: str, device: str) -> float:
    binding = binding_named(framework)
    numbers = np.zeros(1, np.float32)
    source = binding.placed(np.broadcast_to(numbers, (1,)), "float32", (1,), (1,), device)
    source = binding.full(1.0, (DEVICE_BYTES // 4,), "float32", source)
    xp = binding.namespace(source)

    def once(copies: int = 8) -> float:
        binding.finish(source)
        start = time.perf_counter()
        for _ in range(copies):
            target = xp.asarray(source, copy=True)
        binding.finish(target)
        return (time.perf_counter() - start) / copies

    once()
    return 2 * DEVICE_BYTES / min(once() for _ in range(ROUNDS))
