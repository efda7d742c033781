"""The plain algorithms as kernels of the backend "reference": right for every array library, fast in none.

They take part in a choice like any other kernel and rank last. Each operation says which algorithms are its own and which of
them is quickest when.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from seqpar.dispatch.knobs import knob, powers_of_two
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts

__all__ = [
    "ChunkedKernel",
    "ChunkedLoop",
    "Leaves",
    "ReferenceKernel",
    "RulesKernel",
    "SequentialKernel",
    "TreeKernel",
]


class ReferenceKernel(Kernel):
    """An algorithm of `seqpar.algorithms`, run on the caller's arrays in the caller's namespace."""

    backend = "reference"
    form = "arrays"
    algorithm: ClassVar[Callable[..., tuple[Array, ...]]]
    """(xp, spec, *operands, **knobs of the config) -> results."""

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if wrong := wrong_counts(config):
            return wrong
        if problem.framework == "jax" and problem.time > 256:
            # Measured: 2 to 5 s of compilation at 256 steps by any method, 40 to 300 s at 65,536.
            return "unrolls its loops: beyond 256 steps the program compiles for minutes. backend='xla' has the same as loops"
        return None

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return type(self).algorithm(xp, spec, *operands, **vars(config))


class SequentialKernel(ReferenceKernel):
    method = "sequential"
    summary = "the definition: a loop over time in the caller's framework"


@dataclass(frozen=True, kw_only=True)
class ChunkedLoop:
    """Steps per chunk of the chunked reference algorithm; None takes about the square root of the length."""

    chunk: int | None = knob(None, tries=(None, *powers_of_two(16, 1 << 12)), below="time")


class ChunkedKernel(ReferenceKernel):
    method = "chunked"
    config = ChunkedLoop
    summary = "chunks of about sqrt(T) steps, all at once; O(sqrt T) calls into the framework"


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Steps that each leaf of the tree walks one after the other."""

    leaf: int = knob(8, tries=powers_of_two(2, 64), below="time")


class TreeKernel(ReferenceKernel):
    method = "tree"
    config = Leaves
    summary = "a prefix scan over pairs of steps, O(log T) calls into the framework"


class RulesKernel(ReferenceKernel):
    """The fused backward pass of an operation by its rules: one adjoint walk by the kernel's method, and elementwise work."""

    summary = "the vjp by its rules: one adjoint walk and elementwise work"
    by_rules: ClassVar[Callable[..., tuple[Array, ...]]]
    """(xp, spec, operands, method of the forward operation) -> results."""

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return type(self).by_rules(xp, spec, operands, type(self).algorithm)
