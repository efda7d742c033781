"""The host kernels as functions of JAX arrays, without the binding of JAX."""

import ctypes
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from seqpar.dispatch.problem import Kernel
from seqpar.testing.oracle import Array

_names = (f"seqpar_test_{number}" for number in count())


def target(
    kernel: Kernel, spec: Any, operands: Sequence[Array | None], results: Sequence[Array]
) -> tuple[Callable[..., Any], int]:
    """A function of the operands that are not None, for JAX, which calls the kernel; and the kernel's address."""
    import jax

    described = [None if x is None else (x.shape, x.dtype.name) for x in operands]
    made = [(x.shape, x.dtype.name) for x in results]
    address = kernel.xla_handler(spec, kernel.config(), described, made, jax.ffi.include_dir())
    name = next(_names)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(name, new(address, None, None), platform="cpu", api_version=1)
    return jax.ffi.ffi_call(name, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results]), address
