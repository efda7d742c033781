"""Sizes, strides and formats of a matrix recurrence, as its kernels take them.

Matrices keep the strides they came with. Whether M or its transpose is multiplied, whether the user gave a transposed view:
each only swaps two strides, and kernels load whichever lines of M lie contiguous.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import triton.language as tl

from seqpar.dispatch.geometry import ITEMSIZE, Geometry, geometry
from seqpar.dispatch.problem import Layout
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.validation import COMPLEX, state_of
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.limits import LARGEST_MATRIX, TIMELESS
from seqpar_triton.matrix_grid import MatrixGrid, matrix_grid_for, power_of_two
from seqpar_triton.program import Call, Program

Layouts = Mapping[str, Layout]
Scratch = dict[str, tuple[tuple[int, ...], str]]

MATRICES = ("A", "dA")


class MatrixShape:
    """What the calls of one program have in common: sizes, strides, formats."""

    def __init__(self, spec: MatrixWalk, layouts: Layouts, main: str, down: bool, transposed: bool) -> None:
        """`transposed`: the walk multiplies by the transposes of A."""
        *lead, self.n, self.k = layouts["h"].shape
        if self.n > LARGEST_MATRIX:
            raise NotImplementedError(
                f"{self.n} rows are more than the {LARGEST_MATRIX} that are held in registers"
            )
        state = state_of(layouts[main].dtype)
        self.complex, self.wide = state in COMPLEX, state in ("float64", "complex128")
        for name in ("A", "b", "h0", "h", "g", "g_final"):
            if name in layouts and (layouts[name].dtype in COMPLEX) != self.complex:
                raise NotImplementedError(f"{name} of {layouts[name].dtype} beside states of {state}")
        self.layouts, self.state, self.down = layouts, state, down
        bare = {name: _without_matrix_axes(layout) for name, layout in layouts.items()}
        self.geometry: Geometry = geometry(lead, spec.axis, bare, TIMELESS)
        if len(self.geometry.sizes) > 3:
            raise NotImplementedError(
                f"{len(self.geometry.sizes)} axes beside time, and a kernel walks three"
            )
        # dM lies as dA does, or as its transpose: the other way round than A, by whose transposes a backward walk multiplies.
        self.swapped = {"A": transposed, "dA": spec.transposed}

    @property
    def steps(self) -> int:
        return self.geometry.steps

    @property
    def groups(self) -> int:
        """Matrices of one step: states that differ in more than the column."""
        return self.geometry.sequences

    @property
    def states(self) -> int:
        return self.groups * self.k

    @property
    def padded(self) -> int:
        return power_of_two(self.n)

    @property
    def dims(self) -> int:
        return len(self.geometry.sizes)

    @property
    def inner(self) -> tuple[int, int]:
        """Sizes of all axes beside time but the outermost of three."""
        sizes = (1, 1, 1) + self.geometry.sizes
        return sizes[-2], sizes[-1]

    def ends(self, name: str) -> tuple[int, int]:
        """Elements from row to row and from column to column; of a matrix that of M, or of dM."""
        layout = self.layouts[name]
        size = ITEMSIZE[layout.dtype]
        row, column = (
            0 if n == 1 else s // size for n, s in zip(layout.shape[-2:], layout.strides[-2:], strict=True)
        )
        return (column, row) if self.swapped.get(name) else (row, column)

    def in_rows(self, name: str) -> bool:
        """Are rows of the matrix what lies contiguous? Not if neither does, nor if both do."""
        return self.ends(name)[1] == 1

    def strides(self, *names: str) -> tuple[int, ...]:
        """As the kernels take them: a step where there is time, one stride per axis, and two for rows and columns.

        Of a matrix those are from line to line and along one.
        """
        found: list[int] = []
        for name in names:
            count = (name not in TIMELESS) + 3 + 2 * (name != "resets")
            if name not in self.layouts:
                found += [0] * count
                continue
            step, others = self.geometry.strides[name]
            if name not in TIMELESS:
                found.append(step)
            found += [*((0, 0, 0) + others)[-3:]]
            if name in MATRICES:
                row, column = self.ends(name)
                found += [row, column] if self.in_rows(name) else [column, row]
            elif name != "resets":
                found += self.ends(name)
        return tuple(found)

    def width(self, name: str) -> int:
        """The widest vector, at most 16 bytes, in which an operand can be read along its rows or lines; 1 for complex ones."""
        step, others = self.geometry.strides[name]
        row, column = self.ends(name)
        if name in MATRICES:
            line, lane = (row, column) if self.in_rows(name) else (column, row)
        else:
            line, lane = column if self.k > 1 else 0, row
        width = max(1, 16 // ITEMSIZE[self.layouts[name].dtype])
        if name == "A" and self.flat:
            return math.gcd(width, step, *others)
        if lane != 1 or self.complex:
            return 1
        return math.gcd(width, self.n, step, *others, line)

    @property
    def flat(self) -> bool:
        """Is a matrix of 2 or 4 rows one piece of memory?"""
        return self.n in (2, 4) and not self.complex and sorted(self.ends("A")) == [1, self.n]

    def grid(
        self,
        config: WalkConfig,
        device: Device,
        reads: Collection[str],
        writes: Collection[str],
        columns: int = 1,
    ) -> MatrixGrid:
        def size(names: Collection[str]) -> int:
            """Bytes per step and state; what broadcasts over time or states comes out of a cache."""
            found = 0
            for name in names:
                if name in self.layouts and self.geometry.strides[name].step:
                    layout = self.layouts[name]
                    shared = self.groups > 1 and not any(self.geometry.strides[name].others)
                    found += 0 if shared else ITEMSIZE[layout.dtype] * math.prod(layout.shape[-2:])
            return -(-found // max(1, self.k))

        return matrix_grid_for(
            config,
            device,
            self.steps,
            self.groups,
            self.n,
            self.k,
            columns,
            self.wide,
            size(reads),
            size(writes),
        )

    def constants(self, grid: MatrixGrid) -> dict[str, Any]:
        return {
            "N": self.n,
            "NP": self.padded,
            "DIMS": self.dims,
            "BLOCK": grid.lanes,
            "STAGES": grid.stages,
            "COMPLEX": self.complex,
            "STATE": tl.float64 if self.wide else tl.float32,
        }

    def of_walk(self, grid: MatrixGrid) -> dict[str, Any]:
        """What only those kernels take that read the matrices."""
        return {
            "UNROLL": grid.unroll,
            "AW": self.width("A"),
            "ROWS": self.in_rows("A"),
            "FLAT": self.flat,
            "STILL": self.geometry.strides["A"].step == 0,
            "DOWN": self.down,
        }

    def program(self, calls: tuple[Call, ...], scratch: Scratch, segments: int = 1) -> Program:
        formats = {name: layout.dtype for name, layout in self.layouts.items()}
        formats |= {name: dtype for name, (_, dtype) in scratch.items()}
        return Program(calls=calls, formats=formats, scratch=scratch, segments=segments)


def _without_matrix_axes(layout: Layout) -> Layout:
    return Layout(layout.shape[:-2], layout.strides[:-2], layout.dtype)
