"""`qr` and `lstsq` under `seqpar bench`: tall matrices and batches of small ones, and checks of answers in float64.

Matrices are drawn from the normal distribution, so that their columns are independent. A shape is (..., rows, columns);
for `lstsq` it is of one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU, CUDA
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import tall_exact, tall_peers
from seqpar_bench.bench.operations.walked import one_of
from seqpar_bench.bench.problem import Contestant, Problem, epsilon, itemsize
from seqpar_bench.gpu.tall_cases import TALL_CASES

Array = Any

DTYPES = ("float32", "float64", "complex64", "complex128")
"""Half precision is computed in float32."""
STANDS_STILL = 1 << 16
"""Rows from which on XLA's threads on a CPU may wait for each other for ever: in a program with two batched QR factorisations one
after the other, `jnp.linalg.qr` alone, in three of four runs with jaxlib 0.10.2 on two cores."""


@dataclass(frozen=True, kw_only=True)
class Tall(Problem):
    """What both operations have in common: matrices (..., m, n)."""

    @property
    def length(self) -> int:
        return self.shape[-2]

    @property
    def wide(self) -> type:
        return np.complex128 if self.dtype.startswith("complex") else np.float64

    @property
    def memory(self) -> int:
        # The matrix and its factors once in each framework, and what LAPACK copies.
        return 16 * math.prod(self.shape) * itemsize(self.dtype)

    @property
    def allowed(self) -> float:
        """Of errors: LAPACK's sums over m rows lose about sqrt(m) units of rounding."""
        return (200 + 2 * math.sqrt(self.length)) * epsilon(self.dtype)

    def drawn(self, *shape: int) -> Array:
        """Numbers from the normal distribution, the same whenever they are drawn."""
        rng = np.random.default_rng(len(shape))
        found: Array = rng.standard_normal(shape, np.float32).astype(self.wide)
        if self.wide is np.complex128:
            found += 1j * rng.standard_normal(shape, np.float32)
        return found

    @cached_property
    def products(self) -> Array:
        """a^H a in float64."""
        return tall_exact.gram(self.given[0])

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        in_xla = ("framework.tsqr", "reference.tsqr") if repr(frame) == "jax:cpu" else ()
        for contestant in super().ours(frame):
            if contestant.name in in_xla and self.length > STANDS_STILL:
                why = "XLA's threads may wait for each other for ever in two batched QR factorisations"
                contestant = replace(contestant, left_out=why)
            yield contestant

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(*self.shape[:-2], length, self.shape[-1]))

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=one_of(dtype, DTYPES, self.operation))


@dataclass(frozen=True, kw_only=True)
class QR(Tall):
    """a = Q R, or R alone."""

    operation: ClassVar[str] = "qr"
    function: ClassVar[Any] = staticmethod(seqpar.qr)

    mode: Literal["reduced", "r"] = "reduced"

    @property
    def options(self) -> dict[str, Any]:
        return {"mode": self.mode}

    @property
    def nbytes(self) -> int:
        # The matrices are read; Q and R, or R alone, are written.
        m, n = self.shape[-2:]
        p = min(m, n)
        numbers = m * n + p * n + (m * p if self.mode == "reduced" else 0)
        return math.prod(self.shape[:-2]) * numbers * itemsize(self.dtype)

    @property
    def flops(self) -> int:
        # Householder's: R takes 2 m n^2 - 2 n^3 / 3 (m >= n), Q from the reflections as many again; four times that in complex.
        m, n = max(self.shape[-2:]), min(self.shape[-2:])
        once = 2 * m * n**2 - 2 * n**3 // 3
        parts = (2 if self.mode == "reduced" else 1) * (4 if self.wide is np.complex128 else 1)
        return math.prod(self.shape[:-2]) * once * parts

    def numbers(self) -> tuple[Array, ...]:
        return (self.drawn(*self.shape).astype(self.dtype),)

    def check(self, answer: Sequence[Array]) -> float:
        (a,) = self.given
        if self.mode == "reduced":
            return tall_exact.factors_error(a, answer, self.allowed)
        return tall_exact.r_error(a, self.products, answer, self.allowed)

    def solve(self) -> None:
        super().solve()
        if self.mode == "r":  # Q and R are held against the matrix itself
            _ = self.products

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) < 2 or 0 in shape:
            raise self.wrong_shape(
                shape, "matrices: positive sizes of a batch, if there is one, rows, columns"
            )
        return replace(self, shape=shape)

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        for name, kind, function, facts in tall_peers.qr(frame, self.mode, self.shape, self.dtype):
            yield Contestant(name=name, kind=kind, make=partial(self.posed, frame, function), **facts)


