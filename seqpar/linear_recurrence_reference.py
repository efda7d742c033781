"""The plain algorithms as kernels of the backend "reference": right for every array library, fast in none.

They take part in a choice like any other kernel and rank last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.dispatch.problem import Array, Kernel, Problem
from seqpar.linear_recurrence_operation import BACKWARD


class ReferenceKernel(Kernel):
    """An algorithm of `seqpar.algorithms`, run on the caller's arrays in the caller's namespace."""

    backend = "reference"
    form = "arrays"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework == "jax" and problem.time > 256:
            # Measured: 2 to 5 s of compilation at 256 steps by any method, 40 to 300 s at 65,536.
            return "unrolls its loops: beyond 256 steps the program compiles for minutes. backend='xla' has the same as loops"
        return None


class Sequential(ReferenceKernel):
    operation = "linear_recurrence"
    method = "sequential"
    summary = "the definition: a loop over time in the caller's framework"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return algorithm.sequential(xp, spec, *operands)

    def rank(self, problem: Problem) -> float:
        # Up to about 32 steps the loop has no more Python steps than the two loops of `chunked`.
        return 100.0 if problem.time <= 32 and not problem.traced else 103.0


@dataclass(frozen=True, kw_only=True)
class ChunkedLoop:
    """Steps per chunk of the chunked reference algorithm; None takes about the square root of the length."""

    chunk: int | None = None


class Chunked(ReferenceKernel):
    operation = "linear_recurrence"
    method = "chunked"
    config = ChunkedLoop
    summary = "chunks of about sqrt(T) steps, all at once; O(sqrt T) calls into the framework"

    def refuses(self, problem: Problem, config: ChunkedLoop) -> str | None:
        if config.chunk is not None and (type(config.chunk) is not int or config.chunk < 1):
            return f"chunk={config.chunk!r} is not a positive number of steps"
        return super().refuses(problem, config)

    def run(
        self, xp: Any, spec: Any, config: ChunkedLoop, operands: Sequence[Array | None]
    ) -> tuple[Array, ...]:
        return algorithm.chunked(xp, spec, *operands, chunk=config.chunk)

    def rank(self, problem: Problem) -> float:
        return 101.0


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Steps that each leaf of the tree walks one after the other."""

    leaf: int = 8


class Tree(ReferenceKernel):
    operation = "linear_recurrence"
    method = "tree"
    config = Leaves
    summary = "a prefix scan over pairs of steps, O(log T) calls into the framework"

    def refuses(self, problem: Problem, config: Leaves) -> str | None:
        if type(config.leaf) is not int or config.leaf < 1:
            return f"leaf={config.leaf!r} is not a positive number of steps"
        return super().refuses(problem, config)

    def run(self, xp: Any, spec: Any, config: Leaves, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return algorithm.tree(xp, spec, *operands, leaf=config.leaf)

    def rank(self, problem: Problem) -> float:
        return 102.0


class Backward(ReferenceKernel):
    operation = "linear_recurrence_backward"
    method = "sequential"
    summary = "the vjp by its rules: one adjoint walk and elementwise work"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return BACKWARD.by_rules(xp, spec, operands)

    def rank(self, problem: Problem) -> float:
        return 100.0


KERNELS = (Sequential(), Chunked(), Tree())
BACKWARD_KERNELS = (Backward(),)
