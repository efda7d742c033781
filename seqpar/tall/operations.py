"""The QR factorisation of tall matrices as operations that backends may have kernels for.

    qr          a (..., m, n) -> q (..., m, p), r (..., p, n), ran (...)          p = min(m, n)
    r_factor    the r alone of the rows [seed; sqrt(weights) * [a | b]], no Q ever formed

The diagonal of r is real and not negative, whoever computes it. Leading axes of operands are of one rank, each of full size or
one. `ran` says by a number of `seqpar.tall.ran` what ran for each matrix. m = 0 and n = 0 have no problem to choose a kernel for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seqpar.algorithms import matrices
from seqpar.algorithms.arrays import filled
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, batched, register
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.tall.ran import NATIVE
from seqpar.tall.rows import OWN_AXES, lead_of
from seqpar.tall.rules import qr_jvp, qr_vjp, r_jvp, r_vjp

Results = tuple[Array, ...]


class Factorisation(NamedTuple):
    """The static part: nothing beyond the shapes."""


class Tall(Operation):
    """What factorisations have in common: rows and columns stay whole, batches can be split."""

    def encode(self, spec: Factorisation) -> str:
        return ""

    def decode(self, text: str) -> Factorisation:
        return Factorisation()

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        lead = len(shape) - 2
        return tuple(i if i < lead and n == shape[i] else None for i, n in enumerate(meta.shape))

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        return time, time + 1

    def resized(
        self, spec: Any, operands: Sequence[Abstract | None], sizes: Mapping[int, int]
    ) -> tuple[Abstract | None, ...]:
        shape, time, _ = self.problem(spec, operands)
        fewer = shape[time] - sizes.get(time, shape[time])
        # A seed has rows of its own, which count among those of the problem.
        behind = {"a": 1, "b": 1, "weights": 0}

        def of_rows(name: str, meta: Abstract | None) -> Abstract | None:
            if meta is None or name not in behind:
                return meta
            at = len(meta.shape) - 1 - behind[name]
            return meta._replace(shape=(*meta.shape[:at], meta.shape[at] - fewer, *meta.shape[at + 1 :]))

        found = super().resized(spec, operands, sizes)
        return tuple(of_rows(name, meta) for name, meta in zip(self.operands, found, strict=True))

    def least(self, spec: Any, operands: Sequence[Abstract | None]) -> int:
        # As tall as it was, if it was.
        shape, time, _ = self.problem(spec, operands)
        return min(shape[time], 2 * shape[time + 1] + 1)

    def plausible(self, spec: Any, name: str, meta: Abstract, random: Any) -> Any:
        from seqpar.dispatch.plausible import between, triangular

        if name == "weights":
            return between(random, meta, 0.5, 1.5)
        return triangular(random, meta) if name == "seed" else super().plausible(spec, name, meta, random)

    def multiplications(self, spec: Any, operands: Sequence[Abstract | None]) -> float:
        shape, _, _ = self.problem(spec, operands)
        # Householder's R, and as much again for Q.
        return float(math.prod(shape) * shape[-1] * (2 if "q" in self.results else 1))

    def transpose(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.name} is not linear in any of its operands")

    def batch(
        self, xp: Any, spec: Factorisation, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[Any, tuple[Array | None, ...]]:
        given = tuple(i for i, x in enumerate(operands) if x is not None)
        return spec, batched(xp, operands, axes, given)


def fitting(request: Request, a: Array, b: Array | None = None) -> Request:
    """The wish, if [a | b] is tall: of rows that are shared out, a part may have fewer than there are columns.

    Such a part is not what a method was wished for; "native" is the least of those that are told.
    """
    columns = a.shape[-1] + (0 if b is None else b.shape[-1])
    if a.shape[-2] > columns:
        return request
    return NO_WISH if request.method == "auto" else Request("native", source=request.source)


def conjugate(xp: Any, x: Array | None) -> Array | None:
    """Around the rules, whose cotangents are those of Re<xbar, dx>, where those of an operation are linear transposes."""
    return None if x is None else matrices.conjugate(xp, x)


class _QR(Tall):
    name = "qr"
    operands = ("a",)
    results = ("q", "r", "ran")
    differentiable = (True,)
    of_method = ("ran",)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import factorisations

        return factorisations()

    def abstract(self, spec: Factorisation, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        (a,) = operands
        assert a is not None
        *lead, m, n = a.shape
        p = min(m, n)
        return (
            Abstract((*lead, m, p), a.dtype),
            Abstract((*lead, p, n), a.dtype),
            Abstract(tuple(lead), "int32"),
        )

    def problem(
        self, spec: Factorisation, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        (a,) = operands
        assert a is not None
        return a.shape, len(a.shape) - 2, ()

    def empty(self, xp: Any, spec: Factorisation, operands: Sequence[Any]) -> Results:
        (a,) = operands
        *lead, m, n = a.shape
        p = min(m, n)
        return (
            filled(xp, (*lead, m, p), 0.0, a, a.dtype),
            filled(xp, (*lead, p, n), 0.0, a, a.dtype),
            filled(xp, tuple(lead), NATIVE, a, xp.int32),
        )

    def reads(self, spec: Factorisation, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        return (False,), (True, True, False)

    def jvp(
        self,
        xp: Any,
        spec: Factorisation,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        if tangents[0] is None:
            return None, None, None
        return (*qr_jvp(xp, results[0], results[1], tangents[0]), None)

    def vjp(
        self,
        xp: Any,
        spec: Factorisation,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        qbar, rbar = (conjugate(xp, g) for g in cotangents[:2])
        return (conjugate(xp, qr_vjp(xp, results[0], results[1], qbar, rbar)),)


class _RFactor(Tall):
    name = "r_factor"
    operands = ("a", "b", "weights", "seed")
    results = ("r", "ran")
    differentiable = (True, True, True, True)
    of_method = ("ran",)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import r_factors

        return r_factors()

    def sizes(self, operands: Sequence[Abstract | None]) -> tuple[tuple[int, ...], int, int]:
        """Leading axes, rows and columns of what is factorised."""
        a, b, _, seed = operands
        assert a is not None
        columns = a.shape[-1] + (0 if b is None else b.shape[-1])
        rows = a.shape[-2] + (0 if seed is None else seed.shape[-2])
        return lead_of(operands, OWN_AXES), rows, columns

    def abstract(self, spec: Factorisation, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        lead, rows, columns = self.sizes(operands)
        a = operands[0]
        assert a is not None
        return Abstract((*lead, min(rows, columns), columns), a.dtype), Abstract(lead, "int32")

    def problem(
        self, spec: Factorisation, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        lead, rows, columns = self.sizes(operands)
        _, b, weights, seed = operands
        words = [] if b is None else [f"b={b.shape[-1]}"]
        words += [] if weights is None else ["weights"]
        words += [] if seed is None else [f"seed={seed.shape[-2]}"]
        return (*lead, rows, columns), len(lead), tuple(words)

    def empty(self, xp: Any, spec: Factorisation, operands: Sequence[Any]) -> Results:
        given = [None if x is None else Abstract(tuple(x.shape), "") for x in operands]
        lead, rows, columns = self.sizes(given)
        a = operands[0]
        r = filled(xp, (*lead, min(rows, columns), columns), 0.0, a, a.dtype)
        return r, filled(xp, lead, NATIVE, a, xp.int32)

    def reads(self, spec: Factorisation, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        return (True,) * 4, (True, False)

    def jvp(
        self,
        xp: Any,
        spec: Factorisation,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        if all(t is None for t in tangents):
            return None, None
        return r_jvp(xp, operands, results[0], tangents), None

    def vjp(
        self,
        xp: Any,
        spec: Factorisation,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        grads = r_vjp(xp, operands, results[0], conjugate(xp, cotangents[0]), wanted)
        return tuple(conjugate(xp, g) for g in grads)


QR, R_FACTOR = _QR(), _RFactor()
register(QR)
register(R_FACTOR)
