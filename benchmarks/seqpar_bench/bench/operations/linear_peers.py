"""Everybody else who computes h[t] = a[t] * h[t-1] + b[t], by framework: its own ways first. Called by `linear`.

A loop in half precision loses its state, so each works in float32 there, and casts are part of its time. So is whatever else
seqpar does in its kernel: gates formed from logits, one coefficient repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar_bench import peers
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import torch_scan
from seqpar_bench.bench.operations.gpu_peers import gpu_scans
from seqpar_bench.bench.operations.operands import HALF
from seqpar_bench.bench.problem import Contestant, Problem

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.linear import Linear

Array = Any
Function = Callable[[Array, Array], Array]

LONGEST = {"numpy": 1 << 20, "torch": 1 << 16, "jax": 1 << 20, "cupy": 1 << 15}
"""Steps up to which a loop over time answers within seconds on a CPU."""
LONGEST_ON_GPU = {"torch": 1 << 16, "jax": 20_000, "cupy": 1 << 15}
"""Each step is at least one launch there."""


def peers_of(problem: Linear, frame: Frame) -> Iterator[Contestant]:
    for name, function, facts in _known(problem, frame):
        form = formed(problem, frame, function, gated=problem.gated, constant=problem.constant)
        yield Contestant(name=name, make=partial(problem.posed, frame, form), **facts)
    if frame.name == "torch" and frame.device == "cuda" and not (problem.gated or problem.constant):
        yield from gpu_scans(problem, frame)


def _known(problem: Linear, frame: Frame) -> Iterator[tuple[str, Function, dict[str, Any]]]:
    """Name, function, and what else a contestant is to know."""
    axis, own = problem.axis, own_loop(frame)
    if frame.name == "numpy" and problem.which == "forward":
        yield "NumPy loop", partial(peers.numpy_loop, axis=axis), own
        if problem.constant:
            yield "scipy.signal.lfilter", partial(_lfilter, axis), {}
    if frame.name == "torch":
        yield "torch loop, addcmul", partial(peers.torch_addcmul_loop, axis=axis), own
        yield "torch loop", partial(peers.torch_loop, axis=axis), own
        where = axis % len(problem.shape)
        yield torch_scan.EAGER, _second(partial(torch_scan.eager, _joined, where)), {}
        why = torch_scan.not_compiled(problem, frame)
        yield torch_scan.COMPILED, _second(torch_scan.compiled(_joined, where)), {"left_out": why}
    if frame.name == "jax":
        yield "jax.lax.scan", partial(peers.jax_scan, axis=axis), own
        yield "jax.lax.associative_scan", partial(peers.jax_associative_scan, axis=axis), {}
    if frame.name == "cupy" and problem.which == "forward":
        yield "CuPy loop", partial(peers.numpy_loop, axis=axis, xp=frame.module), own


def _lfilter(axis: int, a: Array, b: Array) -> Array:
    """SciPy's, whose results are of the widest dtype that it is given: here all are of one."""
    from scipy.signal import lfilter

    return lfilter(np.ones(1, b.dtype), np.array([1, -a[0]], b.dtype), b, axis=axis)


def own_loop(frame: Frame) -> dict[str, Any]:
    """What is said of every plain loop over time: it is an own way of its framework, up to so many steps."""
    return {"kind": "own", "longest": longest_loop(frame)}


def longest_loop(frame: Frame) -> int:
    """Steps up to which a loop over time takes part."""
    return (LONGEST if frame.device == "cpu" else LONGEST_ON_GPU)[frame.name]


def _joined(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    return left[0] * right[0], left[1] * right[0] + right[1]


def _second(scan: Callable[..., Any]) -> Function:
    """The states, of pairs whose other part are products of coefficients."""
    return lambda a, b: scan(a, b)[1]


def formed(
    problem: Problem, frame: Frame, function: Function, *, gated: bool = False, constant: bool = False
) -> Function:
    """A function of plain coefficients and inputs as one of the operands of a problem, in its dtype."""
    half = problem.dtype in HALF
    if not (half or gated or constant):
        return function
    xp: Any = frame.module.numpy if frame.name == "jax" else frame.module

    def call(a: Array, b: Array) -> Array:
        dtype = b.dtype
        if half:
            a, b = (_cast(x, xp.float32) for x in (a, b))
        if gated:
            a, b = _gate(frame, a), _gate(frame, -a) * b
        if constant and frame.name in ("torch", "jax"):
            a = xp.broadcast_to(a, b.shape)
        h = function(a, b)
        return _cast(h, dtype) if half else h

    return call


def _cast(x: Array, dtype: Any) -> Array:
    return x.astype(dtype) if hasattr(x, "astype") else x.to(dtype)


def _gate(frame: Frame, logit: Array) -> Array:
    if frame.name == "torch":
        return frame.module.sigmoid(logit)
    if frame.name == "jax":
        return frame.module.nn.sigmoid(logit)
    return 1 / (1 + frame.module.exp(-logit))
