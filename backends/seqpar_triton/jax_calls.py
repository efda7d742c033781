"""Calls through jax-triton, whose convention is another than ours.

It passes inputs and integers in the order of the call, and outputs behind them; it knows no input that is absent; it makes a
constant of an integer that is 1, and types the others by their value. Our kernels take outputs before integers, None for what
is absent, and integers that are numbers at run time. So around a kernel another is written, one per set of arguments that are
there, which takes what jax-triton passes; Triton puts the one inside the other, and nothing of it is left in the machine code.
"""

import hashlib
import linecache
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import triton
import triton.language as tl

from seqpar_triton.program import Call

Shapes = Mapping[str, tuple[tuple[int, ...], str]]

LARGEST = 2**31 - 1


def call_triton(call: Call, memory: Mapping[str, Any], shapes: Shapes) -> Sequence[Any]:
    """What a call writes, as traced arrays."""
    jax_triton = imported()
    passed = Passed.of(call, memory, shapes)
    formats = {name: shapes[name][1] for name in (*passed.reads, *passed.writes)}
    written: Sequence[Any] = jax_triton.triton_call(
        *[memory[name] for name in (*passed.reads, *passed.changed)],
        *call.integers,
        kernel=adapted(call, formats, len(passed.changed)),
        out_shape=[jax.ShapeDtypeStruct(*shapes[name]) for name in passed.writes],
        grid=call.grid,
        name=f"seqpar_{call.kernel.__name__}",
        num_warps=call.warps,
        input_output_aliases=passed.aliases,
        **call.constants,
    )
    return written


class Passed(NamedTuple):
    """Names of what goes into a call of XLA's and comes out of it."""

    reads: list[str]
    changed: list[str]
    """Of what is written those that an earlier call has written: their memory goes in too, and comes out as it is then."""
    writes: list[str]

    @staticmethod
    def of(call: Call, memory: Mapping[str, Any], shapes: Shapes) -> "Passed":
        return Passed(
            [name for name in call.reads if name in memory],
            [name for name in call.writes if name in memory],
            [name for name in call.writes if name in shapes],
        )

    @property
    def aliases(self) -> dict[int, int]:
        return {len(self.reads) + i: self.writes.index(name) for i, name in enumerate(self.changed)}


@cache
def imported() -> Any:
    """The package jax_triton, with complex numbers among its types; raises where JAX has no support for GPUs."""
    folder = os.environ.get("TRITON_CACHE_DIR")
    try:
        import jax_triton.triton_lib
    finally:
        # Importing it empties this variable, and Triton would put the kernels of PyTorch into the working directory.
        if folder is None:
            os.environ.pop("TRITON_CACHE_DIR", None)
        else:
            os.environ["TRITON_CACHE_DIR"] = folder
    # Of complex numbers it says nothing. To a kernel they are pairs, and to hand them over so costs nothing; parts that are
    # taken apart in arrays of their own would cost as much traffic as the recurrence itself.
    names = jax_triton.triton_lib._JAX_TO_TRITON_TYPE_MAP
    names.setdefault(np.dtype("complex64"), "fp32")
    names.setdefault(np.dtype("complex128"), "fp64")
    return jax_triton


def adapted(call: Call, formats: Mapping[str, str], changed: int = 0) -> Any:
    """The kernel of a call as jax-triton calls it, for memory of these formats and integers as wide as those of the call.

    `changed`: how many pieces of memory go in that come out again, and are passed twice.
    """
    memory = tuple([formats.get(name) for name in (*call.reads, *call.writes)])
    wide = tuple([not -LARGEST <= n <= LARGEST for n in call.integers])
    return _adapted(_Pattern(call.kernel, len(call.reads), memory, wide, tuple(call.constants), changed))


class _Pattern(NamedTuple):
    """All that an adapted kernel depends on."""

    kernel: Any
    reads: int
    memory: tuple[str | None, ...]
    """Format of each pointer, None where there is none."""
    wide: tuple[bool, ...]
    """Which integers need 64 bits."""
    constants: tuple[str, ...]
    changed: int = 0
    """Pointers passed among those to read that are among those to write as well."""


@cache
def _adapted(pattern: _Pattern) -> Any:
    source = source_of(pattern)
    # Triton reads the source of a kernel from its file; this is the file.
    file = f"<seqpar {pattern.kernel.__name__} for jax-triton {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    there: dict[str, Any] = {"kernel": pattern.kernel, "tl": tl, "__name__": __name__}
    exec(compile(source, file, "exec"), there)
    return triton.jit(there[pattern.kernel.__name__])


def source_of(pattern: _Pattern) -> str:
    """The kernel around a kernel: its parameters in jax-triton's order, and what it makes of them."""
    names = pattern.kernel.arg_names
    pointers = names[: len(pattern.memory)]
    integers = names[len(pointers) : len(pointers) + len(pattern.wide)]
    there = [name for name, dtype in zip(pointers, pattern.memory, strict=True) if dtype]
    reads = [name for name in pointers[: pattern.reads] if name in there]
    writes = [name for name in there if name not in reads]
    changed = [f"changed{i}" for i in range(pattern.changed)]
    constants = [f"{name}: tl.constexpr" for name in pattern.constants]
    parameters = [*reads, *changed, *integers, *writes, *constants]

    def pointer(name: str, dtype: str | None) -> str:
        # Masks are read as bytes.
        bytes_of_it = f"tl.cast({name}, tl.pointer_type(tl.uint8), bitcast=True)"
        return "None" if dtype is None else bytes_of_it if dtype == "bool" else name

    arguments = [pointer(name, dtype) for name, dtype in zip(pointers, pattern.memory, strict=True)]
    arguments += [
        f"tl.cast({name}, tl.int{64 if wide else 32})"
        for name, wide in zip(integers, pattern.wide, strict=True)
    ]
    arguments += [f"{name}={name}" for name in pattern.constants]
    return f"def {pattern.kernel.__name__}({', '.join(parameters)}):\n    kernel({', '.join(arguments)})\n"
