"""What else computes the same recurrence on a GPU, each in the layout it wants, made beforehand and not timed.

Copies and cumulative sums move two thirds of the bytes of a forward pass and are there to compare bandwidths.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from seqpar_bench import matrix_peers, peers
from seqpar_bench.bench.operations.gpu_peers import GPU_SCANS, GpuScan, Layouts
from seqpar_bench.gpu.answers import Inputs
from seqpar_bench.gpu.cases import Case
from seqpar_bench.gpu.frameworks import Frame

Array = Any
YARDSTICKS = ("cumsum", "copy by a kernel")


@dataclass(frozen=True)
class Peer:
    """A function of somebody else's on arrays of one framework."""

    function: Callable[..., Array]
    given: Inputs
    """Inputs as it wants them."""
    restore: Callable[[Array], Array] = lambda x: x
    """From its layout to that of the case."""
    logarithmic: bool = False
    """Does it take the logarithms of coefficients?"""
    numbers: int = 0
    """That it moves per state, if it does not compute the recurrence: one of `YARDSTICKS`."""


Found = tuple[str, Callable[[], Peer] | str]
"""Its name, and how to make it or why it takes no part."""


def peers_of(case: Case, frame: Frame, given: Inputs) -> Iterator[Found]:
    """The peers that live in a framework."""
    if frame.name == "torch":
        yield from _of_torch(case, frame, given)
    elif frame.name == "jax":
        yield from _of_jax(case, given)
    else:
        yield "copy by a kernel", lambda: _elementwise(frame, given)


def _of_torch(case: Case, frame: Frame, given: Inputs) -> Iterator[Found]:
    cumsum = partial(frame.module.cumsum, dim=case.axis)
    yield "cumsum", lambda: Peer(lambda a, b: cumsum(b), given, numbers=2)
    if case.matrices:
        return
    layouts = Layouts(given, time_last=case.axis == 2)
    for scan in GPU_SCANS:
        yield str(scan), scan.refused(case.steps, case.dtype) or partial(_laid_out, scan, layouts, frame)


def _laid_out(scan: GpuScan, layouts: Layouts, frame: Frame) -> Peer:
    function = scan.function(partial(_there, frame))
    given = Inputs(*layouts.wanted_by(scan))
    return Peer(function, given, partial(layouts.restored, scan), scan.logarithmic)


def _of_jax(case: Case, given: Inputs) -> Iterator[Found]:
    module: Any = matrix_peers if case.matrices else peers
    for name in ("jax.lax.associative_scan", "jax.lax.scan"):
        function = getattr(module, name.replace(".lax.", "_"))
        if name == "jax.lax.scan" and case.steps > 20_000:
            yield name, f"{case.steps} rounds of a loop take too long"
            continue

        call = function if case.matrices else partial(function, axis=case.axis)
        yield name, partial(Peer, call, given)


def _elementwise(frame: Frame, given: Inputs) -> Peer:
    if frame.gpu:
        kernel = frame.module.ElementwiseKernel("T x", "T y", "y = x", "copy_of_seqpar_bench")
    else:
        kernel = frame.module.copy
    return Peer(lambda a, b: kernel(b), given, numbers=2)


def _there(frame: Frame, module: str) -> Any:
    """A module, which is asked for on a GPU only: these have no other code."""
    if not frame.gpu:
        raise ModuleNotFoundError("has no code for the CPU")
    return importlib.import_module(module)
