"""What a tensor is in memory: names of dtypes, lazy conjugates made real, results that share nothing."""

import ctypes
import sys
from functools import cache
from typing import Any

import torch

Tensor = torch.Tensor

NAMES: dict[torch.dtype, str] = {
    value: name for name in sorted(dir(torch)) if isinstance(value := getattr(torch, name), torch.dtype)
}
# Some dtypes have two names in torch (half, float16); the array API's is the one that torch prints.
NAMES.update({dtype: str(dtype).removeprefix("torch.") for dtype in NAMES})
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in NAMES.items()}


def resolved(x: Tensor) -> Tensor:
    """The tensor with a lazy conjugation or negation carried out."""
    if x.is_conj() or x.is_neg():
        return x.resolve_conj().resolve_neg()
    return x


HUGE_PAGE_BYTES = 1 << 22
"""From this size on NumPy asks for huge pages for its arrays, and so do we for results."""


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor; a large one in huge pages: 16 MB of new memory cost 7 ms to touch in small ones, 0.5 in huge."""
    x = torch.empty(shape, dtype=dtype, device=device)
    if x.nbytes >= HUGE_PAGE_BYTES and device.type == "cpu" and (advise := _madvise()) is not None:
        start = -(-x.data_ptr() // _PAGE) * _PAGE
        advise(start, (x.data_ptr() + x.nbytes - start) // _PAGE * _PAGE, _MADV_HUGEPAGE)
    return x


_PAGE, _MADV_HUGEPAGE = 4096, 14


@cache
def _madvise() -> Any:
    """Linux's madvise, or None elsewhere. A refusal changes nothing."""
    if not sys.platform.startswith("linux"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    return advise


def separate(
    results: tuple[Tensor, ...], operands: "list[Tensor] | tuple[Tensor, ...]"
) -> tuple[Tensor, ...]:
    """Results that are contiguous and share memory with no operand and no other result, as operators must return them."""
    seen = {x.untyped_storage()._cdata for x in operands}
    fresh = []
    for x in results:
        x = x.contiguous()
        if x.untyped_storage()._cdata in seen:
            x = x.clone()
        seen.add(x.untyped_storage()._cdata)
        fresh.append(x)
    return tuple(fresh)
