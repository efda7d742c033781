"""The walk with time cut into chunks that are walked at once, for a few long rows on many cores.

A chunk takes the state k before it to  product * k + local,  with the product of its coefficients (0 if it holds a reset)
and its final state from a start of zero. So: find both for all chunks at once, go over the chunks, and walk them all again
from the right starts. The length of a chunk is a knob and never follows the number of threads: results do not depend on it.

Products of float32 states are float64 and cannot overflow before the states do. Where a product, a local state or the state
before is not finite, that chunk is walked anew from the state before it, in order, so the definition decides. A limit that
remains: within a chunk, a product of float64 coefficients below 1e-308 counts as 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.problem import Launch, Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar_host.compile import launcher
from seqpar_host.configs import ChunkedConfig
from seqpar_host.formats import FORMATS
from seqpar_host.job import WALK
from seqpar_host.launch import MOST_SLOTS
from seqpar_host.plan import Part, Plan, make_plan
from seqpar_host.threads import thread_limit

Array = npt.NDArray[Any]


def bind(walk: Walk, config: ChunkedConfig, layouts: Sequence[Layout | None]) -> Launch:
    """A launch of (addresses of a, b, h0, resets, h, final; threads) for these layouts."""
    a, b, h0, resets, h, final = layouts
    assert a is not None and b is not None and h is not None and final is not None
    shape, edge = h.shape, final.shape
    steps = shape[walk.axis]
    length = min(config.chunk, max(1, steps))
    # The last chunk, whole or not, ends in the results' own final state.
    count = max(0, (steps - 1) // length)
    format = FORMATS[b.dtype]
    state = np.dtype(format.state_name)
    wide = np.dtype(np.complex128 if format.complex else np.float64)

    def of_chunks(number: int, dtype: np.dtype[Any]) -> Layout:
        return row_major((number, *edge), dtype.name)

    def one_number(rank: int, dtype: np.dtype[Any]) -> Layout:
        return Layout((1,) * rank, (0,) * rank, dtype.name)

    def plan(spec: Walk, given: Sequence[Layout | None], first: int, size: int, number: int) -> Plan:
        return make_plan("walk", spec, given, shape, Part(first, size, number))

    first = None if h0 is None else Layout((1, *h0.shape), (0, *h0.strides), h0.dtype)
    local = plan(walk, [a, b, None, resets, None, of_chunks(count, state)], 0, length, count)
    product = plan(
        walk._replace(convex=False),
        [a, one_number(len(shape), wide), one_number(len(shape), wide), resets, None, of_chunks(count, wide)],
        0,
        length,
        count,
    )
    begin = plan(walk, [a, b, first, resets, None, of_chunks(1, state)], 0, 0, 1)
    again = plan(walk, [a, b, of_chunks(count, state), resets, h, of_chunks(count, state)], 0, length, count)
    ends = Layout((1, *edge), (0, *final.strides), final.dtype)
    rest = plan(walk, [a, b, of_chunks(1, state), resets, h, ends], count * length, steps - count * length, 1)

    def one_chunk(index: int) -> Plan:
        return plan(
            walk, [a, b, of_chunks(1, state), resets, None, of_chunks(1, state)], index * length, length, 1
        )

    run, zero, one = launcher(), np.zeros((), wide), np.ones((), wide)
    absent = (0,) * (MOST_SLOTS - len(WALK))

    def launch(addresses: Sequence[int], threads: int | None = None) -> None:
        limit = thread_limit(threads)
        at_a, at_b, at_h0, at_resets, at_h, at_final = addresses

        def start(of: Plan, *pointers: int) -> None:
            run(of.address, min(of.threads, limit), *pointers, *absent)

        starts = np.zeros((count + 1, *edge), state)
        locals_, products = np.empty((count, *edge), state), np.empty((count, *edge), wide)
        if at_h0:
            start(begin, at_a, at_b, at_h0, at_resets, 0, starts.ctypes.data)
        start(local, at_a, at_b, 0, at_resets, 0, locals_.ctypes.data)
        start(product, at_a, zero.ctypes.data, one.ctypes.data, at_resets, 0, products.ctypes.data)
        with np.errstate(all="ignore"):
            for index in range(count):
                before, after = starts[index : index + 1], starts[index + 1 : index + 2]
                after[...] = products[index] * before + locals_[index]
                if not (np.isfinite(before).all() and np.isfinite(after).all()):
                    start(one_chunk(index), at_a, at_b, before.ctypes.data, at_resets, 0, after.ctypes.data)
        start(again, at_a, at_b, starts.ctypes.data, at_resets, at_h, locals_.ctypes.data)
        start(rest, at_a, at_b, starts[count:].ctypes.data, at_resets, at_h, at_final)

    return launch
