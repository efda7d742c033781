"""From a primitive to a program: the kernel is chosen here, once per platform and set of shapes.

While a function is traced there is no device; the platform is known when its program is lowered. So the problem is built
from abstract values and the platform, the choice is made, and its kernel becomes part of the program: array code is traced
in place, a kernel over raw memory becomes a call (see `calls`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from seqpar.dispatch.choice import Choice, first_that_compiles
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Problem
from seqpar_jax import calls
from seqpar_jax.splitting import splits

Present = tuple[bool, ...]

ADDRESSABLE = ("cpu", "cuda")
"""Kinds of device on which XLA can hand memory to kernels that are not its own."""

_DEVICES = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "rocm": "rocm", "tpu": "tpu"}


def device_kind(platform: str) -> str:
    """The name by which problems know the devices of a platform of JAX."""
    return _DEVICES.get(platform, platform)


def register(primitive: Primitive, operation: Operation) -> None:
    """Lower a primitive by choosing a kernel, on every platform."""
    for platform in ("cpu", "cuda", "rocm", "tpu"):
        mlir.register_lowering(primitive, _rule(operation, device_kind(platform)), platform=platform)
    mlir.register_lowering(primitive, _rule(operation, "other"))


def metas_of(operands: Sequence[Any | None]) -> tuple[Abstract | None, ...]:
    """Shapes and dtype names of arrays or abstract values."""
    return tuple(None if x is None else Abstract(tuple(x.shape), str(x.dtype.name)) for x in operands)


def problem_of(operation: Operation, spec: Any, metas: Sequence[Abstract | None], device: str) -> Problem:
    """The problem that lowering for a device poses. XLA hands row-major memory to the functions it calls."""
    shape, axis, words = operation.problem(spec, metas)
    return Problem(
        operation=operation.name,
        framework="jax",
        device=device,
        shape=shape,
        axis=axis,
        dtypes=tuple(None if meta is None else meta.dtype for meta in metas),
        layout="time" if axis == len(shape) - 1 else "inner",
        options=words,
        addressable=device in ADDRESSABLE,
        traced=True,
    )


def spread(present: Present, arrays: Sequence[Any]) -> list[Any | None]:
    """One entry per operand, None for the absent ones."""
    given = iter(arrays)
    return [next(given) if there else None for there in present]


def _rule(operation: Operation, device: str) -> Callable[..., Any]:
    def lower(ctx: Any, *values: Any, spec: Any, request: Request, present: Present) -> Any:
        metas = metas_of(spread(present, ctx.avals_in))
        code = _code(operation, spec, metas, request, device, ctx.module_context.axis_context)

        def run(*arrays: Array) -> Sequence[Array]:
            return code(spread(present, arrays))

        return mlir.lower_fun(run, multiple_results=True)(ctx, *values)

    return lower


def _code(
    operation: Operation,
    spec: Any,
    metas: Sequence[Abstract | None],
    request: Request,
    device: str,
    axis_context: Any,
) -> Callable[[Sequence[Array | None]], Sequence[Array]]:
    """The chosen kernel as a function of arrays."""
    problem = problem_of(operation, spec, metas, device)
    if 0 in problem.shape or (not operation.in_parts and splits(axis_context)):
        return lambda operands: operation.empty(jnp, spec, operands)

    def attempt(choice: Choice) -> Callable[[Sequence[Array | None]], Sequence[Array]]:
        if choice.kernel.form == "arrays":
            return _on_arrays(spec, choice)
        return calls.call(operation, spec, metas, choice, device, axis_context)

    return first_that_compiles(problem, request, attempt)


def _on_arrays(spec: Any, choice: Choice) -> Callable[[Sequence[Array | None]], Sequence[Array]]:
    return lambda operands: choice.kernel.run(jnp, spec, choice.config, operands)
