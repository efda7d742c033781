"""The search of `seqpar.plan_buckets` as a choice sees it: compiled, on NumPy arrays."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqpar.dispatch.problem import Kernel, Problem

Array = Any


class Buckets(Kernel):
    """32 buckets of 12,258 lengths take 6 ms, and 320 on Python's lists."""

    operation = "plan_buckets"
    backend = "host"
    method = "hull"
    form = "arrays"
    summary = "any number of buckets and lengths; the reference's loops, compiled"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.device != "cpu" or problem.framework != "numpy":
            return f"works on NumPy arrays, and these are {problem.framework}'s on {problem.device}"
        if set(problem.dtypes) != {"float64"}:
            return f"works in float64, and the operands are {', '.join(map(str, problem.dtypes))}"
        return None

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        from seqpar_host.compile import buckets_address

        price, before = (np.ascontiguousarray(x, np.float64) for x in operands if x is not None)
        groups, queue = len(price), np.empty(len(price), np.int64)
        free = spec.extra is not None
        arrays: tuple[Array, ...]
        if free:
            best, first = np.empty(groups + 1), np.empty(groups, np.int64)
            arrays = (price, before, np.asarray([spec.extra], np.float64), best, first, queue)
        else:
            # Zeros: of q buckets the first q - 1 groups have no cuts.
            curve, first = np.empty(spec.buckets), np.zeros((spec.buckets, groups), np.int64)
            arrays = (price, before, curve, first, np.empty((2, groups)), queue)
        words = np.asarray([groups, spec.buckets, *(x.ctypes.data for x in arrays)], np.int64)
        # ctypes lets other Python threads run meanwhile.
        _FUNCTION(buckets_address(free))(words.ctypes.data)
        return (best[-1:], first) if free else (curve, first)


_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
