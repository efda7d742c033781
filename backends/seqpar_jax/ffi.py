"""Kernels over raw memory inside XLA programs on the CPU: foreign calls.

A kernel provider offers `xla_handler`, the address of a C function that XLA calls with pointers to operands and results. The
name a handler is registered under says everything it was made for, so an executable that comes out of a persistent
compilation cache finds the same function in every process that lowers the same program.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir

import seqpar
from seqpar.dispatch.choice import Choice
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array
from seqpar_jax.avals import aval_like


def foreign(
    operation: Operation,
    spec: Any,
    choice: Choice,
    operands: Sequence[Abstract | None],
    results: Sequence[Abstract],
) -> Callable[..., tuple[Array, ...]]:
    """The chosen kernel as a function of the operands that are there, of these shapes, for programs on the CPU."""
    target = _target(operation, spec, choice, operands, results)
    return lambda *arrays: tuple(_foreign.bind(*arrays, target=target, results=tuple(results)))


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
        address = choice.kernel.xla_handler(
            spec, choice.config, tuple(operands), tuple(results), jax.ffi.include_dir()
        )
        jax.ffi.register_ffi_target(name, _capsule(address), platform="cpu", api_version=1)
        _targets[name] = address
    return name


def _capsule(address: int) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, None, None)
