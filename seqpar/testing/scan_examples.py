"""What the conformance suite asks of kernels of the associative scan: functions that do not commute, and their definition.

The leaves of an example are the operands: time lies in all of them at `axis`, which counts from the front.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from seqpar.associative_scan import associative_scan
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.testing import oracle
from seqpar.testing.examples import Answers, Array, Example, rotations


@dataclass(frozen=True, kw_only=True)
class ScanExample(Example):
    """One scan: of affine maps (a, b), whose second leaf is a linear recurrence, or of matrices, the states of another one."""

    operation: ClassVar[str] = "associative_scan"

    axis: int = 1
    elements: Literal["affine", "matrices"] = "affine"

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "ScanExample":
        return cls(shape=(batch, time, width), **fields)

    def operands(self) -> tuple[Array, ...]:
        """(a, b), or the matrices as the only leaf."""
        x = self.numbers(1, self.shape, self.dtype)
        if self.elements == "matrices":
            return (self.laid_out(rotations(x)),)
        # Of modulus 0.9 to 1: products of a few hundred are no smaller than what is compared with them.
        wide = x.astype("complex128" if np.iscomplexobj(x) else "float64")
        a = wide * (0.1 + 0.9 / np.abs(wide))
        return self.laid_out(a.astype(x.dtype)), self.numbers(2, self.shape, self.dtype)

    @cached_property
    def answers(self) -> Answers:
        if self.elements == "matrices":
            (A,) = self.operands()
            # Products of all matrices so far: the states from the identity, without inputs.
            n = self.shape[-1]
            given: Sequence[Array] = (A, np.zeros_like(A), np.eye(n, dtype=A.dtype)[(None,) * (A.ndim - 3)])
            how: dict[str, Any] = {"axis": self.time, "reverse": self.reverse}
            return Answers(
                oracle.matrix_walk(*given, **how)[:1], oracle.matrix_error_bound(*given, **how)[:1]
            )
        a, b = self.operands()
        one = np.ones((1,) * (a.ndim - 1), a.dtype)
        how = {"axis": self.time, "reverse": self.reverse}
        both = ((a, np.zeros_like(a), one), (a, b, None))
        exact = tuple(oracle.walk(*given, **how)[0] for given in both)
        return Answers(exact, tuple(oracle.error_bound(*given, **how)[0] for given in both))

    def names(self, backward: bool) -> Sequence[str]:
        return ("products",) if self.elements == "matrices" else ("a", "b")

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        combine = _products if self.elements == "matrices" else _affine
        return associative_scan, [combine, tuple(operands)], {"axis": self.axis, "reverse": self.reverse}

    def results(self, returned: Any) -> Sequence[Array]:
        return tuple(returned)

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        function, given, options = self.public(operands)
        forced = {"method": wish.method, "backend": wish.backend, "config": wish.config}
        return self.results(function(*given, **options, **forced))

    def words(self) -> list[str]:
        return [self.elements]


def _affine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    """First left, then right: x -> right_a (left_a x + left_b) + right_b."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def _products(left: tuple[Array], right: tuple[Array]) -> tuple[Array]:
    """right @ left, in the order in which the matrices of a recurrence act; in arithmetic that every library has."""
    (x,), (y,) = right, left
    return (sum(x[..., :, i : i + 1] * y[..., i : i + 1, :] for i in range(x.shape[-1])),)


SCAN_EXAMPLES = (
    ScanExample(shape=(2, 33, 5)),
    ScanExample(shape=(2, 33, 5), dtype="float64", reverse=True),
    ScanExample(shape=(3, 257, 4), dtype="complex64"),
    ScanExample(shape=(40, 3), axis=0, reverse=True),
    ScanExample(shape=(3, 101), dtype="float64"),
    ScanExample(shape=(2, 33, 3, 3), elements="matrices", dtype="float64"),
    ScanExample(shape=(2, 40, 2, 2), elements="matrices", reverse=True),
    ScanExample(shape=(64, 3, 3), elements="matrices", axis=0, dtype="complex128"),
    ScanExample(shape=(3, 40, 4), memory="swapped"),
    ScanExample(shape=(3, 40, 4), memory="backwards", reverse=True),
    ScanExample(shape=(3, 40, 4), memory="gaps"),
    ScanExample(shape=(2, 0, 3)),
    ScanExample(shape=(0, 4, 3)),
    ScanExample(shape=(2, 1, 3)),
)
