"""The plain algorithms of the linear recurrence as kernels of the backend "reference"."""

from seqpar.algorithms.linear_recurrence import chunked, sequential, tree
from seqpar.dispatch.problem import Problem
from seqpar.linear_recurrence_operation import BACKWARD
from seqpar.reference_kernels import (
    ChunkedKernel,
    ChunkedLoop,
    Leaves,
    RulesKernel,
    SequentialKernel,
    TreeKernel,
)

__all__ = ["BACKWARD_KERNELS", "KERNELS", "ChunkedLoop", "Leaves"]


class Sequential(SequentialKernel):
    operation = "linear_recurrence"
    algorithm = staticmethod(sequential)

    def rank(self, problem: Problem) -> float:
        # Up to about 32 steps the loop has no more Python steps than the two loops of `chunked`.
        return 100.0 if problem.time <= 32 and not problem.traced else 103.0


class Chunked(ChunkedKernel):
    operation = "linear_recurrence"
    algorithm = staticmethod(chunked)

    def rank(self, problem: Problem) -> float:
        return 101.0


class Tree(TreeKernel):
    operation = "linear_recurrence"
    algorithm = staticmethod(tree)

    def rank(self, problem: Problem) -> float:
        return 102.0


class Backward(RulesKernel):
    operation = "linear_recurrence_backward"
    method = "chunked"
    algorithm = staticmethod(chunked)
    by_rules = BACKWARD.by_rules

    def rank(self, problem: Problem) -> float:
        return 100.0


KERNELS = (Sequential(), Chunked(), Tree())
BACKWARD_KERNELS = (Backward(),)
