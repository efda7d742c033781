"""The definition of a cell's walk and of its backward pass as kernels of the backend "reference"."""

from seqpar.cells.operation import backward, sequential
from seqpar.dispatch.problem import Problem
from seqpar.reference_kernels import SequentialKernel

__all__ = ["BACKWARD_KERNELS", "KERNELS"]


class Sequential(SequentialKernel):
    operation = "cell"
    algorithm = staticmethod(sequential)

    def rank(self, problem: Problem) -> float:
        return 100.0


class SequentialBackward(SequentialKernel):
    operation = "cell_backward"
    algorithm = staticmethod(backward)

    def rank(self, problem: Problem) -> float:
        return 100.0


KERNELS = (Sequential(),)
BACKWARD_KERNELS = (SequentialBackward(),)
