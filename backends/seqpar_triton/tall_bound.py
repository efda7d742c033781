"""The factorisation of tall matrices bound to layouts."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from seqpar.dispatch.operation import operations
from seqpar.dispatch.problem import Layout
from seqpar_triton.configs import TallConfig
from seqpar_triton.device import Device, current_device
from seqpar_triton.program import aligned, interpreted, launch, prepare
from seqpar_triton.tall_plan import Plan, plan


class BoundTall:
    """Call it with the addresses of operands, results and scratch."""

    def __init__(
        self,
        operation: str,
        config: TallConfig,
        layouts: Mapping[str, Layout],
        device: Device | None = None,
    ) -> None:
        self.operation, self.config, self.layouts = operation, config, layouts
        self.device = device
        self.compiled: dict[int, Any] = {}

    def __call__(self, addresses: Sequence[int], threads: int | None = None) -> None:
        names = (*operations[self.operation].operands, *operations[self.operation].results)
        there = dict(zip((*names, *self.scratch), addresses, strict=True))
        for moved in self.plan.parts:
            known = aligned(addresses) and aligned(list(moved.values()))
            launch(self.plan.program, there, moved, self.compiled if known else None)

    def compile(self) -> None:
        """Compile what aligned addresses will run, unless Triton interprets."""
        if interpreted():
            return
        shared = (self.device or current_device()).shared_bytes
        for call in self.plan.program.calls:
            prepare(call, self.plan.program.formats, shared)

    @cached_property
    def plan(self) -> Plan:
        return plan(self.layouts, self.config)

    @property
    def scratch(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Memory that the launches want besides."""
        return self.plan.program.scratch
