"""Kernels over raw memory inside XLA's programs: how they are called, and how a call splits over devices.

On the CPU a kernel is a foreign function (see `ffi`). Elsewhere it is a function of arrays that JAX traces into calls of its
own, Triton's kernels through jax-triton.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

from seqpar.dispatch.choice import Choice
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array, Kernel
from seqpar_jax import ffi
from seqpar_jax.avals import aval_like
from seqpar_jax.precision import enable_x64
from seqpar_jax.splitting import Split, splits

Code = Callable[[Sequence[Array | None]], Sequence[Array]]
Local = Callable[..., tuple[Array, ...]]
"""The kernel over what one device holds, for the operands that are there."""


def call(
    operation: Operation,
    spec: Any,
    metas: Sequence[Abstract | None],
    choice: Choice,
    device: str,
    axis_context: Any,
) -> Code:
    """The chosen kernel as a function of arrays; raises where it does not compile."""
    raw = operation.raw(spec, metas)
    present = [meta is not None for meta in metas]
    foreign = device == "cpu" and type(choice.kernel).xla_handler is not Kernel.xla_handler

    @cache
    def made(operands: tuple[Abstract | None, ...]) -> Local:
        results = operation.raw(spec, operands)
        if foreign:
            return ffi.foreign(operation, spec, choice, operands, results)
        return _traced(spec, choice, operands, results)

    # A kernel that does not compile is found out here.
    whole = made(tuple(metas))
    if not foreign:
        _lower_once(whole, metas, device)
    split = Split(operation, spec, metas, raw, summed=True)
    # Sums over time leave a kernel in double precision, whatever jax_enable_x64 says; traced kernels keep products in it.
    wide = not foreign or any(meta.dtype in ("float64", "complex128") for meta in raw)

    def local(*arrays: Array) -> tuple[Array, ...]:
        given = iter(arrays)
        operands = [next(given) if there else None for there in present]
        return made(tuple(None if x is None else Abstract(tuple(x.shape), str(x.dtype)) for x in operands))(
            *arrays
        )

    def run(operands: Sequence[Array | None]) -> Sequence[Array]:
        with enable_x64(True) if wide else nullcontext():
            results = (split.over(local) if splits(axis_context) else local)(
                *[x for x in operands if x is not None]
            )
            return operation.finish(jnp, spec, operands, tuple(results))

    return run


def _traced(
    spec: Any,
    choice: Choice,
    operands: Sequence[Abstract | None],
    results: Sequence[Abstract],
) -> Local:
    """A kernel that JAX traces into calls."""
    of_operands = choice.kernel.on_jax_arrays(spec, choice.config, tuple(operands), tuple(results))

    def function(*arrays: Array) -> Sequence[Array]:
        given = iter(arrays)
        with enable_x64(True):
            return of_operands([None if x is None else next(given) for x in operands])

    return lambda *arrays: tuple(_kernel.bind(*arrays, function=function, results=tuple(results)))


def _lower_once(kernel: Local, operands: Sequence[Abstract | None], device: str) -> None:
    """Lower a kernel by itself: in the program around it that happens later, when no other can be chosen any more."""
    with enable_x64(True):
        shapes = [jax.ShapeDtypeStruct(*x) for x in operands if x is not None]
        jax.jit(kernel).trace(*shapes).lower(lowering_platforms=(device,))


def _lowered(
    ctx: Any, *values: Any, function: Callable[..., Sequence[Array]], results: Sequence[Abstract]
) -> Any:
    """The calls that a kernel is traced to, which need not know how values vary over a mesh."""

    def plain(avals: Sequence[Any]) -> list[ShapedArray]:
        return [ShapedArray(x.shape, x.dtype) for x in avals]

    ctx = ctx.replace(avals_in=plain(ctx.avals_in), avals_out=plain(ctx.avals_out))
    return mlir.lower_fun(function, multiple_results=True)(ctx, *values)


_kernel = Primitive("seqpar_kernel")
_kernel.multiple_results = True
_kernel.def_abstract_eval(lambda *avals, function, results: [aval_like(meta, avals) for meta in results])
mlir.register_lowering(_kernel, _lowered)
