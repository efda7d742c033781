"""A call as a sequence of launches over named memory, the same for PyTorch's addresses and JAX's arrays.

A plan (linear_plan.py, matrix_plan.py) says which kernels run on which grids; `launch` runs it on addresses, jax_arrays.py on
arrays under a trace.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton

from seqpar.errors import BackendError

Addresses = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One kernel on one grid. Its parameters are what it reads, what it writes, integers, and then constants by name."""

    kernel: Any
    grid: tuple[int, int, int]
    reads: tuple[str, ...]
    """Names of memory; where there is none of that name the kernel gets None."""
    writes: tuple[str, ...]
    integers: tuple[int, ...]
    constants: Mapping[str, Any]
    warps: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """Launches in order."""

    calls: tuple[Call, ...]
    formats: Mapping[str, str]
    """Dtype name of every piece of memory that is there, scratch included."""
    scratch: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """Memory that only the launches see: shape and dtype."""
    segments: int = 1
    """Parts that time is cut into."""


def launch(
    program: Program,
    addresses: Addresses,
    moved: Mapping[str, int] | None = None,
    compiled: dict[int, Any] | None = None,
) -> None:
    """Run the program on raw memory of the current device, on its current stream; `moved` adds bytes to addresses.

    `compiled` keeps what Triton made of each call, to start it at once the next time: finding it again costs Triton more than
    the launch. Only for a caller whose addresses are all multiples of 16 bytes, always, for that is compiled in.
    """
    pointers: dict[str, Any] = {}
    for name, dtype in program.formats.items():
        pointers[name] = Pointer(addresses[name] + (moved.get(name, 0) if moved else 0), dtype)
    # In the interpreter NumPy would warn of non-finite values, which are data.
    with np.errstate(all="ignore") if interpreted() else nullcontext():
        for place, call in enumerate(program.calls):
            memory = [pointers.get(name) for name in (*call.reads, *call.writes)]
            start = compiled.get(place) if compiled else None
            if start is not None:
                start(*memory)
                continue
            kernel = call.kernel[call.grid](
                *memory, *call.integers, **call.constants, num_warps=call.warps, enable_fp_fusion=True
            )
            if compiled is not None and kernel is not None:
                compiled[place] = _starter(call, kernel[call.grid], len(memory))


def prepare(call: Call, formats: Mapping[str, str], shared_bytes: int) -> Any:
    """Compile one call for addresses that are multiples of 16 bytes, as its launch will find it."""
    memory = [Pointer(16, formats[name]) if name in formats else None for name in (*call.reads, *call.writes)]
    kernel = call.kernel.run(
        *memory,
        *call.integers,
        **call.constants,
        num_warps=call.warps,
        enable_fp_fusion=True,
        grid=call.grid,
        warmup=True,
    )
    if kernel.metadata.shared > shared_bytes:
        raise BackendError(
            f"{call.kernel.__name__}: {kernel.metadata.shared} bytes of shared memory are more than the {shared_bytes} of a "
            "program here. Give fewer `lanes`, or fewer `stages`."
        )
    return kernel


def _starter(call: Call, run: Callable[..., Any], pointers: int) -> Callable[..., Any]:
    """Start a compiled kernel: it takes every parameter in order, constants too."""
    names = call.kernel.arg_names[pointers + len(call.integers) :]
    rest = (*call.integers, *(call.constants[name] for name in names))
    return lambda *memory: run(*memory, *rest)


def aligned(addresses: Sequence[int]) -> bool:
    """May every operand be read in vectors of 16 bytes from its start?"""
    return all(address % 16 == 0 for address in addresses)


# Complex numbers are pairs, and a mask is read as bytes.
_ELEMENTS = {"complex64": "float32", "complex128": "float64", "bool": "uint8"}


def element_of(dtype: str) -> str:
    """The dtype by which a kernel reads memory of a dtype."""
    return _ELEMENTS.get(dtype, dtype)


class Pointer:
    """An address as Triton takes it: what it asks of a tensor, and no more. The interpreter asks for a storage as well."""

    __slots__ = ("address", "dtype")

    def __init__(self, address: int, dtype: str) -> None:
        self.address = address
        self.dtype = element_of(dtype)

    def data_ptr(self) -> int:
        return self.address

    # What follows is for the interpreter, which copies tensors to the host before it runs and back after: this is host memory.

    def untyped_storage(self) -> "Pointer":
        return self

    def cpu(self) -> "Pointer":
        return self

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return ()

    stride = size

    def new_empty(self, *_: Any, **__: Any) -> "Pointer":
        return Pointer(self.address, self.dtype)

    def set_(self, *_: Any) -> None:
        pass

    copy_ = set_


def interpreted() -> bool:
    """Does Triton run kernels in its interpreter, on host memory?"""
    return bool(triton.knobs.runtime.interpret)
