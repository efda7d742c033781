"""From the layouts of a linear recurrence to the launches that compute it, where time lies contiguous in memory."""

from collections.abc import Mapping
from typing import Any

import triton.language as tl

from seqpar.dispatch.geometry import ITEMSIZE, Geometry
from seqpar.linear_recurrence_operation import Walk
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.linear_shape import Formats, LinearShape, Scratch
from seqpar_triton.program import Call, Program
from seqpar_triton.rows import reduce_rows, walk_rows
from seqpar_triton.rows_backward import walk_rows_backward
from seqpar_triton.rows_grid import Blocks, blocks_for, usual_block
from seqpar_triton.walk import cross
from seqpar_triton.walk_backward import total

Names = tuple[str, ...]

VECTOR_BYTES = 16


def make_forward(
    spec: Walk, geometry: Geometry, formats: Formats, config: WalkConfig, width: int, device: Device
) -> Program:
    """The walk: one call, or three with time in segments. A width of 1 promises nothing of addresses."""
    shape = _RowShape(spec, geometry, formats, "b", width, spec.reverse)
    blocks = shape.blocks(
        config, device, reads=("a", "b", "resets"), writes=("h",), again=("a", "b", "resets")
    )
    flags = {"CONVEX": spec.convex, "ADJOINT": spec.adjoint}
    scratch, calls = shape.crossing(blocks, "b", "h0", flags)
    main = Call(
        kernel=walk_rows,
        grid=(shape.programs(blocks), blocks.segments, 1),
        reads=("a", "b", "h0", "resets", "entering"),
        writes=("h", "final"),
        integers=shape.lengths(blocks) + shape.strides("a", "b", "h0", "resets", "h", "final"),
        constants={**shape.compiled(blocks, "a", "b", "resets", "h"), **flags},
        warps=blocks.warps,
    )
    return shape.program((*calls, main), scratch, blocks.segments)


