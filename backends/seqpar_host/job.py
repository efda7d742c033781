"""What one compiled kernel is for, and the numba type that says so.

A kernel is a C function of one integer, the address of its words; everything it was specialised on is in the *type* of
that integer. So numba's own cache on disk can tell kernels apart: closures would not be stable in its keys.

Words of a job: steps, extent, cached (1 if results are small enough to stay in the caches), rows, columns (of a state that
is a matrix, else 0), then per slot (base address, bytes per step, per position along the extent, per row, per column).
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numba import types

from seqpar.algorithms import bucketing
from seqpar.cells import program
from seqpar_host.cell_job import CellSpecialisation
from seqpar_host.product_job import ProductSpecialisation
from seqpar_host.tall_job import TallSpecialisation
from seqpar_host.untyped import PrimitiveModel, intrinsic, register_model

WALK = ("a", "b", "h0", "resets", "h", "final")
BACKWARD = ("a", "b", "h0", "resets", "h", "g", "g_final", "da", "db", "dh0")
MATRIX = ("A", "b", "h0", "resets", "h", "final")
MATRIX_BACKWARD = ("A", "h0", "resets", "h", "g", "g_final", "dA", "db", "dh0")
SLOTS = {"walk": WALK, "backward": BACKWARD, "matrix": MATRIX, "matrix_backward": MATRIX_BACKWARD}
HEADER, PER_SLOT = 5, 5


@dataclass(frozen=True)
class Specialisation:
    """All that is fixed when a kernel of the linear recurrence is compiled.

    Mode "rows", "narrow" and "single" (one lane): lanes run over the extent, a contiguous axis beside time; "along": lanes
    run over time, and the extent counts rows.
    """

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
        return " ".join([self.kernel, self.mode, self.gate, *flags, *_slots(self)])


@dataclass(frozen=True)
class MatrixSpecialisation:
    """All that is fixed when a kernel of the matrix recurrence is compiled.

    Mode "vector": a state is one column, lanes run over its rows, and the extent counts independent states; "columns": lanes
    run over the columns of a state, which are the extent. Matrices are those of the product in the kernel, M or its
    transpose: which of the two is in their strides alone.
    """

    kernel: str  # "matrix" or "matrix_backward"
    mode: str  # "vector" or "columns"
    size: int  # rows of a state, or 0: known at run time only
    lanes: int  # numbers in one vector
    adjoint: bool
    lines: str  # what of the matrix A a vector holds: "rows" or "columns"
    formats: tuple[str, ...]  # per slot, "" where absent
    reaches: tuple[str, ...]  # per slot: see formats.py
    dense: tuple[str, ...] = ()  # slots of matrices whose lines lie one after the other without gaps
    abreast: int = 1  # positions of the extent walked at once (size 0: vectors of rows), to fill latencies
    swept: bool = False  # step by step with all positions, the states in memory; else position by position
    still: bool = False  # one matrix for all steps
    shared: bool = False  # one matrix for all positions
    ragged: bool = False  # the last vector of columns is not whole
    summed: bool = False  # dA is added up over time
    written: str = ""  # what of the matrix dA a vector holds
    descending: bool = False  # time goes down in memory, and so the lines of a matrix

    def __str__(self) -> str:
        names = ("adjoint", "swept", "still", "shared", "ragged", "summed", "descending")
        flags = [name for name in names if getattr(self, name)]
        sizes = f"{self.size}x{self.lanes}x{self.abreast}"
        dense = [f"dense:{name}" for name in self.dense]
        lines = f"{self.lines}>{self.written}"
        return " ".join([self.kernel, self.mode, sizes, lines, *flags, *dense, *_slots(self)])


def _slots(of: Specialisation | MatrixSpecialisation) -> list[str]:
    return [
        f"{name}:{format}/{reach}"
        for name, format, reach in zip(SLOTS[of.kernel], of.formats, of.reaches, strict=True)
        if format
    ]


SOURCES = (
    *("simd", "formats", "gates", "job", "body", "walk", "launch", "handle"),
    *("products", "matrix", "matrix_body", "matrix_forward", "matrix_backward", "matrix_loops"),
    *("cell_job", "cell_stages", "cell_weights", "cell_memory", "cell_tile", "activations"),
    *("untyped", "routines", "memory", "cell_words", "cell_crew", "cell_conductor"),
    *("product_job", "cell_products", "cell_gatherer"),
    *("tall_job", "tall_code", "tall_pack", "tall_scale", "tall_panel", "tall_reflect", "tall_blocks"),
    *("tall_words", "tall_conductor", "tall_places", "tall_down", "tall_up", "tall_product"),
    "bucketing",
)


@cache
def fingerprint() -> str:
    """Of the sources, in each kernel's type: numba's cache looks at one file only and would keep kernels of old code."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    # Where the layers of a cell and the loops of `plan_buckets` come from.
    for module in (program, bucketing):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:12]


class Address(types.Type):
    """The address of some words, as a type of its own: it carries the fingerprint."""

    def __init__(self, of: str) -> None:
        super().__init__(name=f"Address({of} #{fingerprint()})")


class Job(Address):
    """The address of a job's words, for one specialisation."""

    def __init__(
        self,
        specialisation: Specialisation
        | MatrixSpecialisation
        | CellSpecialisation
        | ProductSpecialisation
        | TallSpecialisation,
    ) -> None:
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
