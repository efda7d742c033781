"""PyTorch's prototype of an associative scan, in its two modes. Called by `linear_peers`, `matrices` and `scan_peers`.

Eager, as it runs without a compiler, on any device: about 2 log2(T) rounds, each of which reads and writes what is left.
Compiled, into one kernel that combines numbers one by one, for GPUs alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.operands import COMPLEX
from seqpar_bench.bench.problem import Problem

Array = Any
Function = Callable[..., Any]

EAGER = "torch.associative_scan, eager"
COMPILED = "torch.associative_scan, compiled"


def eager(combine: Function, axis: int, *leaves: Array) -> Any:
    """Of one leaf, or of several as a tuple. Differentiable."""
    from torch._higher_order_ops.associative_scan import associative_scan

    return associative_scan(combine, leaves if len(leaves) > 1 else leaves[0], axis, combine_mode="generic")


def compiled(combine: Function, axis: int) -> Function:
    """The same as a function of the leaves that is compiled in its first call, which is not timed."""

    def scan(*leaves: Array) -> Any:
        from torch._higher_order_ops.associative_scan import associative_scan

        given = leaves if len(leaves) > 1 else leaves[0]
        return associative_scan(combine, given, axis, combine_mode="pointwise")

    @functools.cache
    def made() -> Function:
        import torch

        # What was compiled for other problems counts against a limit per function, and nobody calls it any more.
        torch._dynamo.reset()
        return torch.compile(scan, fullgraph=True, dynamic=False)

    return lambda *leaves: made()(*leaves)


def not_compiled(problem: Problem, frame: Frame) -> str:
    """Why the compiled one takes no part, "" if it does."""
    if frame.device == "cpu":
        return "PyTorch compiles it for GPUs alone"
    if problem.dtype in COMPLEX:
        return "PyTorch compiles nothing for complex numbers"
    if problem.which == "gradient":
        return "its gradients take a matrix of all pairs of steps"
    return ""
