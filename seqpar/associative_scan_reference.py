"""The scan algorithms as kernels of the backend "reference", which is what runs in every framework but JAX.

They call nothing but the user's function, slices and joins, so they are as fast as the framework's own elementwise code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqpar.algorithms import associative_scan as algorithm
from seqpar.associative_scan_operation import NAME, Scan
from seqpar.dispatch.knobs import knob, powers_of_two
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts


class ReferenceScan(Kernel):
    """An algorithm of `seqpar.algorithms.associative_scan`, run on the caller's arrays in the caller's namespace."""

    operation = NAME
    backend = "reference"
    form = "arrays"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if wrong := wrong_counts(config, least=2):
            return wrong
        if problem.framework == "jax" and problem.time > 256:
            return "unrolls its loops: beyond 256 steps the program compiles for long. backend='xla' has the same as loops"
        return None


class Sequential(ReferenceScan):
    method = "sequential"
    summary = "the definition: T - 1 calls of `combine`, one after the other"

    def run(self, xp: Any, spec: Scan, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return tuple(algorithm.sequential(xp, spec.combine, list(operands), spec.time))

    def rank(self, problem: Problem) -> float:
        # NumPy, affine pair: 16 steps take 45 microseconds by all methods, 64 take 180 by steps and 130 in a tree.
        return 100.0 if problem.time <= 16 else 103.0


@dataclass(frozen=True, kw_only=True)
class ScanChunks:
    """Steps per chunk; None takes about the square root of the length."""

    chunk: int | None = knob(None, tries=(None, *powers_of_two(8, 1 << 12)), below="time")


class Chunked(ReferenceScan):
    method = "chunked"
    config = ScanChunks
    summary = "chunks of about sqrt(T) steps, all at once; 3 sqrt(T) calls of `combine`"

    def run(
        self, xp: Any, spec: Scan, config: ScanChunks, operands: Sequence[Array | None]
    ) -> tuple[Array, ...]:
        return tuple(algorithm.chunked(xp, spec.combine, list(operands), spec.time, chunk=config.chunk))

    def rank(self, problem: Problem) -> float:
        return 102.0


@dataclass(frozen=True, kw_only=True)
class ScanLeaves:
    """Steps per leaf of the tree: 2 makes the fewest steps one after the other, 4 the fewest passes over memory."""

    leaf: int = knob(4, tries=powers_of_two(2, 64), below="time")


class Tree(ReferenceScan):
    method = "tree"
    config = ScanLeaves
    summary = "chunks of 4 steps, and their ends scanned the same way; O(log T) calls of `combine`"

    def run(
        self, xp: Any, spec: Scan, config: ScanLeaves, operands: Sequence[Array | None]
    ) -> tuple[Array, ...]:
        return tuple(
            algorithm.tree(
                xp, spec.combine, list(operands), spec.time, leaf=config.leaf, symbolic=spec.symbolic
            )
        )

    def rank(self, problem: Problem) -> float:
        return 101.0


KERNELS = (Sequential(), Chunked(), Tree())
