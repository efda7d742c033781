"""Kernels over raw memory inside XLA programs on the CPU: a foreign call, and how it splits over devices.

A kernel provider offers `xla_handler`, the address of a C function that XLA calls with pointers to operands and results. The
name a handler is registered under says everything it was made for, so an executable that comes out of a persistent
compilation cache finds the same function in every process that lowers the same program.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

import seqpar
from seqpar.dispatch.choice import Choice
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array
from seqpar.errors import BackendError
from seqpar_jax.avals import aval_like
from seqpar_jax.precision import enable_x64
from seqpar_jax.splitting import Split

Code = Callable[[Sequence[Array | None]], Sequence[Array]]


def needs_devices(primitive: Primitive) -> None:
    """Have JAX say which devices a program is for when it lowers one with this primitive, as the partitioning of calls asks.

    JAX knows that of `custom_partitioning` itself, but cannot see one that appears while lowering.
    """
    try:
        from jax._src.dispatch import prim_requires_devices_during_lowering
    except ImportError:  # then calls are gathered on one device, not split
        return
    prim_requires_devices_during_lowering.add(primitive)


def call(
    operation: Operation,
    spec: Any,
    metas: Sequence[Abstract | None],
    choice: Choice,
    axis_context: Any,
) -> Code:
    """The chosen kernel as a function of arrays, for programs on the CPU."""
    raw = operation.raw(spec, metas)
    _target(operation, spec, choice, metas, raw)  # a kernel that does not compile is found out here
    wide = any(meta.dtype in ("float64", "complex128") for meta in raw)
    present = [meta is not None for meta in metas]
    split = Split(operation, spec, metas, raw, summed=True)

    def local(*arrays: Array) -> tuple[Array, ...]:
        """The foreign call with what one device holds."""
        given = iter(arrays)
        operands = [next(given) if there else None for there in present]
        here = [None if x is None else Abstract(tuple(x.shape), str(x.dtype)) for x in operands]
        results = operation.raw(spec, here)
        target = _target(operation, spec, choice, here, results)
        return tuple(_foreign.bind(*arrays, target=target, results=results))

    def run(operands: Sequence[Array | None]) -> Sequence[Array]:
        # Sums over time leave a kernel in double precision, whatever jax_enable_x64 says.
        with enable_x64(True) if wide else nullcontext():
            results = (split.over(local) if _splits(axis_context) else local)(
                *[x for x in operands if x is not None]
            )
            return operation.finish(jnp, spec, operands, tuple(results))

    return run


def _splits(axis_context: Any) -> bool:
    """Will XLA split the program over devices? Not on one device, nor where `shard_map` has split it by hand already."""
    mesh = getattr(axis_context, "mesh", None)
    if mesh is not None:
        return set(axis_context.manual_axes) != set(mesh.axis_names)
    return getattr(axis_context, "num_devices", 1) > 1 and axis_context.device_assignment is not None


_foreign = Primitive("seqpar_foreign_call")
_foreign.multiple_results = True
_foreign.def_abstract_eval(lambda *avals, target, results: [aval_like(meta, avals) for meta in results])
mlir.register_lowering(
    _foreign, lambda ctx, *values, target, results: jax.ffi.ffi_lowering(target)(ctx, *values), platform="cpu"
)

_targets: dict[str, int] = {}


def _target(
    operation: Operation,
    spec: Any,
    choice: Choice,
    operands: Sequence[Abstract | None],
    results: Sequence[Abstract],
) -> str:
    """Name of the registered handler for these shapes and formats: equal in every process for an equal handler."""
    formats = " ".join(
        "-" if x is None else f"{x.dtype}[{','.join(map(str, x.shape))}]" for x in (*operands, *results)
    )
    what = f"{choice.kernel.label} {operation.name} {operation.encode(spec)} {choice.config}"
    name = f"seqpar {seqpar.__version__} {what} {formats}"
    if name not in _targets:
        handler = getattr(choice.kernel, "xla_handler", None)
        if handler is None:
            raise BackendError(f"{choice.kernel.label} offers no function that XLA can call")
        address = handler(spec, choice.config, tuple(operands), tuple(results), jax.ffi.include_dir())
        jax.ffi.register_ffi_target(name, _capsule(address), platform="cpu", api_version=1)
        _targets[name] = address
    return name


def _capsule(address: int) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, None, None)
