"""What one compiled kernel is for, and the numba type that says so.

A kernel is a C function of one integer, the address of its words; everything it was specialised on is in the *type* of
that integer. So numba's own cache on disk can tell kernels apart: closures would not be stable in its keys.

Words of a job: steps, extent, cached (1 if results are small enough to stay in the caches), then per slot (base address,
bytes per step, bytes per position along the extent).

Mode "rows", "narrow" and "single" (one lane): lanes run over the extent, a contiguous axis beside time; "along": lanes run
over time, and the extent counts rows.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numba import types

from seqpar_host.untyped import PrimitiveModel, intrinsic, register_model

WALK = ("a", "b", "h0", "resets", "h", "final")
BACKWARD = ("a", "b", "h0", "resets", "h", "g", "g_final", "da", "db", "dh0")
SLOTS = {"walk": WALK, "backward": BACKWARD}
HEADER, PER_SLOT = 3, 3


@dataclass(frozen=True)
class Specialisation:
    """All that is fixed when a kernel is compiled."""

    kernel: str  # "walk" or "backward"
    mode: str  # "rows", "narrow", "single" or "along"
    gate: str
    convex: bool
    adjoint: bool
    formats: tuple[str, ...]  # per slot, "" where absent
    reaches: tuple[str, ...]  # per slot: see formats.py
    summed: bool = False  # da is added up over time
    descending: bool = False  # rows are walked down in memory

    def __str__(self) -> str:
        flags = [name for name in ("convex", "adjoint", "summed", "descending") if getattr(self, name)]
        slots = [
            f"{name}:{format}/{reach}"
            for name, format, reach in zip(SLOTS[self.kernel], self.formats, self.reaches, strict=True)
            if format
        ]
        return " ".join([self.kernel, self.mode, self.gate, *flags, *slots])


@cache
def fingerprint() -> str:
    """Of the sources, in each kernel's type: numba's cache looks at one file only and would keep kernels of old code."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in ("simd", "formats", "gates", "job", "walk", "launch", "handle"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


class Address(types.Type):
    """The address of some words, as a type of its own: it carries the fingerprint."""

    def __init__(self, of: str) -> None:
        super().__init__(name=f"Address({of} #{fingerprint()})")


class Job(Address):
    """The address of a job's words, for one specialisation."""

    def __init__(self, specialisation: Specialisation) -> None:
        self.specialisation = specialisation
        super().__init__(f"job {specialisation}")


@register_model(Address)
@register_model(Job)
class _AddressModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Address) -> None:
        super().__init__(manager, kind, manager.lookup(types.int64).get_value_type())


@intrinsic
def number(typing: Any, address: Any) -> Any:
    """An address as the integer it is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return types.int64(address), generate
