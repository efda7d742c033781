"""`associative_scan` under `seqpar bench`: its problems and their answers in float64. Who else computes it is in `scan_peers`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU, CUDA
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.exact import held_against, partials, wide
from seqpar_bench.bench.operations.monoids import MONOIDS, Monoid, drawn
from seqpar_bench.bench.operations.operands import COMPLEX, HALF, as_dtype, normal
from seqpar_bench.bench.operations.scan_peers import peers_of
from seqpar_bench.bench.operations.walked import one_of
from seqpar_bench.bench.problem import SIZES, Contestant, Problem, epsilon, itemsize

Array = Any
LONGEST_GRADIENT = 1 << 10
"""Steps of a loop of single steps that PyTorch differentiates: each writes a gradient as long as its operand."""


@dataclass(frozen=True, kw_only=True)
class Scan(Problem):
    """y[t] = x[0] . x[1] ... x[t] by a ready-made monoid, on (batch, time, ...). `shape` is without the axes of an element."""

    operation: ClassVar[str] = "associative_scan"
    function: ClassVar[Any] = staticmethod(seqpar.associative_scan)

    monoid: str
    axis: int = 1

    @property
    def of(self) -> Monoid:
        return MONOIDS[self.monoid]

    @property
    def options(self) -> dict[str, Any]:
        return {"axis": self.axis}

    @property
    def length(self) -> int:
        return self.shape[self.axis]

    @property
    def elements(self) -> int:
        """Numbers in one leaf."""
        return math.prod(self.shape) * math.prod(self.of.element)

    @property
    def nbytes(self) -> int:
        # Every leaf is read and written once. Of a sum, the gradient reads the cotangents and writes as many.
        passes = 2 if self.which == "forward" else 4
        return passes * self.of.leaves * self.elements * itemsize(self.dtype)

    @property
    def flops(self) -> int | None:
        # A step of the definition is one combination.
        each = self.of.flops * (1 if self.which == "forward" else 2)
        return each * math.prod(self.shape) or None

    def numbers(self) -> tuple[Array, ...]:
        shape = (*self.shape, *self.of.element)
        return tuple(as_dtype(x, self.dtype) for x in drawn(self.monoid, shape, self.axis, self.dtype))

    @cached_property
    def cotangents(self) -> tuple[Array, ...]:
        # Real ones, for PyTorch and JAX conjugate complex ones differently.
        return tuple(as_dtype(normal(7, x.shape, self.dtype), self.dtype) for x in self.given)

    @cached_property
    def exact(self) -> tuple[Array, ...]:
        """The leaves of the result in float64; of a sum its gradient, which is the sum from behind."""
        if self.which == "gradient":
            (g,) = (self._time_first(x) for x in self.cotangents)
            return (self._as_given(np.add.accumulate(g[::-1])[::-1]),)
        given = [self._time_first(x) for x in self.given]
        one = self.of.ufunc
        found = (one.accumulate(given[0]),) if one is not None else partials(self.of.combine, given)
        return tuple(self._as_given(x) for x in found)

    def _time_first(self, x: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(wide(x), self.axis, 0))

    def _as_given(self, x: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(x, 0, self.axis))

    @property
    def roundings(self) -> float:
        """Of the largest number, that an answer may be off by.

        Nothing is forgotten, in sums and in products of size one, so each of T roundings stays, and as they are random they
        grow like the root of T. A scan in half precision rounds in it at every step, for the function combines numbers of that
        dtype.
        """
        kept = 2 * math.sqrt(self.length)
        if self.dtype not in HALF:
            return 64 + kept
        # A quarter of the largest number: nothing beyond that is an answer.
        return min(16 + kept, 0.25 / epsilon(self.dtype)) * epsilon(self.dtype) / epsilon("float32")

    def solve(self) -> None:
        _ = self.exact

    def check(self, answer: Sequence[Array]) -> float:
        what = "the gradient" if self.which == "gradient" else "y"
        return max(
            held_against(
                x,
                exact,
                self.dtype,
                what if len(self.exact) == 1 else f"leaf {i}",
                self.roundings,
                stored=0.0,
            )
            for i, (x, exact) in enumerate(zip(answer, self.exact, strict=True))
        )

    def public(self, **forced: Any) -> Callable[..., Any]:
        def scan(*leaves: Array) -> Any:
            return seqpar.associative_scan(self.of.combine, self._packed(leaves), **self.options, **forced)

        return scan

    def explanation(self, frame: Frame) -> Any:
        elems = self._packed(self.arrays(frame))
        return seqpar.explain(seqpar.associative_scan, self.of.combine, elems, **self.options)

    def _packed(self, leaves: Sequence[Array]) -> Any:
        return tuple(leaves) if self.of.leaves > 1 else leaves[0]

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        # Derivatives go through the function, which takes a framework with reverse mode.
        if self.which == "gradient" and not frame.differentiates:
            return
        for each in super().ours(frame):
            slow = self.which == "gradient" and each.name == "reference.sequential"
            yield replace(each, longest=LONGEST_GRADIENT) if slow else each

    def contestants(self, frame: Frame) -> Iterator[Contestant]:
        unfit = self.of.real and self.dtype in COMPLEX
        for each in super().contestants(frame):
            yield replace(each, left_out=f"{self.monoid} is of real numbers") if unfit else each

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        return peers_of(self, frame)

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) < self.axis + 1 or min(shape) < 1:
            raise self.wrong_shape(
                shape, "at least two positive sizes, batch and time, without the axes of an element"
            )
        return replace(self, shape=shape, name=self.of.title)

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=one_of(dtype, tuple(SIZES), self.operation))

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(*self.shape[: self.axis], length, *self.shape[self.axis + 1 :]))


PROBLEMS: tuple[Problem, ...] = (
    Scan(name="affine pairs", monoid="affine", shape=(4, 4096, 256), grade="quick", devices=CPU),
    Scan(name="sums", monoid="add", shape=(4, 4096, 256), grade="quick", devices=CPU),
    Scan(name="sums", monoid="add", shape=(4, 4096, 256), which="gradient", devices=CPU),
    Scan(name="log-domain sums", monoid="logaddexp", shape=(4, 4096, 64), devices=CPU),
    Scan(name="quaternions", monoid="quaternion_product", shape=(16, 4096), devices=CPU),
    Scan(name="4x4 matrices", monoid="matmul", shape=(4, 4096), devices=CPU),
    Scan(name="affine pairs, one long sequence", monoid="affine", shape=(1, 65_536), devices=CPU),
    Scan(name="affine pairs", monoid="affine", shape=(4, 4096, 64), dtype="complex64", devices=CPU),
    Scan(name="a few numbers", monoid="affine", shape=(1, 8, 4)),
    Scan(name="affine pairs", monoid="affine", shape=(8, 8192, 1536), grade="quick", devices=CUDA),
    Scan(name="sums", monoid="add", shape=(8, 8192, 1536), devices=CUDA),
    Scan(name="log-domain sums", monoid="logaddexp", shape=(8, 8192, 256), devices=CUDA),
    Scan(name="quaternions", monoid="quaternion_product", shape=(256, 16_384), devices=CUDA),
    Scan(name="4x4 matrices", monoid="matmul", shape=(64, 16_384), devices=CUDA),
)
SWEEPS: tuple[Problem, ...] = (
    Scan(name="affine pairs over time", monoid="affine", shape=(1, 1024, 16), sweep="over time"),
)
