"""What the conformance suite asks of a kernel: shapes, dtypes, flags and memory orders, with seeded operands and exact answers.

Operands are canonical, as kernels get them: `a`, `b` and `resets` have the rank of the result, `h0` lacks the time axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest

from seqpar.linear_recurrence_operation import Walk, without
from seqpar.testing import oracle
from seqpar.validation import state_of

Array = Any
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One problem. `narrow` gives the shapes of operands that broadcast; the others have full size."""

    shape: Shape
    dtype: str = "float32"
    axis: int = -2
    reverse: bool = False
    gate: str = "value"
    convex: bool = False
    adjoint: bool = False
    h0: bool = False
    resets: float = 0.0
    """The share of steps that are reset; 0 for no mask."""
    g_final: bool = True
    """Does the backward pass get a cotangent of the final state?"""
    dtype_a: str = ""
    """The dtype of `a`, if it is not that of `b`."""
    narrow: Mapping[str, Shape] = field(default_factory=lambda: MappingProxyType({}))
    memory: Literal["rows", "swapped", "backwards", "gaps", "repeated"] = "rows"
    """Row-major, first axis contiguous, negative strides, every other element, or one step repeated with stride 0."""
    spoiled: bool = False
    """NaN and infinity among the values, for resets to stop."""

    def __str__(self) -> str:
        dtype = f"{self.dtype_a}*{self.dtype}" if self.dtype_a else self.dtype
        flags = ("reverse", "convex", "adjoint", "h0", "resets", "spoiled")
        words = [dtype, _text(self.shape), f"axis{self.axis}" if self.axis != -2 else ""]
        words += ["" if self.gate == "value" else self.gate, *(name for name in flags if getattr(self, name))]
        words += [f"{name}{_text(shape)}" for name, shape in self.narrow.items()]
        words += ["" if self.memory == "rows" else self.memory, "" if self.g_final else "no_g_final"]
        return "-".join(filter(None, words))

    @property
    def walk(self) -> Walk:
        return Walk(self.axis % len(self.shape), self.reverse, self.gate, self.convex, self.adjoint)

    def operands(self) -> tuple[Array, Array, Array | None, Array | None]:
        """(a, b, h0, resets)"""
        b = self._numbers("b", 2, self.shape, self.dtype)
        a = self._coefficients()
        h0 = self._numbers("h0", 3, self._stateless, state_of(self.dtype)) if self.h0 else None
        resets = None
        if self.resets:
            # Canonical masks are shared by all features, unless the last axis is time.
            shape = self.shape if self.walk.axis == len(self.shape) - 1 else (*self.shape[:-1], 1)
            shape = self.narrow.get("resets", shape)
            resets = self._laid_out(np.random.default_rng(4).random(shape) < self.resets)
        if self.spoiled:
            time = (slice(None),) * self.walk.axis
            b[(*time, 2)], a[(*time, 5)] = np.nan, np.inf
        return a, b, h0, resets

    def backward_operands(self) -> tuple[Array | None, ...]:
        """(a, b if it is read, h0, resets, h, g, g_final)"""
        a, b, h0, resets = self.operands()
        h = self.exact()[0].astype(b.dtype)
        g = self._numbers("g", 5, self.shape, self.dtype)
        g_final = self._numbers("g_final", 6, self._stateless, state_of(self.dtype)) if self.g_final else None
        return a, b if self.convex else None, h0, resets, self._laid_out(h), g, g_final

    def exact(self) -> tuple[Array, ...]:
        """(h, final) in float64."""
        return oracle.walk(*self.operands(), **self.walk._asdict())

    def bounds(self) -> tuple[Array, ...]:
        """How far from that a kernel may be."""
        return oracle.error_bound(*self.operands(), **self.walk._asdict())

    def backward_exact_and_bounds(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(da, db, dh0) in float64, each in the shape of its operand, and how far from that a kernel may be."""
        a, b, h0, resets = self.operands()
        _, _, _, _, h, g, g_final = self.backward_operands()
        how = self.walk._asdict()
        del how["adjoint"]
        exact = oracle.backward(a, b, h0, resets, h, g, g_final, **how)
        bounds = oracle.backward_error_bound(a, b, h0, resets, g, g_final, **how)
        eps = float(oracle.precisions(b)[0].eps)
        shapes = (
            a.shape,
            b.shape if self.convex else self.shape,
            self._stateless if h0 is None else h0.shape,
        )
        fitted = [_fitted(*each, eps) for each in zip(exact, bounds, shapes, strict=True)]
        return tuple(x for x, _ in fitted), tuple(bound for _, bound in fitted)

    @property
    def _stateless(self) -> Shape:
        return without(self.shape, self.walk.axis)

    def _coefficients(self) -> Array:
        """Such that no walk grows: of modulus below one, as logarithms below zero, or as logits of either sign."""
        dtype = self.dtype_a or self.dtype
        unit = self._numbers("a", 1, self.shape, dtype)
        if self.gate == "value":
            return unit
        low, high = (-2.0, 0.0) if self.gate == "log" else (-4.0, 4.0)
        return self._laid_out((unit * ((high - low) / 2) + (high + low) / 2).astype(unit.dtype))

    def _numbers(self, name: str, seed: int, shape: Shape, dtype: str) -> Array:
        shape = self.narrow.get(name, shape)
        random = np.random.default_rng([seed, *shape])
        x = random.uniform(-1, 1, shape)
        turn = np.exp(1j * random.uniform(0, 6.28, shape)) if dtype.startswith("complex") else 1.0
        return self._laid_out(np.asarray(x * turn).astype(_dtype(dtype), copy=False))

    def _laid_out(self, x: Array) -> Array:
        """The same values in other memory."""
        if self.memory == "swapped":
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
        if self.memory == "backwards":
            flip = (slice(None, None, -1),) * x.ndim
            return np.ascontiguousarray(x[flip])[flip]
        if self.memory == "gaps":
            wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        if self.memory == "repeated" and x.ndim == len(self.shape):
            return np.broadcast_to(x.take([0], self.walk.axis), x.shape)
        return x


EXAMPLES = (
    Example(shape=(2, 33, 5)),
    Example(shape=(2, 33, 5), dtype="float64", reverse=True),
    Example(shape=(3, 257, 17), resets=0.05),
    Example(shape=(3, 257, 17), resets=0.05, reverse=True, h0=True),
    Example(shape=(2, 1031, 3), dtype="float64", h0=True),
    Example(shape=(2, 40, 3), dtype="float64", gate="log"),
    Example(shape=(2, 40, 3), gate="log", convex=True, reverse=True),
    Example(shape=(2, 40, 3), gate="logit"),
    Example(shape=(2, 40, 3), gate="logit", convex=True, h0=True),
    Example(shape=(2, 40, 3), dtype="float64", convex=True, resets=0.2),
    # Time last, time first, time alone, one step of one value.
    Example(shape=(7, 101), axis=-1, resets=0.1),
    Example(shape=(101, 2, 7), dtype="float64", axis=0, h0=True),
    Example(shape=(53,), axis=0, h0=True, g_final=False),
    Example(shape=(1, 1, 1), dtype="float64", h0=True),
    # Every dtype, and gates wider than the values.
    Example(shape=(2, 64, 4), dtype="complex64"),
    Example(shape=(2, 64, 4), dtype="complex128", h0=True, reverse=True, resets=0.1),
    Example(shape=(2, 64, 4), dtype="float16", h0=True),
    Example(shape=(2, 64, 4), dtype="bfloat16", h0=True, resets=0.1),
    Example(shape=(2, 64, 4), dtype="bfloat16", dtype_a="float32", gate="log", convex=True),
    # Operands that broadcast: one coefficient per channel, per step, for all; h0, resets and b shared by the batch.
    Example(shape=(3, 40, 5), narrow={"a": (1, 1, 5)}, resets=0.1),
    Example(shape=(3, 40, 5), narrow={"a": (1, 40, 1)}, g_final=False),
    Example(shape=(3, 40, 5), narrow={"a": (1, 1, 1), "h0": (1, 5)}, gate="log", convex=True, h0=True),
    Example(shape=(3, 40, 5), narrow={"b": (1, 40, 5), "resets": (1, 40, 1)}, convex=True, resets=0.1),
    # Other memory than row-major.
    Example(shape=(3, 40, 5), memory="swapped", h0=True, resets=0.1),
    Example(shape=(3, 40, 5), memory="backwards", h0=True, reverse=True),
    Example(shape=(3, 40, 18), memory="gaps", h0=True),
    Example(shape=(3, 40, 5), memory="repeated", h0=True),
    # Not even NaN gets past a reset.
    Example(shape=(2, 50, 3), gate="log", resets=0.1, spoiled=True),
    Example(shape=(2, 50, 3), resets=0.1, spoiled=True),
    Example(shape=(2, 50, 3), resets=0.1, reverse=True, h0=True, spoiled=True),
    Example(shape=(7, 101), axis=-1, convex=True, resets=0.1, spoiled=True),
    # Nothing to compute.
    Example(shape=(2, 0, 3), h0=True),
    Example(shape=(0, 4, 3), h0=True),
    Example(shape=(2, 4, 0)),
    # Walks that multiply after they add: what gradients of the forward pass are made of.
    Example(shape=(2, 33, 5), adjoint=True),
    Example(shape=(3, 257, 17), adjoint=True, resets=0.05, h0=True),
    Example(shape=(2, 40, 3), dtype="float64", adjoint=True, reverse=True, gate="log", h0=True),
    Example(shape=(2, 40, 3), adjoint=True, gate="logit", resets=0.1, reverse=True),
    Example(shape=(7, 101), dtype="float64", adjoint=True, axis=-1, reverse=True),
    Example(shape=(2, 64, 4), dtype="complex64", adjoint=True, h0=True),
    Example(shape=(2, 64, 4), dtype="bfloat16", adjoint=True, resets=0.1),
    Example(shape=(3, 40, 5), adjoint=True, narrow={"a": (1, 1, 5)}, h0=True),
    Example(shape=(3, 40, 5), adjoint=True, memory="backwards", reverse=True),
    Example(shape=(2, 50, 3), adjoint=True, resets=0.1, spoiled=True),
    Example(shape=(2, 0, 3), adjoint=True, h0=True),
)


def _fitted(exact: Array, bound: Array, shape: Shape, eps: float) -> tuple[Array, Array]:
    """A gradient and its bound, summed over the axes along which the operand was broadcast."""
    bound = np.broadcast_to(bound, exact.shape)
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and exact.shape[i] != 1)
    if not axes:
        return exact, bound
    terms = exact.size // int(np.prod(shape))
    total, size, errors = (x.sum(axis=axes, keepdims=True) for x in (exact, np.abs(exact), bound))
    # eps * log2(n) for pairwise summation; n / 64 allows block sums below it.
    return total, errors + (2 + terms / 64) * eps * size


def _dtype(name: str) -> Any:
    """bfloat16 is no dtype of NumPy's own; the package that has it comes with JAX."""
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
