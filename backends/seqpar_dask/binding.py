"""What seqpar has to know of Dask: nothing is computed before it is asked for, and rows need not have been counted.

Every operation but those of `kernels` runs through the plain algorithms on whole arrays, lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.plain_bindings import ArrayAPIBinding
from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError
from seqpar.solving.bindings import PlainSolver
from seqpar_dask.kernels import of_unknown_rows
from seqpar_dask.linear_algebra import DaskLinearAlgebra


class DaskBinding(ArrayAPIBinding, PlainSolver):
    """Dask arrays."""

    def __init__(self) -> None:
        ArrayAPIBinding.__init__(self, "dask")
        PlainSolver.__init__(self, self)

    def beneath(self, x: Array) -> None:
        """No values: looking at them would compute them."""
        return None

    def deferred(self, x: Array) -> bool:
        return True

    def linear_algebra(self, xp: Any) -> DaskLinearAlgebra:
        return DaskLinearAlgebra(xp)

    def direct(self, operands: Sequence[Array | None]) -> bool:
        return all(x is None or _counted(x) for x in operands)

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> tuple[Array, ...]:
        if self.direct(operands):
            return super().call(operation, spec, operands, request)
        # Shapes choose kernels, and here there is none yet.
        kernel = of_unknown_rows(operation.name, request.method)
        if request.method not in ("auto", kernel.method) or request.backend not in (None, kernel.backend):
            raise NotEligibleError(
                f"{operation.name}: method={request.method!r}, backend={request.backend!r} was asked for rows that nobody "
                f"has counted. Give method='auto' and backend=None, or x.compute_chunk_sizes() first."
            )
        config = kernel.config() if request.config is None else request.config
        return kernel.run(self.namespace(operands[0]), spec, config, operands)


def _counted(x: Array) -> bool:
    # Dask's way to say that it does not know a size yet is NaN.
    return all(n == n for n in x.shape)
