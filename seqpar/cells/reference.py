"""The definition of a cell's walk, of its backward pass and of gradients in it as kernels of the backend "reference"."""

from typing import Any

from seqpar.cells.gradients_operation import in_arrays
from seqpar.cells.operation import backward, sequential
from seqpar.dispatch.problem import Problem
from seqpar.reference_kernels import ReferenceKernel, SequentialKernel

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


class Products(ReferenceKernel):
    operation = "cell_gradients"
    method = "products"
    summary = "products of matrices over all steps, by the caller's framework"
    algorithm = staticmethod(in_arrays)

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 100.0


KERNELS = (Sequential(),)
BACKWARD_KERNELS = (SequentialBackward(), Products())
