"""A kernel bound to layouts: which program runs, on which part of memory.

Vectors need addresses that are multiples of 16 bytes, and addresses are seen only when a call is launched: so there are two
programs, and the one without vectors is made when it is first needed. Of more than three axes beside time the leading ones are
walked here, one launch after the other.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from seqpar.dispatch.geometry import ITEMSIZE, Geometry, Strides, geometry
from seqpar.dispatch.problem import Layout
from seqpar_triton import linear_plan, matrix_plan, rows_plan
from seqpar_triton.configs import OnePassConfig, WalkConfig
from seqpar_triton.device import Device, current_device
from seqpar_triton.program import Program, aligned, launch

TIMELESS = ("h0", "final", "g_final", "dh0")
VECTOR_BYTES = 16
AXES = 3  # beside time, as many as a kernel walks


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
        program = self._program(1)
        assert program.scratch == self.scratch
        return program

    @cached_property
    def whole(self) -> Geometry:
        shape = self.layouts["h"].shape
        return geometry(shape, self.spec.axis, self.layouts, TIMELESS)

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
            yield {}
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
            return self._made(WalkConfig(segments=1, **vars(self.config)), bytes_of_vector)
        program = self._made(self.config, bytes_of_vector)
        if self.config.segments is None and not program.scratch:
            # One pass is the better choice here, but segments were asked for.
            program = self._made(dataclasses.replace(self.config, segments=2), bytes_of_vector)
        return program

    def _made(self, config: WalkConfig, bytes_of_vector: int) -> Program:
        backward = self.operation.endswith("_backward")
        plan: Any
        if self.operation.startswith("matrix"):
            plan = matrix_plan
            given: tuple[Any, ...] = (self.spec, self.layouts, config)
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
