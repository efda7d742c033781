"""What the conformance suite asks of kernels of the matrix recurrence.

A: (lead..., n, n), b: (lead..., n, k), resets: (lead..., 1, 1), h0: (lead without time..., n, k).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from seqpar.matrix_recurrence import matrix_recurrence
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.testing import oracle
from seqpar.testing.examples import Answers, Array, Shape, rotations
from seqpar.testing.recurrence_examples import RecurrenceExample


@dataclass(frozen=True, kw_only=True)
class MatrixExample(RecurrenceExample):
    """One matrix recurrence, with states of n rows and k columns."""

    operation: ClassVar[str] = "matrix_recurrence"
    fused_backward: ClassVar[str | None] = "matrix_recurrence_backward"
    function: ClassVar[Callable[..., Any]] = matrix_recurrence

    axis: int = -3
    transposed: bool = False
    growing: bool = False
    """diag(3, 1/2, ...): over thousands of steps products overflow, and states, zero in the first row, do not."""

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "MatrixExample":
        return cls(shape=(batch, time, width, 2), h0=True, **fields)

    @property
    def walk(self) -> MatrixWalk:
        return MatrixWalk(self.time, self.reverse, self.transposed, self.adjoint)

    def operands(self) -> tuple[Array, Array, Array | None, Array | None]:
        """(A, b, h0, resets)"""
        A, b = self._matrices(), self._values("b", 2)
        h0 = self.state("h0", 3) if self.h0 else None
        resets = self.mask((*self.shape[:-2], 1, 1))
        if self.spoiled:
            b[(*self.step(2), ..., 0)], A[(*self.step(5), ..., 0, 0)] = np.nan, np.inf
        return A, b, h0, resets

    def backward_operands(self) -> tuple[Array | None, ...]:
        """(A, h0, resets, h, g, g_final)"""
        A, b, h0, resets = self.operands()
        h = self.laid_out(self.answers.exact[0].astype(b.dtype))
        return A, h0, resets, h, self._values("g", 5), self.state("g_final", 6) if self.g_final else None

    def options(self) -> dict[str, Any]:
        return {"axis": self.axis, "reverse": self.reverse, "columns": True}

    @cached_property
    def answers(self) -> Answers:
        given, how = self.operands(), self.walk._asdict()
        return Answers(oracle.matrix_walk(*given, **how), oracle.matrix_error_bound(*given, **how))

    def gradients(self) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Shape, ...]]:
        A, b, h0, resets = self.operands()
        *_, h, g, g_final = self.backward_operands()
        how = self.walk._asdict()
        del how["adjoint"]
        exact = oracle.matrix_backward(A, b, h0, resets, h, g, g_final, **how)
        bounds = oracle.matrix_backward_error_bound(A, b, h0, resets, g, g_final, **how)
        return exact, bounds, (A.shape, self.shape, self.stateless if h0 is None else h0.shape)

    def words(self) -> list[str]:
        return [*(name for name in ("transposed", "growing") if getattr(self, name)), *super().words()]

    def _matrices(self) -> Array:
        n = self.shape[-2]
        A = self.operand("A", 1, (*self.shape[:-2], n, n), self.dtype_a or self.dtype)
        if not self.growing:
            return self.laid_out(rotations(A))
        return np.broadcast_to(np.diag([3.0, *[0.5] * (n - 1)]), A.shape).astype(A.dtype)

    def _values(self, name: str, seed: int) -> Array:
        return self._without_growth(self.operand(name, seed, self.shape, self.dtype))

    def state(self, name: str, seed: int) -> Array:
        return self._without_growth(super().state(name, seed))

    def _without_growth(self, x: Array) -> Array:
        if self.growing:
            x[..., 0, :] = 0
        return x


MATRIX_EXAMPLES = (
    MatrixExample(shape=(2, 33, 4, 1)),
    MatrixExample(shape=(2, 33, 4, 1), dtype="float64", reverse=True),
    MatrixExample(shape=(3, 257, 4, 1), h0=True, resets=0.05),
    MatrixExample(shape=(2, 40, 3, 1), dtype="float64", h0=True, reverse=True, resets=0.1),
    MatrixExample(shape=(2, 40, 4, 1), transposed=True),
    # Every size, one and several right-hand sides, many sequences.
    MatrixExample(shape=(70, 20, 1, 1), h0=True),
    MatrixExample(shape=(65, 20, 2, 1)),
    MatrixExample(shape=(3, 40, 2, 3), h0=True, resets=0.1),
    MatrixExample(shape=(17, 33, 5, 1)),
    MatrixExample(shape=(2, 40, 8, 2), transposed=True, reverse=True),
    MatrixExample(shape=(2, 33, 16, 1), h0=True),
    MatrixExample(shape=(2, 20, 17, 1), dtype="float64"),
    # Time first, time alone, more axes in front, one step of one value.
    MatrixExample(shape=(40, 2, 3, 1), axis=0, h0=True),
    MatrixExample(shape=(53, 2, 1), dtype="float64", h0=True, g_final=False),
    MatrixExample(shape=(2, 30, 3, 4, 1), axis=1, resets=0.1),
    MatrixExample(shape=(1, 1, 1, 1), dtype="float64", h0=True),
    # Every dtype, and matrices wider than the values.
    MatrixExample(shape=(2, 40, 3, 1), dtype="complex64"),
    MatrixExample(shape=(2, 40, 2, 2), dtype="complex128", h0=True, reverse=True, resets=0.1),
    MatrixExample(shape=(2, 40, 4, 1), dtype="float16", h0=True),
    MatrixExample(shape=(2, 40, 4, 1), dtype="bfloat16", h0=True, resets=0.1),
    MatrixExample(shape=(2, 40, 4, 1), dtype="bfloat16", dtype_a="float32"),
    # Operands that broadcast, both ways: one matrix for all, per step, per sequence; b, h0 and resets shared.
    MatrixExample(shape=(3, 40, 4, 1), narrow={"A": (1, 1, 4, 4)}),
    MatrixExample(shape=(3, 40, 4, 1), narrow={"A": (1, 40, 4, 4), "h0": (1, 4, 1)}, h0=True, g_final=False),
    MatrixExample(shape=(3, 40, 4, 1), narrow={"A": (3, 1, 4, 4)}, resets=0.1, reverse=True),
    MatrixExample(
        shape=(3, 40, 4, 1), narrow={"b": (1, 40, 4, 1), "resets": (1, 40, 1, 1)}, transposed=True, resets=0.1
    ),
    MatrixExample(shape=(3, 40, 3, 2), narrow={"b": (3, 1, 3, 2), "A": (1, 40, 3, 3)}, dtype="float64"),
    # Other memory than row-major.
    MatrixExample(shape=(3, 40, 4, 2), memory="transposed", h0=True),
    MatrixExample(shape=(5, 40, 4, 1), memory="swapped", h0=True, resets=0.1),
    MatrixExample(shape=(3, 40, 4, 1), memory="backwards", h0=True, reverse=True),
    MatrixExample(shape=(3, 40, 4, 2), memory="gaps", h0=True),
    MatrixExample(shape=(3, 40, 4, 1), memory="repeated", h0=True),
    # Not even NaN gets past a reset; products that overflow do no harm.
    MatrixExample(shape=(2, 50, 3, 2), resets=0.1, spoiled=True),
    MatrixExample(shape=(2, 50, 3, 1), resets=0.1, reverse=True, h0=True, spoiled=True),
    MatrixExample(shape=(1, 4096, 2, 1), growing=True, h0=True),
    # Nothing to compute.
    MatrixExample(shape=(2, 0, 3, 1), h0=True),
    MatrixExample(shape=(0, 4, 3, 1), h0=True),
    MatrixExample(shape=(2, 4, 0, 1), h0=True),
    MatrixExample(shape=(2, 4, 3, 0)),
    # Walks that multiply after they add: what gradients of the forward pass are made of.
    MatrixExample(shape=(2, 33, 4, 1), adjoint=True, transposed=True, reverse=True),
    MatrixExample(shape=(3, 257, 4, 1), adjoint=True, resets=0.05, h0=True),
    MatrixExample(shape=(2, 40, 3, 2), dtype="float64", adjoint=True, transposed=True, resets=0.1),
    MatrixExample(shape=(2, 40, 3, 1), dtype="complex64", adjoint=True, reverse=True, h0=True),
    MatrixExample(shape=(2, 40, 4, 1), dtype="bfloat16", adjoint=True, resets=0.1),
    MatrixExample(shape=(3, 40, 4, 1), adjoint=True, narrow={"A": (1, 1, 4, 4)}, h0=True),
    MatrixExample(shape=(3, 40, 4, 2), adjoint=True, memory="transposed", reverse=True),
    MatrixExample(shape=(2, 50, 3, 1), adjoint=True, resets=0.1, spoiled=True),
    MatrixExample(shape=(1, 4096, 2, 1), adjoint=True, growing=True),
    MatrixExample(shape=(2, 0, 3, 1), adjoint=True, h0=True),
)
