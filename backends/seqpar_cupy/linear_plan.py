"""Launches of the linear recurrence and its backward pass, from the layouts of a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from seqpar.dispatch.geometry import ITEMSIZE, Geometry, Strides, geometry
from seqpar.dispatch.problem import Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.validation import state_of
from seqpar_cupy.program import Launch, Placed, Runtime, launch, leading, three
from seqpar_cupy.shape import DOUBLE_OF, InnerShape, RowsShape
from seqpar_cupy.source import GATES, kernel_source

FORWARD = ("a", "b", "h0", "resets", "h", "final")
BACKWARD = ("a", "b", "h0", "resets", "h", "g", "g_final", "da", "db", "dh0")
ABSENT = Placed(-1, 0, (0, 0, 0, 0))
TIMELESS = frozenset({"h0", "final", "g_final", "dh0"})

Run = Callable[[Any], None]


@dataclass(frozen=True)
class Linear:
    """A call: operands and results by name, and how it is cut into threads and segments."""

    runtime: Runtime
    spec: Walk
    layouts: dict[str, Layout]
    sources: dict[str, int]
    """The number of each operand's address among those of the call."""
    scratch: int
    """The number of the first address of scratch memory."""
    config: Any

    @staticmethod
    def of(runtime: Runtime, spec: Walk, config: Any, layouts: Sequence[Layout | None]) -> "Linear":
        names = FORWARD if len(layouts) == len(FORWARD) else BACKWARD
        given = {name: x for name, x in zip(names, layouts, strict=True) if x is not None}
        return Linear(runtime, spec, given, {name: i for i, name in enumerate(names)}, len(names), config)

    @property
    def backward(self) -> bool:
        return "g" in self.layouts

    @property
    def dtype(self) -> str:
        """The format of the states as they are stored."""
        return self.layouts["h"].dtype

    @property
    def state(self) -> str:
        return state_of(self.dtype)

    @property
    def carry(self) -> str:
        """Double precision for gates, whose point is a memory of a million steps."""
        return self.state if self.spec.gate == "value" else DOUBLE_OF[self.state]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return self.layouts["h"].shape

    @cached_property
    def geometry(self) -> Geometry:
        return geometry(self.shape, self.spec.axis, self.layouts, TIMELESS)

    @property
    def summed(self) -> bool:
        """Is da summed over time inside?"""
        axis = self.spec.axis
        return self.backward and self.layouts["da"].shape[axis] == 1 and self.shape[axis] != 1

    @property
    def descending(self) -> bool:
        """Does the walk go from the last step in memory to the first? The backward pass goes against its walk."""
        return self.spec.reverse != self.backward

    @cached_property
    def cut(self) -> InnerShape | RowsShape:
        """Threads, widths and segments: lanes along time where the states lie along it."""
        itemsizes = {name: ITEMSIZE[layout.dtype] for name, layout in self.layouts.items()}
        how = (self.geometry, itemsizes, self.read, self.config, self.runtime)
        along = self.geometry.strides["h"].step == 1 and self.geometry.steps > 1
        return RowsShape.of(*how, self.descending) if along else InnerShape.of(*how)

    @property
    def read(self) -> tuple[str, ...]:
        """Operands that are read in every step."""
        names = ("a", "b", "resets", "h", "g") if self.backward else ("a", "b", "resets")
        return tuple(name for name in names if name in self.layouts)

    def scratch_memory(self) -> tuple[tuple[tuple[int, ...], str], ...]:
        """What segments do to a state: product, exponent, state; and their sums of da."""
        segments = self.cut.segments
        if segments == 1:
            return ()
        sequences = self.kernel_sequences
        each = [(DOUBLE_OF[self.state], 8), ("int32", 4), (self.carry, 8)]
        if self.summed:
            each.append((DOUBLE_OF[self.state], 8))
        return tuple(((segments, sequences), dtype) for dtype, _ in each)

    @property
    def kernel_sequences(self) -> int:
        """Sequences of one round of launches."""
        return int(np.prod(self.geometry.sizes[-3:]))

    # --- launches -----------------------------------------------------------------------------------------------------

    def run(self) -> Run:
        """What runs the call, from all its addresses; the wide loads where the addresses allow them."""
        wide = self.launches(self.cut)
        needed = self.cut.alignments()
        if not needed:
            return lambda addresses: _start(wide, addresses)
        at = np.array([self.sources[name] for name in needed])
        multiples = np.array(list(needed.values()))
        narrow: list[Launch] = []

        def run(addresses: Any) -> None:
            if not (addresses[at] % multiples).any():
                return _start(wide, addresses)
            if not narrow:
                narrow.extend(self.launches(self.cut.narrow()))
            _start(narrow, addresses)

        return run

    def launches(self, cut: InnerShape | RowsShape) -> list[Launch]:
        """All launches of the call, in order."""
        itemsizes = {name: ITEMSIZE[layout.dtype] for name, layout in self.layouts.items()}
        found = []
        for moved in leading(self.geometry, itemsizes):
            if cut.segments > 1:
                found.append(self._reduce(cut, moved))
            found.append(self._walk(cut, moved))
            if self.summed and cut.segments > 1:
                found.append(self._add_segments(cut, moved))
        return found

    def _reduce(self, cut: InnerShape | RowsShape, moved: dict[str, int]) -> Launch:
        """What the segments do. Of a backward pass: the adjoint walk over g in place of b."""
        names: Sequence[str | None] = ("a", "g" if self.backward else "b", None, "resets", None, None)
        source = kernel_source(
            (*cut.parts, cut.forward),
            f"{cut.forward}<Options, true>(words)",
            "WalkWords",
            cut.bounds(),
            self._types("a", "g" if self.backward else "b"),
            {
                **self._constants(cut),
                "ADJOINT": self.spec.adjoint or self.backward,
                "CONVEX": self.spec.convex and not self.backward,
                **cut.constants(("a", "g" if self.backward else "b", "resets"), ("A", "B", "RESETS")),
            },
        )
        return self._launch(cut, source, names, moved, 3, cut.shared(names))

    def _walk(self, cut: InnerShape | RowsShape, moved: dict[str, int]) -> Launch:
        if not self.backward:
            source = kernel_source(
                (*cut.parts, cut.forward),
                f"{cut.forward}<Options, false>(words)",
                "WalkWords",
                cut.bounds(),
                self._types("a", "b"),
                {
                    **self._constants(cut),
                    "ADJOINT": self.spec.adjoint,
                    "CONVEX": self.spec.convex,
                    **cut.constants(("a", "b", "resets"), ("A", "B", "RESETS")),
                },
            )
            return self._launch(cut, source, FORWARD, moved, 3, cut.shared(FORWARD))
        source = kernel_source(
            (*cut.parts, cut.forward, *cut.parts_backward, cut.backward),
            f"{cut.backward}<Options>(words)",
            "BackwardWords",
            cut.bounds(self.carry, self.spec.convex),
            {
                **self._types("a", "h"),
                "DA": self.layouts["da"].dtype,
                "DB": self.layouts["db"].dtype,
            },
            {
                **self._constants(cut),
                "ADJOINT": True,
                "CONVEX": self.spec.convex,
                "SUMMED": self.summed,
                **cut.constants(("a", "b", "resets", "h", "g"), ("A", "B", "RESETS", "H", "G")),
            },
        )
        return self._launch(cut, source, BACKWARD, moved, 4, cut.shared(BACKWARD))

    def _add_segments(self, cut: InnerShape | RowsShape, moved: dict[str, int]) -> Launch:
        source = kernel_source(
            ("feed", "walk", "walk_backward"),
            "add_segments<Options>(words)",
            "BackwardWords",
            (128, 1),
            {"K": self.carry},
            {},
        )
        found = self._launch(cut, source, BACKWARD, moved, 4, 0)
        grid = (-(-self.kernel_sequences // 128), 1, 1)
        return Launch(found.function, grid, 128, 0, found.words, found.places, found.sources, found.offsets)

    def _types(self, a: str, b: str) -> dict[str, str]:
        return {"A": self.layouts[a].dtype, "B": self.layouts[b].dtype, "S": self.state, "K": self.carry}

    def _constants(self, cut: InnerShape | RowsShape) -> dict[str, int | bool | str]:
        return {"GATE": GATES[self.spec.gate], "RESETS": "resets" in self.layouts}

    def _launch(
        self,
        cut: InnerShape | RowsShape,
        source: str,
        names: Sequence[str | None],
        moved: dict[str, int],
        scratch: int,
        shared: int,
    ) -> Launch:
        sizes = (1, 1, *self.geometry.sizes)[-2:]
        head = (self.geometry.steps, self.kernel_sequences, *sizes, cut.segments, cut.length, cut.padding)
        operands = [ABSENT if name is None else self._placed(name, moved) for name in names]
        spare = range(self.scratch, self.scratch + scratch) if cut.segments > 1 else [-1] * scratch
        if scratch == 4 and not self.summed:
            spare = [*spare][:3] + [-1]
        grid = (cut.blocks(self.kernel_sequences), cut.segments, 1)
        return launch(self.runtime.function(source), grid, cut.threads, shared, head, operands, spare)

    def _placed(self, name: str, moved: dict[str, int]) -> Placed:
        if name not in self.layouts:
            return ABSENT
        strides: Strides = self.geometry.strides[name]
        step, size = strides.step, ITEMSIZE[self.layouts[name].dtype]
        offset = moved[name]
        if self.descending:
            offset += size * step * (self.geometry.steps - 1)
            step = -step
        if name == "h" and self.backward:  # the state before each step
            offset += size * step
        return Placed(self.sources[name], offset, (step, *three(strides.others)))


def _start(launches: Sequence[Launch], addresses: Any) -> None:
    for each in launches:
        each(addresses)
