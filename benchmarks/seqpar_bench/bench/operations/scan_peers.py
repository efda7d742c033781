"""Everybody else who computes a scan, by framework: its own ways first. Called by `scans`.

A framework's own ways are its cumulative function, where it has one for the monoid, and a loop over time in NumPy and CuPy;
without such a function JAX's `associative_scan`, and the prototype of PyTorch, eager or compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import torch_scan
from seqpar_bench.bench.operations.linear_peers import own_loop
from seqpar_bench.bench.problem import Contestant
from seqpar_bench.peers import time_first

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.scans import Scan

Array = Any
Function = Callable[..., Any]


def peers_of(problem: Scan, frame: Frame) -> Iterator[Contestant]:
    if problem.which == "gradient" and not frame.differentiates:
        return
    for name, function, facts in _known(problem, frame):
        yield Contestant(name=name, make=partial(problem.posed, frame, function), **facts)


def _known(problem: Scan, frame: Frame) -> Iterator[tuple[str, Function, dict[str, Any]]]:
    """Name, function of the leaves, and what else a contestant is to know."""
    combine, axis, module = problem.of.combine, problem.axis, frame.module
    own: dict[str, Any] = {"kind": "own"}
    if frame.name == "numpy":
        if problem.monoid == "add":
            yield "np.cumsum", partial(module.cumsum, axis=axis), own
        elif problem.of.ufunc is not None:
            accumulate = problem.of.ufunc.accumulate
            yield f"np.{problem.monoid}.accumulate", partial(accumulate, axis=axis), own
        yield "NumPy loop", partial(loop, module, combine, axis), own_loop(frame)
    if frame.name == "cupy":
        if problem.monoid == "add":
            yield "cupy.cumsum", partial(module.cumsum, axis=axis), own
        yield "CuPy loop", partial(loop, module, combine, axis), own_loop(frame)
    if frame.name == "torch":
        name = {"add": "cumsum", "logaddexp": "logcumsumexp"}.get(problem.monoid)
        if name:
            yield f"torch.{name}", partial(getattr(module, name), dim=axis), own
        mine = {} if name else own
        yield torch_scan.EAGER, partial(torch_scan.eager, combine, axis), mine
        if problem.of.pointwise:
            why = torch_scan.not_compiled(problem, frame)
            yield torch_scan.COMPILED, torch_scan.compiled(combine, axis), {**mine, "left_out": why}
    if frame.name == "jax":
        if problem.monoid == "add":
            yield "jnp.cumsum", partial(module.numpy.cumsum, axis=axis), own
        elif problem.monoid == "logaddexp":
            yield "jax.lax.cumlogsumexp", partial(module.lax.cumlogsumexp, axis=axis), own
        mine = {} if problem.monoid in ("add", "logaddexp") else own
        yield "jax.lax.associative_scan", partial(jax_associative_scan, combine, axis), mine


def loop(xp: Any, combine: Function, axis: int, *leaves: Array) -> tuple[Array, ...]:
    """One combination per step, over all rows at once, into preallocated memory; of copies, where time is the last axis."""
    given = [time_first(x, axis, xp) for x in leaves]
    found = [xp.empty_like(x) for x in given]
    state = tuple(x[0] for x in given)
    for t in range(len(given[0])):
        if t:
            step = tuple(x[t] for x in given)
            state = combine(state, step) if len(given) > 1 else (combine(state[0], step[0]),)
        for out, x in zip(found, state, strict=True):
            out[t] = x
    return tuple(xp.moveaxis(x, 0, axis) for x in found)


def jax_associative_scan(combine: Function, axis: int, *leaves: Array) -> Any:
    """JAX's, unjitted."""
    import jax

    return jax.lax.associative_scan(combine, leaves if len(leaves) > 1 else leaves[0], axis=axis)
