"""A cell's kernel bound to layouts."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from seqpar.cells.walk import CellWalk
from seqpar.dispatch.operation import operations
from seqpar.dispatch.problem import Layout
from seqpar_triton.cell_plan import Plan, plan
from seqpar_triton.configs import CellConfig
from seqpar_triton.device import Device, current_device
from seqpar_triton.program import aligned, interpreted, launch, prepare


def names_of(operation: str) -> tuple[str, ...]:
    """Operands, and what a kernel writes."""
    return (*operations[operation].operands, *operations[operation].written)


class BoundCell:
    """Call it with the addresses of operands and results."""

    def __init__(
        self,
        operation: str,
        spec: CellWalk,
        config: CellConfig,
        layouts: Mapping[str, Layout],
        device: Device | None = None,
    ) -> None:
        self.operation, self.spec, self.config, self.layouts = operation, spec, config, layouts
        self.device = device or current_device()
        self.compiled: dict[int, Any] = {}

    def __call__(self, addresses: Sequence[int], threads: int | None = None) -> None:
        there = dict(zip((*names_of(self.operation), *self.scratch), addresses, strict=True))
        for moved in self.plan.parts:
            known = aligned(addresses) and aligned(list(moved.values()))
            launch(self.plan.program, there, moved, self.compiled if known else None)

    def compile(self) -> None:
        """Compile what aligned addresses will run, unless Triton interprets."""
        if interpreted():
            return
        for call in self.plan.program.calls:
            prepare(call, self.plan.program.formats, self.device.shared_bytes)

    @cached_property
    def plan(self) -> Plan:
        backward = self.operation == "cell_backward"
        return plan(self.spec, self.layouts, self.config, self.device, backward)

    @property
    def scratch(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Memory that the launches want besides."""
        return self.plan.program.scratch
