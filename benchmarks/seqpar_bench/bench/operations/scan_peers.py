"""Everybody else who computes a scan, by framework: its own way first. Called by `scans`.

The framework's own way is its cumulative function where it has one for the monoid; else JAX's `associative_scan`, the prototype
of PyTorch, and a loop over time in NumPy and CuPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.linear_peers import longest_loop
from seqpar_bench.bench.problem import Contestant

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.scans import Scan

Array = Any
Function = Callable[..., Any]


def peers_of(problem: Scan, frame: Frame) -> Iterator[Contestant]:
    if problem.which == "gradient" and not frame.differentiates:
        return
    for position, (name, function, looping) in enumerate(_known(problem, frame)):
        yield Contestant(
            name=name,
            kind="own" if position == 0 else "peer",
            make=partial(problem.posed, frame, function),
            longest=longest_loop(frame) if looping else None,
        )


def _known(problem: Scan, frame: Frame) -> Iterator[tuple[str, Function, bool]]:
    """Name, function of the leaves, and whether it walks step by step."""
    combine, axis, several = problem.of.combine, problem.axis, problem.of.leaves > 1
    module: Any = frame.module
    if frame.name == "numpy":
        if problem.monoid == "add":
            yield "np.cumsum", partial(module.cumsum, axis=axis), False
        elif problem.of.ufunc is not None:
            accumulate = problem.of.ufunc.accumulate
            yield f"np.{problem.monoid}.accumulate", partial(accumulate, axis=axis), False
        yield "NumPy loop", partial(loop, module, combine, axis), True
    if frame.name == "cupy":
        if problem.monoid == "add":
            yield "cupy.cumsum", partial(module.cumsum, axis=axis), False
        yield "CuPy loop", partial(loop, module, combine, axis), True
    if frame.name == "torch":
        name = {"add": "cumsum", "logaddexp": "logcumsumexp"}.get(problem.monoid)
        if name:
            yield f"torch.{name}", partial(getattr(module, name), dim=axis), False
        yield "torch.associative_scan", partial(torch_associative_scan, combine, axis, several), False
    if frame.name == "jax":
        if problem.monoid == "add":
            yield "jnp.cumsum", partial(module.numpy.cumsum, axis=axis), False
        if problem.monoid == "logaddexp":
            yield "jax.lax.cumlogsumexp", partial(module.lax.cumlogsumexp, axis=axis), False
        yield "jax.lax.associative_scan", partial(jax_associative_scan, combine, axis, several), False


def loop(xp: Any, combine: Function, axis: int, *leaves: Array) -> tuple[Array, ...]:
    """One combination per step, over all rows at once, into preallocated memory."""
    results = tuple(xp.empty_like(x) for x in leaves)
    given, found = ([xp.moveaxis(x, axis, 0) for x in some] for some in (leaves, results))
    state = tuple(x[0] for x in given)
    for t in range(len(given[0])):
        if t:
            step = tuple(x[t] for x in given)
            state = combine(state, step) if len(given) > 1 else (combine(state[0], step[0]),)
        for out, x in zip(found, state, strict=True):
            out[t] = x
    return results


def torch_associative_scan(combine: Function, axis: int, several: bool, *leaves: Array) -> Any:
    """PyTorch's prototype, as it runs without a compiler, on any device. Differentiable."""
    from torch._higher_order_ops.associative_scan import associative_scan

    return associative_scan(combine, leaves if several else leaves[0], axis, combine_mode="generic")


def jax_associative_scan(combine: Function, axis: int, several: bool, *leaves: Array) -> Any:
    """JAX's, unjitted."""
    import jax

    return jax.lax.associative_scan(combine, leaves if several else leaves[0], axis=axis)
