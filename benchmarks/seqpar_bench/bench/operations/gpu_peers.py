"""Scans of others that have code for CUDA alone: what they are called, what they refuse, and the layout each wants.

Called by `linear_peers` and by the GPU check (`seqpar_bench.gpu.peers`). Their layouts are made beforehand and not timed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.operands import HALF
from seqpar_bench.bench.problem import Call, Contestant

if TYPE_CHECKING:
    from seqpar_bench.bench.operations.linear import Linear

Array = Any
Function = Callable[[Array, Array], Array]
Find = Callable[[str], Any]
"""Of a module by its name."""

LONGEST_WARP = 65_536


@dataclass(frozen=True)
class GpuScan:
    """A function of somebody else's for arrays of three axes."""

    package: str
    install: str
    name: str
    time_last: bool
    """Does it take (batch, features, time), contiguous, or (batch, time, features)?"""
    logarithmic: bool
    """Does it take the logarithms of coefficients?"""

    def function(self, there: Find = importlib.import_module) -> Function:
        """Of coefficients, or their logarithms, and inputs."""
        if self.package == "fla":
            gated = getattr(there("fla.ops.hgrn"), self.name)
            return lambda log_a, b: gated(b, log_a)[0]
        return there(f"{self.package}.{self.name}").scan  # type: ignore[no-any-return]

    def refused(self, steps: int, dtype: str) -> str:
        """Why it cannot run, "" if it can."""
        if dtype.startswith("complex"):
            return "takes no complex numbers"
        if self.name == "warp" and (steps > LONGEST_WARP or steps < 32 or steps & (steps - 1)):
            return f"takes 32 to {LONGEST_WARP} steps, powers of two"
        if self.name == "warp" and dtype in HALF:
            return (
                "left an H200 with an illegal memory access in bfloat16 (0.3.1), and every later call with it"
            )
        return ""

    def __str__(self) -> str:
        return f"{self.package}{' ' if self.package == 'fla' else '.'}{self.name}"


GPU_SCANS = (
    GpuScan("accelerated_scan", "accelerated-scan", "warp", time_last=True, logarithmic=False),
    GpuScan("accelerated_scan", "accelerated-scan", "scalar", time_last=True, logarithmic=False),
    GpuScan("fla", "fla-core", "chunk_hgrn", time_last=False, logarithmic=True),
    GpuScan("fla", "fla-core", "fused_recurrent_hgrn", time_last=False, logarithmic=True),
)


class Layouts:
    """Coefficients first and what goes with them, of PyTorch and three axes, as each scan wants them. Both layouts are shared."""

    def __init__(self, given: Sequence[Array], time_last: bool) -> None:
        self.given, self.time_last = given, time_last

    def wanted_by(self, scan: GpuScan) -> tuple[Array, ...]:
        a, *others = self.given if scan.time_last is self.time_last else self._swapped
        return (a.log() if scan.logarithmic else a, *others)

    def restored(self, scan: GpuScan, x: Array) -> Array:
        """A result in the layout of what was given."""
        return x if scan.time_last is self.time_last else x.transpose(1, 2)

    @functools.cached_property
    def _swapped(self) -> tuple[Array, ...]:
        return tuple(x.transpose(1, 2).contiguous() for x in self.given)


def gpu_scans(problem: Linear, frame: Frame) -> Iterator[Contestant]:
    """The contestants among them, for operands (batch, time, features) or (batch, features, time) of PyTorch."""
    three = "" if len(problem.shape) == 3 else "takes arrays with three axes"

    @functools.cache
    def layouts() -> Layouts:
        given = (*problem.arrays(frame), *frame.arrays(problem.cotangents, problem.dtype))
        return Layouts(given, problem.axis == -1)

    def made(scan: GpuScan) -> Call:
        a, b, g = layouts().wanted_by(scan)
        if problem.which == "forward":
            return frame.forward(scan.function(), a, b)
        return frame.gradient(scan.function(), (a, b), (g,))

    def restored(scan: GpuScan, results: Sequence[Array]) -> tuple[Array, ...]:
        found = tuple(layouts().restored(scan, x) for x in results)
        if scan.logarithmic and problem.which == "gradient":
            # d/da = (d / d log a) / a
            a = problem.arrays(frame)[0]
            return (found[0] / a, *found[1:])
        return found

    for scan in GPU_SCANS:
        yield Contestant(
            name=str(scan),
            make=partial(made, scan),
            read=partial(restored, scan),
            requires=(scan.package,),
            install=scan.install,
            left_out=three or scan.refused(problem.length, problem.dtype),
        )
