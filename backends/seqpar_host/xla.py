"""The kernels as XLA calls them on the CPU, with no compiler on the user's machine.

XLA calls a handler with the address of an XLA_FFI_CallFrame (xla/ffi/api/c_api.h, shipped inside jaxlib). `handle` reads
the buffers' pointers from it and launches a plan. It is compiled once, so each plan gets a trampoline of four
instructions that adds the address of its own words:

    words of a target: plan, threads, version, message, message if memory is short, operands, results, then per operand or
    result (slot, elements, bytes if a result)
"""

import ctypes
import math
import re
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from seqpar.dispatch.geometry import ITEMSIZE
from seqpar.dispatch.problem import Layout
from seqpar.errors import BackendError
from seqpar_host.compile import handle_address
from seqpar_host.plan import Plan
from seqpar_host.threads import thread_limit

# The members handle.py relies on, in their order.
STRUCTS = {
    "Extension_Base": ("struct_size", "type", "next"),
    "Api_Version": ("struct_size", "extension_start", "major_version", "minor_version"),
    "Metadata": ("struct_size", "api_version", "traits"),
    "Metadata_Extension": ("extension_base", "metadata"),
    "Api": ("struct_size", "extension_start", "api_version", "internal_api"),
    "Error_Create_Args": ("struct_size", "extension_start", "message", "errc"),
    "Buffer": ("struct_size", "extension_start", "dtype", "data", "rank", "dims"),
    "Args": ("struct_size", "extension_start", "size", "types", "args"),
    "Rets": ("struct_size", "extension_start", "size", "types", "rets"),
    "CallFrame": ("struct_size", "extension_start", "api", "ctx", "stage", "args", "rets", "attrs"),
}
_MESSAGE = ctypes.create_string_buffer(
    b"seqpar: XLA called a host kernel with a frame or buffers other than it was made for. "
    b"Choose backend='xla' and report the versions of jaxlib and seqpar."
)
_NO_MEMORY = ctypes.create_string_buffer(
    b"seqpar: there is no memory for what a host kernel notes down. Give it fewer rows at a time, or method='sequential'."
)
_lock = threading.Lock()
_kept: list[Any] = []
_handlers: dict[Any, int] = {}


@cache
def xla_version(include: str) -> tuple[int, int]:
    """The FFI version of the jaxlib whose headers lie in `include` (jax.ffi.include_dir()); raises if its frames differ."""
    header = Path(include) / "xla" / "ffi" / "api" / "c_api.h"
    if not header.is_file():
        raise BackendError(
            f"xla_version: {header} is missing, so XLA's frames cannot be checked. Choose backend='xla'."
        )
    text = re.sub(r"//[^\n]*", "", header.read_text())
    for name, members in STRUCTS.items():
        found = re.search(rf"struct XLA_FFI_{name} \{{(.*?)\n\}}", text, re.DOTALL)
        given = re.findall(r"(\w+);", found.group(1)) if found else []
        if tuple(given[: len(members)]) != members:
            raise BackendError(
                f"xla_version: XLA_FFI_{name} of this jaxlib has the members {given}, not {list(members)}. "
                "Choose backend='xla', or take a jaxlib that this seqpar knows."
            )
    if not re.search(r"internal_api;\s*_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_Error_Create\)", text):
        raise BackendError(
            "xla_version: XLA_FFI_Api of this jaxlib has another order of functions. Choose backend='xla'."
        )
    numbers = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    major, minor = (int(number.group(1)) if number else -1 for number in numbers)
    return major, minor


def xla_handler(
    made_for: Hashable,
    make: Callable[[], Plan],
    layouts: Sequence[Layout | None],
    count: int,
    version: tuple[int, int],
) -> int:
    """The address of an XLA FFI handler that launches a plan over `count` operands and then results, all row-major.

    XLA passes the operands that are not None, in this order, and all results. The address stays good for the life of the
    process; equal `made_for` and versions give the same one.
    """
    with _lock:
        if (made_for, version) not in _handlers:
            _handlers[made_for, version] = _make(make(), layouts, count, version)
        return _handlers[made_for, version]


def _make(plan: Plan, layouts: Sequence[Layout | None], count: int, version: tuple[int, int]) -> int:
    present = [slot for slot, layout in enumerate(layouts) if layout is not None]
    words = [plan.address, min(plan.threads, thread_limit()), version[0] | version[1] << 32]
    words += [ctypes.addressof(_MESSAGE), ctypes.addressof(_NO_MEMORY)]
    words += [sum(slot < count for slot in present), sum(slot >= count for slot in present)]
    for slot in present:
        layout = layouts[slot]
        assert layout is not None
        elements = math.prod(layout.shape)
        # Only results may be memory that nobody has touched yet.
        words += [slot, elements, elements * ITEMSIZE[layout.dtype] if slot >= count else 0]
    array = np.array(words, dtype=np.int64)
    _kept.extend([plan, array])
    return _trampoline(handle_address(), array.ctypes.data)


def _trampoline(function: int, words: int) -> int:
    """i64 (i64 frame) that calls function(frame, words)."""
    word = ir.IntType(64)
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    target = ir.Function(module, ir.FunctionType(word, [word]), f"seqpar_xla_{words:x}")
    builder = ir.IRBuilder(target.append_basic_block())
    kind = ir.FunctionType(word, [word, word])
    called = builder.inttoptr(word(function), kind.as_pointer())
    builder.ret(builder.call(called, [target.args[0], word(words)]))
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _kept.append(engine)
    return int(engine.get_function_address(target.name))
