"""Memory to measure and to verify on: sets of operands that no cache holds, and results that begin as NaN between guards."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.dispatch.profile import HardwareProfile

from .workload import Workload

CACHES = 3
"""Times the last-level cache that all sets together take: with two, a part of the first is still there."""
MOST_BYTES = 1 << 29
"""Caches of servers are reported whole, while one program has a share: 3 x 260 MB would only take time to fill."""
MOST_SETS = 64
"""What is smaller than a 64th of that is in a cache in use as well: it has just been computed."""
UNKNOWN = 32 << 20
GUARD = 256
"""Numbers in front of results and behind them; a multiple of what any kernel loads at once, so that results stay aligned."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def rotation(workload: Workload, seed: int, cache: int) -> list[tuple[Array | None, ...]]:
    """Sets of operands to be used in turns: a caller's arrays come from elsewhere, not from the call before."""
    return [workload.arrays(seed + i) for i in range(sets_needed(workload.nbytes, cache))]


def sets_needed(bytes_of_one: int, cache: int) -> int:
    """How many sets together are larger than the cache.

    >>> sets_needed(8 << 20, cache=32 << 20), sets_needed(1 << 30, cache=32 << 20), sets_needed(100, cache=32 << 20)
    (12, 1, 64)
    """
    wanted = min(CACHES * cache, MOST_BYTES)
    return max(1, min(-(-wanted // max(bytes_of_one, 1)), MOST_SETS))


def cache_of(profile: HardwareProfile | None) -> int:
    """Bytes of the last-level cache that a profile tells: "L3" as Linux has it ("32768K"), "L2" of a GPU in bytes."""
    facts = {} if profile is None else dict(profile.facts)
    levels = sorted(name for name in facts if re.fullmatch(r"L\d", name))
    found = re.fullmatch(r"(\d+)([KMG]?)", str(facts[levels[-1]])) if levels else None
    return int(found[1]) * _UNITS[found[2]] if found else UNKNOWN


class Guarded:
    """A binding whose empty memory is NaN, between guards: what a kernel leaves unwritten shows, and what it writes beside it.

    Leftovers of another candidate in the same memory have hidden wrong kernels (triton#9230).
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._given: list[tuple[Array, Any, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding, name)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        count = int(np.prod(shape, dtype=int))
        filling = poison(dtype)
        memory = self._binding.full(filling, (count + 2 * GUARD,), dtype, like)
        self._given.append((memory, filling, count))
        return memory[GUARD : GUARD + count].reshape(shape)

    def forget(self) -> None:
        """Of memory that was given so far nothing more is asked."""
        self._given.clear()

    def overrun(self) -> bool:
        """Was anything written in front of the memory given, or behind it?"""
        on_host = self._binding.on_host
        return any(
            not np.array_equal(on_host(edge), np.full(GUARD, filling), equal_nan=edge_is_float(filling))
            for memory, filling, count in self._given
            for edge in (memory[:GUARD], memory[GUARD + count :])
        )


def poison(dtype: str) -> Any:
    """What memory is filled with before a kernel writes: NaN, or a number that no result has by chance.

    >>> poison("float32"), poison("bool"), poison("int64")
    (nan, True, 99)
    """
    if dtype == "bool":
        return True
    return float("nan") if dtype.startswith(("float", "bfloat", "complex")) else 99


def edge_is_float(filling: Any) -> bool:
    return isinstance(filling, float)


def on_host(binding: Binding, arrays: Sequence[Array | None]) -> list[Any]:
    """Copies of the numbers, of bfloat16 in float32."""
    return [None if x is None else np.array(binding.on_host(x)) for x in arrays]
