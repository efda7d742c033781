"""Launches of the matrix recurrence and its backward pass, from the layouts of a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from seqpar.dispatch.geometry import ITEMSIZE, Geometry, geometry
from seqpar.dispatch.problem import Layout
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.validation import state_of
from seqpar_cupy.program import Launch, Placed, Runtime, launch, leading, three
from seqpar_cupy.shape import BYTES_UNDER_WAY, DOUBLE_OF, wanted_segments
from seqpar_cupy.source import kernel_source

FORWARD = ("A", "b", "h0", "resets", "h", "final")
BACKWARD = ("A", "h0", "resets", "h", "g", "g_final", "dA", "db", "dh0")
TIMELESS = frozenset({"h0", "final", "g_final", "dh0"})
ABSENT = Placed(-1, 0, (0, 0, 0, 0, 0, 0))
PARTS = ("feed", "walk", "matrix")
THREADS = 128
MOST_ROWS = 16
# Rows of matrices that are on their way to a thread.
BYTES_AHEAD = 64


@dataclass(frozen=True)
class Matrices:
    """A call: operands and results by name, and how time is cut."""

    runtime: Runtime
    spec: MatrixWalk
    layouts: dict[str, Layout]
    sources: dict[str, int]
    """The number of each operand's address among those of the call."""
    scratch: int
    """The number of the first address of scratch memory."""
    config: Any
    wide: bool = True
    """Do addresses allow vectors?"""

    @staticmethod
    def of(runtime: Runtime, spec: MatrixWalk, config: Any, layouts: Sequence[Layout | None]) -> "Matrices":
        names = FORWARD if len(layouts) == len(FORWARD) else BACKWARD
        given = {name: x for name, x in zip(names, layouts, strict=True) if x is not None}
        return Matrices(runtime, spec, given, {name: i for i, name in enumerate(names)}, len(names), config)

    @property
    def backward(self) -> bool:
        return "g" in self.layouts

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the states: lead..., rows, columns."""
        return self.layouts["h"].shape

    @property
    def n(self) -> int:
        return self.shape[-2]

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def state(self) -> str:
        return state_of(self.layouts["h"].dtype)

    @cached_property
    def geometry(self) -> Geometry:
        """Of the axes in front of rows and columns."""
        lead = {
            name: Layout(layout.shape[:-2], layout.strides[:-2], layout.dtype)
            for name, layout in self.layouts.items()
        }
        return geometry(self.shape[:-2], self.spec.axis, lead, TIMELESS)

    @property
    def sequences(self) -> int:
        """Sequences of one round of launches."""
        return int(np.prod(self.geometry.sizes[-3:]))

    @property
    def summed(self) -> bool:
        """Is dA summed over time inside?"""
        axis = self.spec.axis
        return self.backward and self.layouts["dA"].shape[axis] == 1 and self.shape[axis] != 1

    @property
    def descending(self) -> bool:
        return self.spec.reverse != self.backward

    @property
    def lanes(self) -> int:
        """Of a state: the power of two from its rows on."""
        return 1 << (self.n - 1).bit_length()

    @property
    def threads(self) -> int:
        return self.config.threads or THREADS

    @cached_property
    def block(self) -> int:
        """Steps that are on their way."""
        row = self.n * ITEMSIZE[self.layouts["A"].dtype]
        return max(1, min(4, BYTES_AHEAD // row))

    def bounds(self, backward: bool = False) -> tuple[int, int]:
        """Threads of a block, and how many blocks are to fit on a multiprocessor: 96 registers do, where states are small."""
        small = self.state == "float32"
        if backward:  # which holds all columns, and sums
            small = small and self.n * self.columns <= MOST_ROWS and not self.summed
        return self.threads, max(1, 5 * THREADS // self.threads) if small else 1

    @cached_property
    def segments(self) -> tuple[int, int]:
        """How many, and their length."""
        steps = self.geometry.steps
        sizes = [ITEMSIZE[self.layouts[name].dtype] for name in ("A", "h")]
        # A block is worked on, and one is on its way.
        per_state = (
            1.5 * self.block * self.n * (self.n * sizes[0] + self.columns * (1 + self.backward) * sizes[1])
        )
        enough = BYTES_UNDER_WAY * self.runtime.multiprocessors() / (per_state * self.geometry.sequences)
        segments = wanted_segments(self.config, steps, enough)
        length = -(-steps // segments)
        return -(-steps // length), length

    def strides(self, name: str) -> tuple[int, int]:
        """Elements from row to row and from column to column; of A those of M, or in the backward pass of M transposed."""
        layout = self.layouts[name]
        size = ITEMSIZE[layout.dtype]
        row, column = (
            0 if n == 1 else s // size for n, s in zip(layout.shape[-2:], layout.strides[-2:], strict=True)
        )
        turned = {"A": self.spec.transposed != self.backward, "dA": self.spec.transposed}
        return (column, row) if turned.get(name, False) else (row, column)

    def vectors(self, name: str) -> int:
        """What addresses have to be multiples of so that rows are vectors; 0 where strides do not allow it."""
        size = ITEMSIZE[self.layouts[name].dtype]
        row = self.n * size
        strides = self.geometry.strides[name]
        whole = [strides.step, *strides.others, self.strides(name)[0]]
        unit = min(16, row)
        if row % unit or unit & (unit - 1) or self.strides(name)[1] != 1 or self.n == 1:
            return 0
        return unit if all(stride * size % unit == 0 for stride in whole) else 0

    def scratch_memory(self) -> tuple[tuple[tuple[int, ...], str], ...]:
        """Products of segments, their exponents, states; and their sums of dA."""
        segments, _ = self.segments
        if segments == 1:
            return ()
        lead, n, wide = (segments, self.sequences), self.n, DOUBLE_OF[self.state]
        each = [((*lead, n, n), wide), ((*lead, n), "int32"), ((*lead, self.columns, n), self.state)]
        return (*each, ((*lead, n, n), wide)) if self.summed else tuple(each)

    # --- launches -----------------------------------------------------------------------------------------------------

    def run(self) -> Callable[[Any], None]:
        """What runs the call, from all its addresses; with vectors where the addresses allow them."""
        needed = {
            name: self.vectors(name) for name in ("A", "dA") if name in self.layouts and self.vectors(name)
        }
        usual = self.launches()
        at = np.array([self.sources[name] for name in needed], np.intp)
        multiples = np.array(list(needed.values()), np.int64)
        narrow: list[Launch] = []

        def run(addresses: Any) -> None:
            chosen = usual
            if needed and (addresses[at] % multiples).any():
                if not narrow:
                    narrow.extend(replace(self, wide=False).launches())
                chosen = narrow
            for each in chosen:
                each(addresses)

        return run

    def launches(self) -> list[Launch]:
        """All launches of the call, in order."""
        itemsizes = {name: ITEMSIZE[layout.dtype] for name, layout in self.layouts.items()}
        segments, _ = self.segments
        found = []
        for moved in leading(self.geometry, itemsizes):
            if segments > 1:
                found.append(self._reduce(moved))
            found.append(self._backward(moved) if self.backward else self._forward(moved))
            if self.summed and segments > 1:
                found.append(self._add_segments(moved))
        return found

    def _reduce(self, moved: dict[str, int]) -> Launch:
        b = "g" if self.backward else "b"
        source = kernel_source(
            PARTS,
            "matrix_walk<Options, true>(words)",
            "MatrixWords",
            self.bounds(),
            {"A": self.layouts["A"].dtype, "B": self.layouts[b].dtype, "S": self.state},
            {**self._constants(), "ADJOINT": self.spec.adjoint or self.backward},
        )
        groups = self.sequences * (self.columns + self.n)
        return self._launch(source, ("A", b, None, "resets", None, None), moved, 3, groups)

    def _forward(self, moved: dict[str, int]) -> Launch:
        source = kernel_source(
            PARTS,
            "matrix_walk<Options, false>(words)",
            "MatrixWords",
            self.bounds(),
            {"A": self.layouts["A"].dtype, "B": self.layouts["b"].dtype, "S": self.state},
            {**self._constants(), "ADJOINT": self.spec.adjoint},
        )
        return self._launch(source, FORWARD, moved, 3, self.sequences * self.columns)

    def _backward(self, moved: dict[str, int]) -> Launch:
        source = kernel_source(
            (*PARTS, "matrix_backward"),
            "matrix_backward<Options>(words)",
            "MatrixBackwardWords",
            self.bounds(backward=True),
            {
                "A": self.layouts["A"].dtype,
                "B": self.layouts["h"].dtype,
                "S": self.state,
                "DA": self.layouts["dA"].dtype,
                "DB": self.layouts["db"].dtype,
            },
            {
                **self._constants(),
                "ADJOINT": True,
                "SUMMED": self.summed,
                "COLUMNS": self.columns,
                "DA_WIDE": self.wide and self.vectors("dA") > 0,
            },
        )
        return self._launch(source, BACKWARD, moved, 4, self.sequences)

    def _add_segments(self, moved: dict[str, int]) -> Launch:
        source = kernel_source(
            (*PARTS, "matrix_backward"),
            "add_matrix_segments<Options>(words)",
            "MatrixBackwardWords",
            (self.threads, 1),
            {"S": self.state},
            {"N": self.n},
        )
        found = self._launch(source, BACKWARD, moved, 4, self.sequences)
        return replace(found, grid=(-(-self.sequences * self.n**2 // self.threads), 1, 1))

    def _constants(self) -> dict[str, int | bool | str]:
        return {
            "N": self.n,
            "LANES": self.lanes,
            "BLOCK": self.block,
            "A_WIDE": self.wide and self.vectors("A") > 0,
            "RESETS": "resets" in self.layouts,
            "THREADS": self.threads,
        }

    def _launch(
        self, source: str, names: Sequence[str | None], moved: dict[str, int], scratch: int, groups: int
    ) -> Launch:
        segments, length = self.segments
        sizes = (1, 1, *self.geometry.sizes)[-2:]
        head = (self.geometry.steps, self.sequences, *sizes, segments, length, self.columns)
        operands = [ABSENT if name is None else self._placed(name, moved) for name in names]
        spare = [self.scratch + i if segments > 1 else -1 for i in range(scratch)]
        if scratch == 4 and not self.summed:
            spare[3] = -1
        grid = (-(-groups * self.lanes // self.threads), segments, 1)
        return launch(self.runtime.function(source), grid, self.threads, 0, head, operands, spare)

    def _placed(self, name: str, moved: dict[str, int]) -> Placed:
        if name not in self.layouts:
            return ABSENT
        strides, size = self.geometry.strides[name], ITEMSIZE[self.layouts[name].dtype]
        step, offset = strides.step, moved[name]
        if self.descending:
            offset += size * step * (self.geometry.steps - 1)
            step = -step
        if name == "h" and self.backward:  # the state before each step
            offset += size * step
        return Placed(self.sources[name], offset, (step, *three(strides.others), *self.strides(name)))
