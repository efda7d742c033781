"""What the conformance suite asks of kernels of the linear recurrence.

`a`, `b` and `resets` have the rank of the result, `h0` lacks the time axis.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from seqpar.linear_recurrence import linear_recurrence
from seqpar.linear_recurrence_operation import Walk
from seqpar.testing import oracle
from seqpar.testing.examples import Answers, Array, Shape
from seqpar.testing.recurrence_examples import RecurrenceExample


@dataclass(frozen=True, kw_only=True)
class LinearExample(RecurrenceExample):
    """One linear recurrence."""

    operation: ClassVar[str] = "linear_recurrence"
    fused_backward: ClassVar[str | None] = "linear_recurrence_backward"
    function: ClassVar[Callable[..., Any]] = linear_recurrence

    axis: int = -2
    gate: str = "value"
    convex: bool = False

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "LinearExample":
        return cls(shape=(batch, time, width), h0=True, **fields)

    @property
    def walk(self) -> Walk:
        return Walk(self.time, self.reverse, self.gate, self.convex, self.adjoint)

    def operands(self) -> tuple[Array, Array, Array | None, Array | None]:
        """(a, b, h0, resets)"""
        b = self.operand("b", 2, self.shape, self.dtype)
        a = self._coefficients()
        h0 = self.state("h0", 3) if self.h0 else None
        # Canonical masks are shared by all features, unless the last axis is time.
        resets = self.mask(self.shape if self.time == len(self.shape) - 1 else (*self.shape[:-1], 1))
        if self.spoiled:
            b[self.step(2)], a[self.step(5)] = np.nan, np.inf
        return a, b, h0, resets

    def backward_operands(self) -> tuple[Array | None, ...]:
        """(a, b if it is read, h0, resets, h, g, g_final)"""
        a, b, h0, resets = self.operands()
        h = self.answers.exact[0].astype(b.dtype)
        g = self.operand("g", 5, self.shape, self.dtype)
        g_final = self.state("g_final", 6) if self.g_final else None
        return a, b if self.convex else None, h0, resets, self.laid_out(h), g, g_final

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("axis", "reverse", "gate", "convex")}

    @cached_property
    def answers(self) -> Answers:
        given, how = self.operands(), self.walk._asdict()
        return Answers(oracle.walk(*given, **how), oracle.error_bound(*given, **how))

    def gradients(self) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Shape, ...]]:
        a, b, h0, resets = self.operands()
        *_, h, g, g_final = self.backward_operands()
        how = self.walk._asdict()
        del how["adjoint"]
        exact = oracle.backward(a, b, h0, resets, h, g, g_final, **how)
        bounds = oracle.backward_error_bound(a, b, h0, resets, g, g_final, **how)
        shape_b = b.shape if self.convex else self.shape
        return exact, bounds, (a.shape, shape_b, self.stateless if h0 is None else h0.shape)

    def words(self) -> list[str]:
        return ["" if self.gate == "value" else self.gate, "convex" if self.convex else "", *super().words()]

    def _coefficients(self) -> Array:
        """Such that no walk grows: of modulus below one, as logarithms below zero, or as logits of either sign."""
        unit = self.operand("a", 1, self.shape, self.dtype_a or self.dtype)
        if self.gate == "value":
            return unit
        low, high = (-2.0, 0.0) if self.gate == "log" else (-4.0, 4.0)
        return self.laid_out((unit * ((high - low) / 2) + (high + low) / 2).astype(unit.dtype))


LINEAR_EXAMPLES = (
    LinearExample(shape=(2, 33, 5)),
    LinearExample(shape=(2, 33, 5), dtype="float64", reverse=True),
    LinearExample(shape=(3, 257, 17), resets=0.05),
    LinearExample(shape=(3, 257, 17), resets=0.05, reverse=True, h0=True),
    LinearExample(shape=(2, 1031, 3), dtype="float64", h0=True),
    LinearExample(shape=(2, 40, 3), dtype="float64", gate="log"),
    LinearExample(shape=(2, 40, 3), gate="log", convex=True, reverse=True),
    LinearExample(shape=(2, 40, 3), gate="logit"),
    LinearExample(shape=(2, 40, 3), gate="logit", convex=True, h0=True),
    LinearExample(shape=(2, 40, 3), dtype="float64", convex=True, resets=0.2),
    # Time last, time first, time alone, one step of one value.
    LinearExample(shape=(7, 101), axis=-1, resets=0.1),
    LinearExample(shape=(101, 2, 7), dtype="float64", axis=0, h0=True),
    LinearExample(shape=(53,), axis=0, h0=True, g_final=False),
    LinearExample(shape=(1, 1, 1), dtype="float64", h0=True),
    # Every dtype, and gates wider than the values.
    LinearExample(shape=(2, 64, 4), dtype="complex64"),
    LinearExample(shape=(2, 64, 4), dtype="complex128", h0=True, reverse=True, resets=0.1),
    LinearExample(shape=(2, 64, 4), dtype="float16", h0=True),
    LinearExample(shape=(2, 64, 4), dtype="bfloat16", h0=True, resets=0.1),
    LinearExample(shape=(2, 64, 4), dtype="bfloat16", dtype_a="float32", gate="log", convex=True),
    # Operands that broadcast: one coefficient per channel, per step, for all; h0, resets and b shared by the batch.
    LinearExample(shape=(3, 40, 5), narrow={"a": (1, 1, 5)}, resets=0.1),
    LinearExample(shape=(3, 40, 5), narrow={"a": (1, 40, 1)}, g_final=False),
    LinearExample(shape=(3, 40, 5), narrow={"a": (1, 1, 1), "h0": (1, 5)}, gate="log", convex=True, h0=True),
    LinearExample(shape=(3, 40, 5), narrow={"b": (1, 40, 5), "resets": (1, 40, 1)}, convex=True, resets=0.1),
    # Other memory than row-major.
    LinearExample(shape=(3, 40, 5), memory="swapped", h0=True, resets=0.1),
    LinearExample(shape=(3, 40, 5), memory="backwards", h0=True, reverse=True),
    LinearExample(shape=(3, 40, 18), memory="gaps", h0=True),
    LinearExample(shape=(3, 40, 5), memory="repeated", h0=True),
    # Not even NaN gets past a reset.
    LinearExample(shape=(2, 50, 3), gate="log", resets=0.1, spoiled=True),
    LinearExample(shape=(2, 50, 3), resets=0.1, spoiled=True),
    LinearExample(shape=(2, 50, 3), resets=0.1, reverse=True, h0=True, spoiled=True),
    LinearExample(shape=(7, 101), axis=-1, convex=True, resets=0.1, spoiled=True),
    # Nothing to compute.
    LinearExample(shape=(2, 0, 3), h0=True),
    LinearExample(shape=(0, 4, 3), h0=True),
    LinearExample(shape=(2, 4, 0)),
    # Walks that multiply after they add: what gradients of the forward pass are made of.
    LinearExample(shape=(2, 33, 5), adjoint=True),
    LinearExample(shape=(3, 257, 17), adjoint=True, resets=0.05, h0=True),
    LinearExample(shape=(2, 40, 3), dtype="float64", adjoint=True, reverse=True, gate="log", h0=True),
    LinearExample(shape=(2, 40, 3), adjoint=True, gate="logit", resets=0.1, reverse=True),
    LinearExample(shape=(7, 101), dtype="float64", adjoint=True, axis=-1, reverse=True),
    LinearExample(shape=(2, 64, 4), dtype="complex64", adjoint=True, h0=True),
    LinearExample(shape=(2, 64, 4), dtype="bfloat16", adjoint=True, resets=0.1),
    LinearExample(shape=(3, 40, 5), adjoint=True, narrow={"a": (1, 1, 5)}, h0=True),
    LinearExample(shape=(3, 40, 5), adjoint=True, memory="backwards", reverse=True),
    LinearExample(shape=(2, 50, 3), adjoint=True, resets=0.1, spoiled=True),
    LinearExample(shape=(2, 0, 3), adjoint=True, h0=True),
)