@dataclass(frozen=True, kw_only=True)
class LeastSquares(Tall):
    """min |b - a x| for one matrix and one right-hand side."""

    operation: ClassVar[str] = "lstsq"
    function: ClassVar[Any] = staticmethod(seqpar.lstsq)

    @property
    def nbytes(self) -> int:
        # a and b are read, x is written.
        m, n = self.shape
        return (m * n + m + n) * itemsize(self.dtype)

    @property
    def flops(self) -> int:
        # By Householder's reflections: R and Q^H b; four times that in complex.
        m, n = self.shape
        return (2 * m * n**2 - 2 * n**3 // 3 + 4 * m * n) * (4 if self.wide is np.complex128 else 1)

    def numbers(self) -> tuple[Array, ...]:
        m, n = self.shape
        a = self.drawn(m, n)
        b = a @ np.linspace(1, 2, n) + self.drawn(m)
        return a.astype(self.dtype), b.astype(self.dtype)

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        for contestant in super().ours(frame):
            yield replace(contestant, read=_solution)

    def check(self, answer: Sequence[Array]) -> float:
        a, b = self.given
        return tall_exact.solution_error(a, b, self.products, self.exact, answer, self.allowed)

    @cached_property
    def exact(self) -> Array:
        """x in float64."""
        a, b = self.given
        return tall_exact.solution(a, b, self.products)

    def solve(self) -> None:
        _ = self.exact

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) != 2 or not 1 <= shape[1] <= shape[0]:
            raise self.wrong_shape(shape, "two sizes: rows, and no more columns than those")
        return replace(self, shape=shape)

    def of_length(self, length: int) -> Self:
        return super().of_length(max(length, self.shape[-1]))

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        for name, kind, function, facts in tall_peers.lstsq(frame, self.dtype):
            make = partial(self.posed, frame, function)
            yield Contestant(name=name, kind=kind, make=make, read=_solution, **facts)


def _solution(results: tuple[Array, ...]) -> tuple[Array, ...]:
    return results[:1]


def _on_gpus() -> Iterator[Problem]:
    words = {"reduced": "Q and R", "r": "R alone"}
    for case in TALL_CASES:
        grade: Any = "quick" if case is TALL_CASES[0] else "default"
        for work in case.passes:
            given: dict[str, Any] = {
                "shape": case.shape,
                "dtype": case.dtype,
                "devices": CUDA,
                "grade": grade,
            }
            if work == "lstsq":
                yield LeastSquares(name="one right-hand side", **given)
            else:
                yield QR(name=words[work], mode=work, **given)


PROBLEMS: tuple[Problem, ...] = (
    QR(name="Q and R", shape=(100_000, 32), grade="quick", devices=CPU),
    QR(name="R alone", shape=(100_000, 32), mode="r", grade="quick", devices=CPU),
    LeastSquares(name="one right-hand side", shape=(100_000, 32), grade="quick", devices=CPU),
    QR(name="Q and R", shape=(1_000_000, 32), devices=CPU),
    QR(name="R alone", shape=(1_000_000, 32), mode="r", devices=CPU),
    QR(name="Q and R", shape=(500_000, 64), devices=CPU),
    QR(name="Q and R", shape=(500_000, 64), dtype="float64", devices=CPU),
    QR(name="Q and R", shape=(8192, 16, 16), devices=CPU),
    QR(name="Q and R", shape=(8192, 400), devices=CPU),
    LeastSquares(name="one right-hand side", shape=(1_000_000, 32), devices=CPU),
    LeastSquares(name="one right-hand side", shape=(500_000, 64), dtype="float64", devices=CPU),
    *_on_gpus(),
)
SWEEPS: tuple[Problem, ...] = (
    QR(name="over rows", shape=(1024, 32), sweep="over rows"),
    LeastSquares(name="over rows", shape=(1024, 32), sweep="over rows"),
)
