"""Calls in Triton's interpreter inside XLA's programs on the CPU, so that all but jax-triton itself is tested without a GPU.

XLA calls a function with the address of an XLA_FFI_CallFrame (xla/ffi/api/c_api.h, shipped inside jaxlib); offsets below are
bytes in its structs. `jax.pure_callback` would not do: it narrows doubles outside 64-bit mode, and does not survive inside
`custom_partitioning`.
"""

import ctypes
import math
import re
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from seqpar.dispatch.geometry import ITEMSIZE
from seqpar_triton.jax_calls import Passed
from seqpar_triton.program import Call, Program, launch

Shapes = Mapping[str, tuple[tuple[int, ...], str]]

_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)
_Make = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
METADATA_EXTENSION, INTERNAL = 1, 13

_lock = threading.Lock()  # the interpreter keeps its place in global variables
_kept: list[Any] = []


def interpret(call: Call, memory: Mapping[str, Any], shapes: Shapes) -> Sequence[Any]:
    """What a call writes, as traced arrays."""
    passed = Passed.of(call, memory, shapes)
    target = f"seqpar {call.kernel.__name__} interpreted {len(_kept)}"
    _register(target, call, passed, shapes)
    results = [jax.ShapeDtypeStruct(*shapes[name]) for name in passed.writes]
    made = jax.ffi.ffi_call(target, results, input_output_aliases=passed.aliases)
    written: Sequence[Any] = made(*[memory[name] for name in (*passed.reads, *passed.changed)])
    return written


def _register(target: str, call: Call, passed: Passed, shapes: Shapes) -> None:
    version = _version()
    names = [*passed.reads, *passed.changed, *passed.writes]
    program = Program(calls=(call,), formats={name: shapes[name][1] for name in names})
    sizes = {
        name: math.prod(shapes[name][0]) * ITEMSIZE.get(shapes[name][1], 4)
        for name in passed.writes
        if name not in passed.changed
    }

    def handle(frame: int) -> int | None:
        extension = _word(frame + 8)
        if extension and _word(extension + 8) & 0xFFFFFFFF == METADATA_EXTENSION:
            # Registration: XLA asks which version of the interface this is.
            ctypes.c_int64.from_address(_word(extension + 24) + 24).value = version
            return None
        try:
            buffers = [*_listed(frame + 40), *_listed(frame + 80)]
            addresses = {n: _word(buffer + 24) for n, buffer in zip(names, buffers, strict=True)}
            for name, size in sizes.items():
                # What a call fails to write is not a number.
                ctypes.memset(addresses[name], 0xFF, size)
            with _lock:
                launch(program, addresses)
        except Exception:
            return _error(frame, traceback.format_exc())
        return None

    handler = _Handler(handle)
    _kept.append(handler)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = new(ctypes.cast(handler, ctypes.c_void_p).value, None, None)
    jax.ffi.register_ffi_target(target, capsule, platform="cpu", api_version=1)


def _version() -> int:
    """Major and minor number of the interface of the jaxlib at hand, as its two halves of a word."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    major, minor = (
        int(re.findall(rf"#define XLA_FFI_API_{part} (\d+)", header)[0]) for part in ("MAJOR", "MINOR")
    )
    return major | minor << 32


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _listed(address: int) -> list[int]:
    """The pointers in an XLA_FFI_Args or XLA_FFI_Rets."""
    count, pointers = _word(address + 16), _word(address + 32)
    return [_word(pointers + 8 * i) for i in range(count)]


def _error(frame: int, text: str) -> int | None:
    message = ctypes.create_string_buffer(text.encode())
    given = (ctypes.c_int64 * 4)(32, 0, ctypes.addressof(message), INTERNAL)
    make = _Make(_word(_word(frame + 16) + 48))
    error: int | None = make(ctypes.addressof(given))
    return error
