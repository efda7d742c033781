"""Factorisations that keep Q as factors, and products with such a Q, as operations that backends may have kernels for.

    qr_blocks     a (..., m, n) -> leaves, node, r, ran         small orthonormal factors; any framework, any numbers
    qr_packed     a (..., m, n) -> v, t, signs, r, ran          Householder vectors as in `seqpar.tall.packing`; real, m >= n
    qr_product    x -> y = Q x or Q^H x                         with the factors of either

`leaves` (..., blocks, rows, p) are the Q of blocks of rows, filled up with rows of zeros, and `node` (..., 1, blocks * p, p) is
the Q of their R factors one below the other; a single block has no node, (..., 1, 0, p). p = min(m, n).

Of the factors nothing is differentiable, since they depend on how the rows were cut: r is, and products are, in a and x. For
that a product is given a and r besides, whose numbers it does not need, or None for both where nobody can ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import filled, sum_to
from seqpar.dispatch.operation import Abstract, Array, Solve, fit, register
from seqpar.tall.implicit_rules import product_jvp, product_vjp
from seqpar.tall.operations import Factorisation, Tall, conjugate
from seqpar.tall.packing import RECORD, Packing
from seqpar.tall.ran import TSQR
from seqpar.tall.rows import lead_of
from seqpar.tall.rules import r_jvp, r_vjp

Results = tuple[Array, ...]
Metas = Sequence[Abstract | None]


class Blocks(NamedTuple):
    """The static part of qr_blocks."""

    rows: int
    """Rows of a block."""


class Product(NamedTuple):
    """The static part of qr_product."""

    adjoint: bool
    rows: int
    """The m of Q (..., m, p)."""
    packed: bool
    """Are the factors v, t and signs, or leaves and node?"""


class _Factors(Tall):
    """What both factorisations have in common: derivatives of r alone."""

    operands = ("a",)
    differentiable = (True,)

    @property
    def r_at(self) -> int:
        """Which result is r."""
        return self.results.index("r")

    def problem(self, spec: Any, operands: Metas) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        (a,) = operands
        assert a is not None
        return a.shape, len(a.shape) - 2, ()

    def reads(self, spec: Any, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        return (True,), [name == "r" for name in self.results]

    def empty(self, xp: Any, spec: Any, operands: Sequence[Any]) -> Results:
        (a,) = operands
        (*found, ran) = self.abstract(spec, [Abstract(tuple(a.shape), "")])
        return (
            *(filled(xp, x.shape, 0.0, a, a.dtype) for x in found),
            filled(xp, ran.shape, TSQR, a, xp.int32),
        )

    def jvp(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        found: list[Array | None] = [None] * len(self.results)
        if tangents[0] is not None:
            r = results[self.r_at]
            found[self.r_at] = r_jvp(xp, (*operands, None, None, None), r, (*tangents, None, None, None))
        return tuple(found)

    def vjp(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        rbar = conjugate(xp, cotangents[self.r_at])
        if rbar is None:
            return (None,)
        of_a = r_vjp(
            xp, (*operands, None, None, None), results[self.r_at], rbar, (True, False, False, False)
        )[0]
        return (conjugate(xp, of_a),)


class _QRBlocks(_Factors):
    name = "qr_blocks"
    results = ("leaves", "node", "r", "ran")
    of_method = ("ran",)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import block_factorisations

        return block_factorisations()

    def encode(self, spec: Any) -> str:
        return str(spec.rows)

    def decode(self, text: str) -> Any:
        return Blocks(int(text))

    def abstract(self, spec: Blocks, operands: Metas) -> tuple[Abstract, ...]:
        (a,) = operands
        assert a is not None
        *lead, m, n = a.shape
        p, rows = min(m, n), min(spec.rows, m)
        blocks = -(-m // rows) if rows else 1
        return (
            Abstract((*lead, blocks, rows, p), a.dtype),
            Abstract((*lead, 1, blocks * p if blocks > 1 else 0, p), a.dtype),
            Abstract((*lead, p, n), a.dtype),
            Abstract(tuple(lead), "int32"),
        )

    def agreed(self, spec: Blocks, operands: Sequence[Any], results: Sequence[Any]) -> Results:
        leaves, node, r, _ = results
        *lead, blocks, rows, p = leaves.shape
        q = leaves @ node.reshape(*lead, blocks, p, p) if node.shape[-2] else leaves
        # Of blocks with fewer rows than columns several factors are right, and only the product is one.
        return q.reshape(*lead, blocks * rows, p)[..., : operands[0].shape[-2], :], None, r, None

    def problem(self, spec: Blocks, operands: Metas) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        shape, axis, _ = super().problem(spec, operands)
        return shape, axis, (f"rows={spec.rows}",) if spec.rows < shape[axis] else ()


class _QRPacked(_Factors):
    name = "qr_packed"
    results = ("v", "t", "signs", "r", "ran")
    # A vector and its factor in t can share a number between them in any way.
    of_method = ("v", "t", "ran")

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import packed_factorisations

        return packed_factorisations()

    def abstract(self, spec: Factorisation, operands: Metas) -> tuple[Abstract, ...]:
        (a,) = operands
        assert a is not None
        *lead, m, n = a.shape
        of = Packing(m, n, a.dtype)
        return (
            Abstract((*lead, of.rows, n), a.dtype),
            Abstract((*lead, of.parts, of.records, of.panels, RECORD), a.dtype),
            Abstract((*lead, n), a.dtype),
            Abstract((*lead, n, n), a.dtype),
            Abstract(tuple(lead), "int32"),
        )

    def agreed(self, spec: Any, operands: Sequence[Any], results: Sequence[Any]) -> Results:
        import numpy as np

        from seqpar.tall.packed_householder import multiplied

        # How rows are cut into blocks goes by the dtype, and double precision cuts them otherwise.
        v, t, signs, r, _ = results
        q = multiplied(np, v, t, signs, np.eye(v.shape[-1], dtype=v.dtype), operands[0].shape[-2], False)
        return q, None, None, r, None

    def empty(self, xp: Any, spec: Any, operands: Sequence[Any]) -> Results:
        raise TypeError("qr_packed: a matrix without rows or columns has no Householder vectors")


class _QRProduct(Tall):
    name = "qr_product"
    operands = ("a", "r", "first", "second", "signs", "x")
    results = ("y",)
    differentiable = (True, False, False, False, False, True)
    wished_for = False

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import implicit_products

        return implicit_products()

    def plausible(self, spec: Any, name: str, meta: Abstract, random: Any) -> Any:
        found = super().plausible(spec, name, meta, random)
        if name == "signs":
            return (found > 0) * 2 - 1
        # Reflections near the identity, and blocks with columns of about length one: products that stay bounded.
        return found * {"first": meta.shape[-2] ** -0.5, "second": 1e-2}.get(name, 1.0)

    def resized(
        self, spec: Product, operands: Metas, sizes: Mapping[int, int]
    ) -> tuple[Abstract | None, ...]:
        # Rows are cut up in the factors, whose sizes say how: those stay.
        lead = len(self.problem(spec, operands)[0]) - 2
        return super().resized(spec, operands, {axis: n for axis, n in sizes.items() if axis < lead})

    def encode(self, spec: Any) -> str:
        return f"{int(spec.adjoint)} {spec.rows} {int(spec.packed)}"

    def decode(self, text: str) -> Any:
        flipped, rows, packed = map(int, text.split())
        return Product(bool(flipped), rows, bool(packed))

    def sizes(self, spec: Product, operands: Metas) -> tuple[tuple[int, ...], int, int]:
        """Leading axes, columns of Q, columns of x."""
        first, x = operands[2], operands[5]
        assert first is not None and x is not None
        behind = (2, 2, 2, 4, 1, 2) if spec.packed else (2, 2, 3, 3, 1, 2)
        return lead_of(operands, behind), first.shape[-1], x.shape[-1]

    def abstract(self, spec: Product, operands: Metas) -> tuple[Abstract, ...]:
        lead, p, k = self.sizes(spec, operands)
        first = operands[2]
        assert first is not None
        return (Abstract((*lead, p if spec.adjoint else spec.rows, k), first.dtype),)

    def problem(self, spec: Product, operands: Metas) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        lead, p, k = self.sizes(spec, operands)
        words = ("packed" if spec.packed else "blocks", f"k={k}", *(["adjoint"] if spec.adjoint else []))
        # Without columns there is nothing to compute: a problem of no columns.
        return (*lead, spec.rows, p if k else 0), len(lead), words

    def empty(self, xp: Any, spec: Product, operands: Sequence[Any]) -> Results:
        given = [None if x is None else Abstract(tuple(x.shape), "") for x in operands]
        x = operands[5]
        return (filled(xp, self.abstract(spec, given)[0].shape, 0.0, x, x.dtype),)

    def reads(self, spec: Product, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        # The numbers of a are not read, but what reads r and the factors is differentiated through a.
        of_a = wanted[0]
        return (of_a, of_a, True, True, True, of_a), (of_a and spec.adjoint,)

    def jvp(
        self,
        xp: Any,
        spec: Product,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        return (product_jvp(xp, spec, operands, tangents[0], tangents[5], results[0], solve),)

    def vjp(
        self,
        xp: Any,
        spec: Product,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        ybar = conjugate(xp, cotangents[0])
        of_a, of_x = product_vjp(xp, spec, operands, results[0], ybar, (wanted[0], wanted[5]), solve)
        found = [
            None if g is None else fit(xp, conjugate(xp, g), x)
            for g, x in ((of_a, operands[0]), (of_x, operands[5]))
        ]
        return found[0], None, None, None, None, found[1]

    def transpose(
        self,
        xp: Any,
        spec: Product,
        operands: Sequence[Array | None],
        linear: Sequence[Abstract | None],
        cotangents: Sequence[Array | None],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        *factors, _ = operands
        x = linear[5]
        assert x is not None, "it is linear in x alone"
        # Q^T g = conj(Q^H conj(g)), and the other way round.
        (found,) = solve(spec._replace(adjoint=not spec.adjoint), *factors, conjugate(xp, cotangents[0]))
        return (None,) * 5 + (sum_to(xp, conjugate(xp, found), x.shape),)


QR_BLOCKS, QR_PACKED, QR_PRODUCT = _QRBlocks(), _QRPacked(), _QRProduct()
for _operation in (QR_BLOCKS, QR_PACKED, QR_PRODUCT):
    register(_operation)
