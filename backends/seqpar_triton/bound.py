"""A kernel bound to layouts: which program runs, on which part of memory.

Vectors need addresses that are multiples of 16 bytes, and addresses are seen only when a call is launched: so there are two
programs, and the one without vectors is made when it is first needed. Of more than three axes beside time the leading ones are
walked here, one launch after the other.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from seqpar.dispatch.geometry import ITEMSIZE, Geometry, Strides, geometry
from seqpar.dispatch.problem import Layout
from seqpar.errors import BackendError
from seqpar_triton import linear_plan, matrix_parts, matrix_plan, rows_plan
from seqpar_triton.configs import OnePassConfig, WalkConfig
from seqpar_triton.device import Device, current_device
from seqpar_triton.limits import AXES, TIMELESS
from seqpar_triton.program import Program, aligned, interpreted, launch, prepare

VECTOR_BYTES = 16


class Bound:
    """Call it with the addresses of operands, results and scratch."""

    def __init__(
        self,
        operation: str,
        spec: Any,
        config: OnePassConfig,
        names: Sequence[str],
        layouts: Mapping[str, Layout],
        device: Device | None = None,
    ) -> None:
        self.operation, self.spec, self.config = operation, spec, config
        self.device = device or current_device()
        self.names, self.layouts = names, layouts
        self.formats = {name: layout.dtype for name, layout in layouts.items()}
        self.compiled: dict[int, Any] = {}

    def __call__(self, addresses: Sequence[int], threads: int | None = None) -> None:
        there = dict(zip((*self.names, *self.scratch), addresses, strict=True))
        vectors = aligned(addresses) and self.parts_aligned
        for moved in self.parts:
            if vectors:
                launch(self.in_vectors, there, moved, self.compiled)
            else:
                launch(self.in_numbers, there, moved)

    def compile(self) -> None:
        """Compile what aligned addresses will run, unless Triton interprets."""
        if interpreted():
            return
        for call in self.in_vectors.calls:
            prepare(call, self.in_vectors.formats, self.device.shared_bytes)

    @property
    def scratch(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Memory that the launches want besides."""
        return self.in_vectors.scratch

    @cached_property
    def in_vectors(self) -> Program:
        """For addresses that are multiples of 16 bytes."""
        return self._program(VECTOR_BYTES)

    @cached_property
    def in_numbers(self) -> Program:
        """For any addresses."""
        # The scratch is that of the other program, so time is cut as it is there.
        program = self._made(self._cut(self.in_vectors.segments), 1)
        if program.scratch != self.scratch:
            raise BackendError(
                f"{self.operation}: two plans of one call want other scratch: {program.scratch}, {self.scratch}."
            )
        return program

    @property
    def segments(self) -> int:
        """As many as the plan takes to be best, or as the config says."""
        return self._made(self._cut(getattr(self.config, "segments", 1)), VECTOR_BYTES).segments

    @cached_property
    def whole(self) -> Geometry:
        shape = self.layouts["h"].shape
        return geometry(shape, self.spec.axis, self.layouts, TIMELESS)

    @cached_property
    def leading(self) -> int:
        """Leading axes of a matrix recurrence, time not counted, over which launches follow each other."""
        return matrix_parts.leading(self.layouts, self.spec.axis, AXES)

    @cached_property
    def parts(self) -> list[Mapping[str, int]]:
        """Bytes to the parts of memory that one launch serves; a single part for up to three axes beside time."""
        return list(self._parts())

    @cached_property
    def parts_aligned(self) -> bool:
        """Does every part start at a multiple of 16 bytes, if the whole does?"""
        return all(aligned(list(part.values())) for part in self.parts)

    def _parts(self) -> Iterator[Mapping[str, int]]:
        if self.operation.startswith("matrix"):
            yield from matrix_parts.parts(self.layouts, self.spec.axis, self.leading)
            return
        leading = self.whole.sizes[:-AXES]
        for index in itertools.product(*map(range, leading)):
            yield {
                name: ITEMSIZE[self.formats[name]]
                * sum(i * s for i, s in zip(index, strides.others, strict=False))
                for name, strides in self.whole.strides.items()
            }

    def _program(self, bytes_of_vector: int) -> Program:
        if not isinstance(self.config, WalkConfig):
            return self._made(self._cut(1), bytes_of_vector)
        program = self._made(self.config, bytes_of_vector)
        if self.config.segments is None and program.segments == 1:
            # One pass is the better choice here, but segments were asked for.
            program = self._made(self._cut(2), bytes_of_vector)
        return program

    def _cut(self, segments: int | None) -> WalkConfig:
        """The config with a number of segments."""
        return WalkConfig(**{**vars(self.config), "segments": segments})

    def _made(self, config: WalkConfig, bytes_of_vector: int) -> Program:
        backward = self.operation.endswith("_backward")
        plan: Any
        if self.operation.startswith("matrix"):
            plan = matrix_plan
            part_of_each = matrix_parts.without_axes(self.layouts, self.spec.axis, self.leading)
            given: tuple[Any, ...] = (self.spec, part_of_each, config)
        else:
            whole = self.whole
            part = Geometry(
                whole.steps,
                whole.sizes[-AXES:],
                {name: Strides(step, others[-AXES:]) for name, (step, others) in whole.strides.items()},
            )
            along = _along_time(part, ("h", "g") if backward else ("b", "h"))
            plan = rows_plan if along else linear_plan
            strides = part.strides.items()
            # States before and after the walk are read one by one.
            timed = [(name, slot) for name, slot in strides if name not in TIMELESS]
            packed = [name for name, (step, others) in timed if (step if along else others[-1]) == 1]
            most = bytes_of_vector // max([ITEMSIZE[self.formats[name]] for name in packed], default=1)
            width = part.width_along_time(max(1, most)) if along else part.width(max(1, most))
            given = (self.spec, part, self.formats, config, width)
        program: Program = (plan.make_backward if backward else plan.make_forward)(*given, self.device)
        return program


def _along_time(part: Geometry, names: Sequence[str]) -> bool:
    """Do the largest operands lie contiguous along time, and not along their sequences?"""
    there = [part.strides[name] for name in names]
    return all(step == 1 for step, _ in there) and (part.sequences == 1 or any(o[-1] != 1 for _, o in there))
