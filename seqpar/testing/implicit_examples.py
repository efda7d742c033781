"""What the conformance suite asks of kernels that keep Q as factors: the same of the Q that the factors stand for.

Q is made of factors by the definition of their form, in float64. Products are compared with products with such a Q.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from seqpar.algorithms import tsqr
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.qr import qr
from seqpar.tall.implicit_operations import Blocks, Product
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.packed_householder import factorised, multiplied
from seqpar.testing.comparison import widened
from seqpar.testing.examples import Answers, Array
from seqpar.testing.tall_examples import QRExample, TallExample


@dataclass(frozen=True, kw_only=True)
class PackedExample(QRExample):
    """Householder vectors, and R."""

    operation: ClassVar[str] = "qr_packed"

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "PackedExample":
        return cls(shape=(batch, max(time, width), width), **fields)

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        v, t, signs, r, ran = results
        return super().compared((_of_vectors(v, t, signs, self.shape[-2]), r, ran), backward)

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        return qr, list(operands), {"mode": "implicit", "return_info": True}

    def results(self, returned: Any) -> Sequence[Array]:
        q, info = returned
        return (*q.factors, q.R, info.method)


@dataclass(frozen=True, kw_only=True)
class BlocksExample(PackedExample):
    """Orthonormal factors of blocks of rows and of their R factors, and R."""

    operation: ClassVar[str] = "qr_blocks"

    rows: int | None = None
    """Of a block; all of them if None."""

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        binding = binding_for(type(operands[0]))
        blocks = Blocks(self.shape[-2] if self.rows is None else self.rows)
        return binding.call(operations[kernel.operation], blocks, operands, wish)

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        leaves, node, r, ran = results
        return QRExample.compared(self, (_of_blocks(leaves, node, self.shape[-2]), r, ran), backward)

    def words(self) -> list[str]:
        return [*super().words(), "" if self.rows is None else f"rows{self.rows}"]


@dataclass(frozen=True, kw_only=True)
class ProductExample(TallExample):
    """Q x, or Q^H x, with factors of either form."""

    operation: ClassVar[str] = "qr_product"

    right: int = 2
    """Columns of x."""
    adjoint: bool = False
    rows: int | None = None
    """Of a block; None for Householder vectors."""

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "ProductExample":
        return cls(shape=(batch, max(time, width), width), **fields)

    def operands(self) -> tuple[Array | None, ...]:
        a = self.matrix()
        *lead, m, n = self.shape
        x = self.numbers(2, (*lead, m if self.adjoint else n, self.right), self.dtype)
        if self.rows is None:
            *factors, _ = factorised(np, a)
            return None, None, *(np.ascontiguousarray(f) for f in factors), x
        levels, _ = tsqr.factors(np, linear_algebra(a), a, rows=self.rows, arity=-(-m // self.rows))
        return None, None, *levels, None, x

    def names(self, backward: bool) -> Sequence[str]:
        return ("Q^H x" if self.adjoint else "Q x",)

    @cached_property
    def answers(self) -> Answers:
        _, _, first, second, signs, x = self.operands()
        m = self.shape[-2]
        assert first is not None and second is not None and x is not None
        q = _of_blocks(first, second, m) if signs is None else _of_vectors(first, second, signs, m)
        x = widened(x)
        y = (np.swapaxes(q.conj(), -1, -2) if self.adjoint else q) @ x
        return Answers((y,), (self.unit * np.linalg.norm(x, axis=-2, keepdims=True),))

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        raise NotImplementedError("no public call names the kernel of a product: it follows from the factors")

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        binding = binding_for(type(operands[-1]))
        spec = Product(self.adjoint, self.shape[-2], self.rows is None)
        return binding.call(operations[kernel.operation], spec, operands, wish)

    def words(self) -> list[str]:
        form = "packed" if self.rows is None else f"rows{self.rows}"
        return [*super().words(), form, "adjoint" if self.adjoint else "", f"k{self.right}"]


def _of_vectors(v: Array, t: Array, signs: Array, m: int) -> Array:
    """Q of Householder vectors, in float64."""
    eye = np.broadcast_to(np.eye(v.shape[-1]), (*v.shape[:-2], *2 * (v.shape[-1],)))
    with np.errstate(all="ignore"):  # non-finite values are data
        return multiplied(np, widened(v), widened(t), widened(signs), eye, m, False)


def _of_blocks(leaves: Array, node: Array, m: int) -> Array:
    """Q of leaves and a node, in float64."""
    levels = tuple(widened(x) for x in ((leaves, node) if leaves.shape[-3] > 1 else (leaves,)))
    with np.errstate(all="ignore"):  # non-finite values are data
        return tsqr.explicit(np, linear_algebra(levels[0]), levels, m)


IMPLICIT_EXAMPLES: tuple[TallExample, ...] = (
    PackedExample(shape=(33, 5)),
    PackedExample(shape=(2, 40, 8), dtype="float64"),
    PackedExample(shape=(3, 600, 17)),
    PackedExample(shape=(16, 16), dtype="float64"),
    PackedExample(shape=(2, 100, 8), kind="deficient"),
    PackedExample(shape=(9, 64, 6), kind="mixed"),
    PackedExample(shape=(4, 64, 5), scale=1e30),
    PackedExample(shape=(4, 70, 5), spoiled=True),
    PackedExample(shape=(3, 70, 4), memory="transposed"),
    BlocksExample(shape=(33, 5)),
    BlocksExample(shape=(2, 100, 6), rows=16),
    BlocksExample(shape=(2, 90, 5), rows=20, dtype="complex128"),
    BlocksExample(shape=(9, 64, 6), rows=16, kind="mixed"),
    BlocksExample(shape=(4, 70, 5), rows=32, spoiled=True),
    BlocksExample(shape=(2, 5, 9), dtype="float64"),
    BlocksExample(shape=(0, 4, 3)),
    ProductExample(shape=(2, 40, 8)),
    ProductExample(shape=(2, 40, 8), adjoint=True, dtype="float64"),
    ProductExample(shape=(600, 17), right=5),
    ProductExample(shape=(600, 17), right=1, adjoint=True),
    ProductExample(shape=(3, 70, 4), memory="transposed", adjoint=True),
    ProductExample(shape=(2, 40, 8), rows=16),
    ProductExample(shape=(2, 90, 5), rows=20, adjoint=True, dtype="complex64"),
    ProductExample(shape=(2, 40, 4), right=0),
)
