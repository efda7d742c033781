"""The loops of `seqpar.algorithms.bucketing`, compiled as they stand: functions of the address of some words.

Words: how many groups and how many buckets there are, and then the addresses of the arrays that the loops take, in their order.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys

from seqpar.algorithms import bucketing
from seqpar_host.job import number
from seqpar_host.memory import get
from seqpar_host.untyped import carray, intrinsic_of, njit

_compiled = njit(error_model="numpy")
_cheapest_cuts = _compiled(bucketing.cheapest_cuts)
_cheapest_number = _compiled(bucketing.cheapest_number)


@intrinsic_of
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer, for `carray`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def start_runtime() -> None:
    """What counts references to arrays: code with arrays looks for it, and a kernel loaded from the cache starts nothing."""
    runtime: Any = rtsys
    runtime.initialize(cpu_target.target_context)


def cuts(call: Any) -> int:
    """`cheapest_cuts`."""
    words = number(call)
    groups, buckets = get(words, 0), get(words, 1)
    _cheapest_cuts(
        carray(pointer(get(words, 2)), (groups,), np.float64),
        carray(pointer(get(words, 3)), (groups + 1,), np.float64),
        carray(pointer(get(words, 4)), (buckets,), np.float64),
        carray(pointer(get(words, 5)), (buckets, groups), np.int64),
        carray(pointer(get(words, 6)), (2, groups), np.float64),
        carray(pointer(get(words, 7)), (groups,), np.int64),
    )
    return 0


def free_cuts(call: Any) -> int:
    """`cheapest_number`; the price of a bucket is in an array of one."""
    words = number(call)
    groups = get(words, 0)
    _cheapest_number(
        carray(pointer(get(words, 2)), (groups,), np.float64),
        carray(pointer(get(words, 3)), (groups + 1,), np.float64),
        carray(pointer(get(words, 4)), (1,), np.float64)[0],
        carray(pointer(get(words, 5)), (groups + 1,), np.float64),
        carray(pointer(get(words, 6)), (groups,), np.int64),
        carray(pointer(get(words, 7)), (groups,), np.int64),
    )
    return 0