def make_backward(
    spec: Walk, geometry: Geometry, formats: Formats, config: WalkConfig, width: int, device: Device
) -> Program:
    """The fused backward pass, against the direction of the walk."""
    shape = _RowShape(spec, geometry, formats, "h", width, not spec.reverse)
    summed = geometry.steps != 1 and geometry.strides["da"].step == 0
    reads, written = ("a", "b", "resets", "h", "g"), ("db",) if summed else ("da", "db")
    blocks = shape.blocks(config, device, reads, written, again=("a", "resets", "g"))
    scratch, calls = shape.crossing(blocks, "g", "g_final", {"CONVEX": False, "ADJOINT": True})
    names = ("a", "b", "h0", "resets", "h", "g", "g_final")
    alone = blocks.segments == 1
    calls += [
        Call(
            kernel=walk_rows_backward,
            grid=(shape.programs(blocks), blocks.segments, 1),
            reads=(*names, "entering"),
            writes=("sums" if summed and not alone else "da", "db", "dh0"),
            integers=shape.lengths(blocks) + shape.strides(*names, "da", "db", "dh0"),
            constants={
                **shape.compiled(blocks, "a", "b", "resets", "h", "g", "da", "db"),
                "CONVEX": spec.convex,
                "SUMMED": summed,
                "ALONE": alone,
            },
            warps=blocks.warps,
        )
    ]
    if summed and not alone:
        scratch["sums"] = (
            (blocks.segments, geometry.sequences),
            "complex128" if shape.complex else "float64",
        )
        calls.append(
            Call(
                kernel=total,
                grid=(-(-geometry.sequences // 32), 1, 1),
                reads=("a", "sums"),
                writes=("da",),
                integers=(blocks.segments, *shape.flat(), *shape.others("a"), *shape.others("da")),
                constants=shape.timeless("DIMS", "GATE", "COMPLEX", "STATE", "CARRY") | {"STAGES": 4},
                warps=1,
            )
        )
    return shape.program(tuple(calls), scratch, blocks.segments)


class _RowShape(LinearShape):
    """Vectors along time, and the blocks of their walks."""

    def numbers(self) -> dict[str, Any]:
        """Constants of every kernel that says how many axes there are and what its numbers are."""
        return {
            "DIMS": len(self.geometry.sizes),
            "GATE": self.spec.gate,
            "COMPLEX": self.complex,
            "STATE": tl.float64 if self.wide else tl.float32,
            "CARRY": tl.float64 if self.carry_wide else tl.float32,
        }

    def width_of(self, name: str) -> int:
        """Elements of one vector along time that every row of an operand starts with."""
        if name not in self.geometry.strides or self.geometry.strides[name].step != 1:
            return 1
        size = ITEMSIZE[self.formats[name]]
        width = max(1, VECTOR_BYTES // size) if self.width > 1 else 1
        while width > 1 and any(n % width for n in (self.geometry.steps, *self.others(name))):
            width //= 2
        return width

    def blocks(self, config: WalkConfig, device: Device, reads: Names, writes: Names, again: Names) -> Blocks:
        sizes = (max(1, self._bytes(reads)), self._bytes(writes), self._bytes(again))
        usual = usual_block(self.formats["h"], self.spec.gate != "value", self.geometry.steps)
        return blocks_for(config, device, self.geometry.steps, self.geometry.sequences, usual, sizes)

    def _bytes(self, names: Names) -> int:
        """Bytes per step and row; what broadcasts over time or rows comes out of a cache."""
        strides = self.geometry.strides
        there = [name for name in names if name in strides and strides[name].step]
        return sum(
            ITEMSIZE[self.formats[name]]
            for name in there
            if any(strides[name].others) or self.geometry.sequences == 1
        )

    def programs(self, blocks: Blocks) -> int:
        return -(-self.geometry.sequences // blocks.rows)

    def flat(self) -> tuple[int, ...]:
        """Sequences and the sizes that their number is taken apart by."""
        _, n1, n2 = self.axes
        return (self.geometry.sequences, n1, n2)

    def lengths(self, blocks: Blocks) -> tuple[int, ...]:
        sequences, n1, n2 = self.flat()
        return (self.geometry.steps, sequences, blocks.segment, n1, n2)

    def timeless(self, *names: str) -> dict[str, Any]:
        """Constants of kernels that walk no steps, 32 sequences per program."""
        known = self.numbers()
        return {name: known[name] for name in names} | {"BLOCK": 32}

    def compiled(self, blocks: Blocks, *names: str) -> dict[str, Any]:
        """Constants of kernels that walk, with the operands they hold in blocks."""
        strides = self.geometry.strides
        widths = tuple(min(blocks.span, self.width_of(name)) for name in names)
        return {
            **self.numbers(),
            "UNITS": tuple(name in strides and strides[name].step == 1 for name in names),
            "WIDTHS": widths,
            "WIDTH": max(widths),
            "ROWS": blocks.rows,
            "GROUPS": blocks.groups,
            "ITEMS": blocks.items,
            "STAGES": blocks.stages,
            "DOWN": self.down,
            "STILL": strides["a"].step == 0,
        }

    def crossing(
        self, blocks: Blocks, inputs: str, start: str, flags: Mapping[str, bool]
    ) -> tuple[Scratch, list[Call]]:
        """Scratch and calls that find the state entering every segment; none of either for one segment."""
        if blocks.segments == 1:
            return {}, []
        shape = (blocks.segments, self.geometry.sequences)
        wide = "complex128" if self.complex else "float64"
        scratch: Scratch = {
            "slope": (shape, wide),
            "exponent": (shape, "int32"),
            "reached": (shape, wide),
            "entering": (shape, self.carry),
        }
        first = Call(
            kernel=reduce_rows,
            grid=(self.programs(blocks), blocks.segments, 1),
            reads=("a", inputs, "resets"),
            writes=("slope", "exponent", "reached"),
            integers=self.lengths(blocks) + self.strides("a", inputs, "resets"),
            constants={**self.compiled(blocks, "a", inputs, "resets"), **flags},
            warps=blocks.warps,
        )
        second = Call(
            kernel=cross,
            grid=(-(-self.geometry.sequences // 32), 1, 1),
            reads=("slope", "exponent", "reached", start),
            writes=("entering",),
            integers=(blocks.segments, *self.flat(), *self.others(start)),
            constants=self.timeless("DIMS", "COMPLEX", "STATE", "CARRY") | {"STAGES": 6},
            warps=1,
        )
        return scratch, [first, second]
