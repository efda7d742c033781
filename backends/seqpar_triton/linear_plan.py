"""From the layouts of a linear recurrence to the launches that compute it, where lanes run over sequences."""

from collections.abc import Mapping
from typing import Any

import triton.language as tl

from seqpar.dispatch.geometry import ITEMSIZE, Geometry
from seqpar.linear_recurrence_operation import Walk
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.grid import Grid, grid_for
from seqpar_triton.linear_shape import Formats, LinearShape, Scratch
from seqpar_triton.program import Call, Program
from seqpar_triton.walk import cross, reduce, walk
from seqpar_triton.walk_backward import total, walk_backward


def make_forward(
    spec: Walk, geometry: Geometry, formats: Formats, config: WalkConfig, width: int, device: Device
) -> Program:
    """The walk: one call, or three with time in segments."""
    shape = _Shape(spec, geometry, formats, "b", width, spec.reverse)
    grid = shape.grid(config, device, reads=("a", "b", "resets"), writes=("h",), again=("a", "b", "resets"))
    flags = {"CONVEX": spec.convex, "ADJOINT": spec.adjoint}
    scratch, calls = shape.entering(grid, "b", "h0", flags)
    main = Call(
        kernel=walk,
        grid=(shape.tiles(grid), grid.segments, 1),
        reads=("a", "b", "h0", "resets", "entering"),
        writes=("h", "final"),
        integers=shape.sizes(grid) + shape.strides("a", "b", "h0", "resets", "h", "final"),
        constants={**shape.constants(grid), **flags, "WIDTHS": shape.widths(grid, "a", "b", "resets", "h")},
        warps=grid.warps,
    )
    return shape.program((*calls, main), scratch, grid.segments)


def make_backward(
    spec: Walk, geometry: Geometry, formats: Formats, config: WalkConfig, width: int, device: Device
) -> Program:
    """The fused backward pass, against the direction of the walk."""
    shape = _Shape(spec, geometry, formats, "h", width, not spec.reverse)
    summed = geometry.steps != 1 and geometry.strides["da"].step == 0
    reads = ("a", "b", "resets", "h", "g")
    grid = shape.grid(config, device, reads, ("db",) if summed else ("da", "db"), again=("a", "resets", "g"))
    scratch, calls = shape.entering(grid, "g", "g_final", {"CONVEX": False, "ADJOINT": True})
    if summed:
        scratch["sums"] = ((grid.segments, geometry.sequences), "complex128" if shape.complex else "float64")
    names = ("a", "b", "h0", "resets", "h", "g", "g_final")
    calls += [
        Call(
            kernel=walk_backward,
            grid=(shape.tiles(grid), grid.segments, 1),
            reads=(*names, "entering"),
            writes=("sums" if summed else "da", "db", "dh0"),
            integers=shape.sizes(grid) + shape.strides(*names, "da", "db", "dh0"),
            constants={
                **shape.constants(grid),
                "CONVEX": spec.convex,
                "SUMMED": summed,
                "WIDTHS": shape.widths(grid, "a", "b", "resets", "h", "g", "da", "db"),
            },
            warps=grid.warps,
        )
    ]
    if summed:
        _, n1, n2 = shape.axes
        keep = ("DIMS", "GATE", "COMPLEX", "STATE", "CARRY")
        calls.append(
            Call(
                kernel=total,
                grid=(-(-geometry.sequences // 32), 1, 1),
                reads=("a", "sums"),
                writes=("da",),
                integers=(grid.segments, geometry.sequences, n1, n2, *shape.others("a"), *shape.others("da")),
                constants={name: shape.constants(grid)[name] for name in keep} | {"BLOCK": 32, "STAGES": 4},
                warps=1,
            )
        )
    return shape.program(tuple(calls), scratch, grid.segments)


class _Shape(LinearShape):
    """Vectors over sequences, and the grid of their walks."""

    def widths(self, grid: Grid, *names: str) -> tuple[int, ...]:
        """Vector widths: of a, b, resets and h, of the lanes, and of what else there is; no wider than a thread has lanes."""
        width = max(1, min(self.width, grid.lanes // (32 * grid.warps)))
        each = [width if self.others(name)[-1] == 1 else 1 for name in names]
        return (*each[:4], width, *each[4:])

    def sizes(self, grid: Grid) -> tuple[int, ...]:
        _, n1, n2 = self.axes
        return (self.geometry.steps, self.geometry.sequences, grid.segment, n1, n2)

    def tiles(self, grid: Grid) -> int:
        return -(-self.geometry.sequences // grid.lanes)

    def grid(
        self,
        config: WalkConfig,
        device: Device,
        reads: tuple[str, ...],
        writes: tuple[str, ...],
        again: tuple[str, ...],
    ) -> Grid:
        def moving(names: tuple[str, ...]) -> list[int]:
            """Bytes per number of what differs from step to step and lane to lane; the rest comes out of a cache."""
            slots = self.geometry.strides
            there = [name for name in names if name in slots and slots[name].step and slots[name].others[-1]]
            return [ITEMSIZE[self.formats[name]] for name in there]

        inputs = moving(reads) or [1]
        return grid_for(
            config,
            device,
            self.geometry.steps,
            self.geometry.sequences,
            self.width,
            sum(inputs),
            sum(moving(writes)),
            sum(moving(again)),
            loads=len(inputs),
            narrowest=min(moving(tuple(name for name in reads if name != "resets")), default=4),
        )

    def constants(self, grid: Grid) -> dict[str, Any]:
        return {
            "DIMS": len(self.geometry.sizes),
            "BLOCK": grid.lanes,
            "UNROLL": grid.unroll,
            "STAGES": grid.stages,
            "GATE": self.spec.gate,
            "COMPLEX": self.complex,
            "DOWN": self.down,
            "STILL": self.geometry.strides["a"].step == 0,
            "STATE": tl.float64 if self.wide else tl.float32,
            "CARRY": tl.float64 if self.carry in ("float64", "complex128") else tl.float32,
        }

    def entering(
        self, grid: Grid, inputs: str, start: str, flags: Mapping[str, bool]
    ) -> tuple[Scratch, list[Call]]:
        """Scratch and calls that find the state entering every segment; none of either for one segment."""
        if grid.segments == 1:
            return {}, []
        shape: tuple[int, ...] = (grid.segments, self.geometry.sequences)
        slope = "complex128" if self.complex else "float64"
        scratch = {
            "slope": (shape, slope),
            "exponent": (shape, "int32"),
            "reached": (shape, self.carry),
            "entering": (shape, self.carry),
        }
        _, n1, n2 = self.axes
        first = Call(
            kernel=reduce,
            grid=(self.tiles(grid), grid.segments, 1),
            reads=("a", inputs, "resets"),
            writes=("slope", "exponent", "reached"),
            integers=self.sizes(grid) + self.strides("a", inputs, "resets"),
            constants={
                **self.constants(grid),
                **flags,
                "WIDTHS": self.widths(grid, "a", inputs, "resets", inputs),
            },
            warps=grid.warps,
        )
        keep = ("DIMS", "COMPLEX", "STATE", "CARRY")
        second = Call(
            kernel=cross,
            grid=(-(-self.geometry.sequences // 32), 1, 1),
            reads=("slope", "exponent", "reached", start),
            writes=("entering",),
            integers=(grid.segments, self.geometry.sequences, n1, n2, *self.others(start)),
            constants={name: self.constants(grid)[name] for name in keep} | {"BLOCK": 32, "STAGES": 6},
            warps=1,
        )
        return scratch, [first, second]
