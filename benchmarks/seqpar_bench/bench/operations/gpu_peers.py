"""Scans of others that have code for CUDA alone: what they are called, what they refuse, and the layout each wants.

Called by `linear_peers` and by the GPU check (`seqpar_bench.gpu.peers`). Their layouts are made beforehand and not timed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.operands import HALF
from seqpar_bench.bench.problem import Call, Contestant

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.linear import Linear

Array = Any
Function = Callable[[Array, Array], Array]
Find = Callable[[str], Any]
"""Of a module by its name."""

SCANS = ("warp", "scalar")
"""Of accelerated_scan: (batch, features, time), contiguous."""
HGRNS = ("chunk_hgrn", "fused_recurrent_hgrn")
"""Of fla: (batch, time, features), and the logarithms of coefficients."""
LONGEST_WARP = 65_536


def refused_by_scan(name: str, steps: int, dtype: str) -> str:
    """Why one of accelerated_scan's cannot run, "" if it can."""
    if dtype.startswith("complex"):
        return "takes no complex numbers"
    if name == "warp" and (steps > LONGEST_WARP or steps < 32 or steps & (steps - 1)):
        return f"takes 32 to {LONGEST_WARP} steps, powers of two"
    if name == "warp" and dtype in HALF:
        return "left an H200 with an illegal memory access in bfloat16 (0.3.1), and every later call with it"
    return ""


def refused_by_hgrn(dtype: str) -> str:
    """Why fla's cannot run, "" if they can."""
    return "takes no complex numbers" if dtype.startswith("complex") else ""


def accelerated_scan(name: str, there: Find = importlib.import_module) -> Function:
    """A function of a and b, time last."""
    return there(f"accelerated_scan.{name}").scan  # type: ignore[no-any-return]


def hgrn(name: str, there: Find = importlib.import_module) -> Function:
    """A function of log a and b, features last."""
    function = getattr(there("fla.ops.hgrn"), name)
    return lambda log_a, b: function(b, log_a)[0]


def cupy_loop(a: Array, b: Array, axis: int = -2) -> Array:
    """One multiply and one add per step, over all rows at once, into preallocated memory."""
    import cupy

    h = cupy.empty_like(b)
    coefficients, inputs, states = (cupy.moveaxis(x, axis, 0) for x in (cupy.broadcast_to(a, b.shape), b, h))
    state = cupy.zeros_like(inputs[0])
    for t in range(len(inputs)):
        state = coefficients[t] * state
        state += inputs[t]
        states[t] = state
    return h


def cupy_matrix_loop(A: Array, b: Array) -> Array:
    """One batched matrix product and one sum per step: A (batch, time, n, n), b (batch, time, n)."""
    import cupy

    h = cupy.empty_like(b)
    state = cupy.zeros((b.shape[0], b.shape[2], 1), b.dtype)
    for t in range(b.shape[1]):
        state = A[:, t] @ state + b[:, t, :, None]
        h[:, t] = state[..., 0]
    return h


def gpu_scans(problem: Linear, frame: Frame) -> Iterator[Contestant]:
    """The contestants among them, for operands (batch, time, features) or (batch, features, time) of PyTorch."""
    time_last = problem.axis == -1
    three = "" if len(problem.shape) == 3 else "takes arrays with three axes"
    steps, dtype = problem.length, problem.dtype

    @functools.cache
    def swapped() -> tuple[Array, ...]:
        given = (*problem.arrays(frame), *frame.arrays(problem.cotangents, dtype))
        return tuple(x.transpose(1, 2).contiguous() for x in given)

    def made(function: Callable[..., Array], swap: bool, logarithmic: bool) -> Call:
        if swap:
            a, b, g = swapped()
        else:
            (a, b), (g,) = problem.arrays(frame), frame.arrays(problem.cotangents, dtype)
        if logarithmic:
            a = a.log()
        if problem.which == "forward":
            return frame.forward(function, a, b)
        return frame.gradient(function, (a, b), (g,))

    def restored(swap: bool, logarithmic: bool, results: Sequence[Array]) -> tuple[Array, ...]:
        found = tuple(x.transpose(1, 2) if swap else x for x in results)
        if logarithmic and problem.which == "gradient":
            # d/da = (d / d log a) / a, and not in half precision, whose rounding would be ours.
            a = problem.arrays(frame)[0]
            return (found[0].float() / a.float(), *found[1:])
        return found

    for name in SCANS:
        swap = not time_last
        yield Contestant(
            name=f"accelerated_scan.{name}",
            make=partial(lambda name, swap: made(accelerated_scan(name), swap, False), name, swap),
            read=partial(restored, swap, False),
            requires=("accelerated_scan",),
            install="accelerated-scan",
            left_out=three or refused_by_scan(name, steps, dtype),
        )
    for name in HGRNS:
        yield Contestant(
            name=f"fla {name}",
            make=partial(lambda name: made(hgrn(name), time_last, True), name),
            read=partial(restored, time_last, True),
            requires=("fla",),
            install="fla-core",
            left_out=three or refused_by_hgrn(dtype),
        )
