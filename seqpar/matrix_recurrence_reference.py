"""The plain algorithms of the matrix recurrence as kernels of the backend "reference"."""

from math import prod

from seqpar.algorithms.matrix_recurrence import chunked, sequential, tree
from seqpar.dispatch.problem import Problem
from seqpar.matrix_recurrence_operation import BACKWARD
from seqpar.reference_kernels import (
    ChunkedKernel,
    RulesKernel,
    SequentialKernel,
    TreeKernel,
)

__all__ = ["BACKWARD_KERNELS", "KERNELS"]


class Sequential(SequentialKernel):
    operation = "matrix_recurrence"
    algorithm = staticmethod(sequential)

    def rank(self, problem: Problem) -> float:
        return 103.0 if _products_pay(problem) else 100.0


class Chunked(ChunkedKernel):
    operation = "matrix_recurrence"
    algorithm = staticmethod(chunked)

    def rank(self, problem: Problem) -> float:
        return 101.0


class Tree(TreeKernel):
    operation = "matrix_recurrence"
    algorithm = staticmethod(tree)

    def rank(self, problem: Problem) -> float:
        # Eager, one sequence, n = 2 and 4: 0.6 to 1.0 of the time of `chunked` at 16,384 and 65,536 steps, more below.
        return 100.0 if problem.time >= 8192 and _products_pay(problem) else 102.0


class SequentialBackward(RulesKernel):
    operation = "matrix_recurrence_backward"
    method = "sequential"
    algorithm = staticmethod(sequential)
    by_rules = BACKWARD.by_rules

    def rank(self, problem: Problem) -> float:
        return 102.0 if _products_pay(problem) else 100.0


class ChunkedBackward(RulesKernel):
    operation = "matrix_recurrence_backward"
    method = "chunked"
    algorithm = staticmethod(chunked)
    by_rules = BACKWARD.by_rules

    def rank(self, problem: Problem) -> float:
        return 101.0


def _products_pay(problem: Problem) -> bool:
    """Do the products of matrices that chunks need cost less than the calls into the framework that they save?

    A step costs about 7 microseconds of calls, a product of matrices 20 ns for each of n**3 terms (14 array operations), and
    the calls for products of chunks as much as 64 n steps. Time of `chunked` over `sequential`, NumPy, float32, 4,096 steps:
    n=2 0.1 for one sequence, 0.7 for 16, 4.7 for 256; n=4 0.2, 2.4; n=8 0.7, 8.2; n=16 4.1. PyTorch 0.4 to 1 of that. With a
    constant matrix one product serves all chunks: n=2 0.1, 0.3, 1.5; n=4 0.1, 0.5; n=8 0.2, 0.8; n=16 0.3, 1.5 (16, 1,024 steps).
    """
    *lead, n, _ = problem.shape
    sequences = prod(lead) // max(1, problem.time)
    work = sequences * n**2 if "constant" in problem.options else sequences * n**3
    # A GPU: a launch is about 5 microseconds and 14 operations on an element 35 ps of memory traffic. Arithmetic, not measured.
    bound = 512 if problem.device == "cpu" else 2**18
    return problem.time >= max(128, 64 * n) and work <= bound


KERNELS = (Sequential(), Chunked(), Tree())
BACKWARD_KERNELS = (SequentialBackward(), ChunkedBackward())
