"""The linear recurrence as an operation: one walk over time, its tangent, its adjoint, its batching.

The jvp of a linear recurrence is the same recurrence with another right-hand side. Its linear transpose is a walk the
other way that multiplies *after* it adds; with that walk in the family the operation is closed under every derivative,
and no shifted copy of the coefficients is ever made:

    plain     h[t] = c[t] * k + u[t]      k = h[t]               (h0, u) -> (h, final k)
    adjoint   h[t] = b[t] + k             k = c[t] * h[t]        (h0, b) -> (h, final k)

    transpose of plain, walking forward   =  adjoint, walking backward   (and the other way round)

A reset selects: the plain walk drops k, the adjoint walk sets k to zero. Nothing here conjugates; JAX takes transposes
as they are, the torch binding conjugates around them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.algorithms.arrays import filled, previous
from seqpar.algorithms.gates import coefficient_derivative, complement
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, fit, register
from seqpar.recurrence_operation import FusedBackward, Recurrence, present, selected, widened


class Walk(NamedTuple):
    """The static part of a linear recurrence."""

    axis: int
    reverse: bool = False
    gate: str = "value"
    convex: bool = False
    adjoint: bool = False

    def transpose(self) -> "Walk":
        """The walk that is this one's linear transpose in (b, h0)."""
        return self._replace(reverse=not self.reverse, adjoint=not self.adjoint, convex=False)


class _Spec(Operation):
    """How the forward operation and its fused backward read their spec, and the problem it poses."""

    def encode(self, spec: Walk) -> str:
        return f"{spec.axis} {spec.reverse:d} {spec.gate} {spec.convex:d} {spec.adjoint:d}"

    def decode(self, text: str) -> Walk:
        axis, reverse, gate, convex, adjoint = text.split()
        return Walk(int(axis), reverse == "1", gate, convex == "1", adjoint == "1")

    def shape_of(self, coefficients: Abstract, b: Abstract) -> tuple[int, ...]:
        """The shape of the states."""
        return tuple(n if m == 1 else m for m, n in zip(coefficients.shape, b.shape, strict=True))

    def plausible(self, spec: Walk, name: str, meta: Abstract, random: Any) -> Any:
        from seqpar.dispatch.plausible import between

        if name != "a":
            return super().plausible(spec, name, meta, random)
        # Coefficients that remember ten to a thousand steps, however they are given.
        low, high = {"log": (-0.1, -0.001), "logit": (2.0, 7.0)}.get(spec.gate, (0.9, 0.999))
        return between(random, meta, low, high)

    def problem(
        self, spec: Walk, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        given = dict(zip(self.operands, operands, strict=True))
        a = present(given["a"])
        shape = self.shape_of(a, present(given["b"] or given["h"]))
        flags = {
            "reverse": spec.reverse,
            f"gate={spec.gate}": spec.gate != "value",
            "convex": spec.convex,
            "adjoint": spec.adjoint,
            "h0": given["h0"] is not None,
            "resets": given["resets"] is not None,
            "broadcast": a.shape != shape,
        }
        return shape, spec.axis, tuple(word for word, on in flags.items() if on)


class _LinearRecurrence(_Spec, Recurrence):
    name = "linear_recurrence"
    operands = ("a", "b", "h0", "resets")
    fused_backward = "linear_recurrence_backward"
    definition = staticmethod(algorithm.sequential)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import linear_recurrences

        return linear_recurrences()

    def input_cotangent(self, xp: Any, spec: Walk, coefficients: Array, lam: Array) -> Array:
        return complement(xp, widened(xp, coefficients, lam), spec.gate) * lam if spec.convex else lam

    def reads(self, spec: Walk, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        of_a = wanted[0]
        return (True, spec.convex and of_a, of_a, True), (of_a, False)

    def backward_operands(
        self,
        spec: Walk,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
    ) -> tuple[Array | None, ...] | None:
        a, b, h0, resets = operands
        if spec.adjoint or cotangents[0] is None:
            return None
        return a, b if spec.convex else None, h0, resets, results[0], *cotangents

    def jvp(
        self,
        xp: Any,
        spec: Walk,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        a, b, h0, resets = operands
        da, db, dh0, _ = tangents
        h = results[0]
        if da is None and db is None and dh0 is None:
            return None, None
        wide = widened(xp, a, b)
        rhs = leak = None
        if db is not None:
            rhs = complement(xp, wide, spec.gate) * db if spec.convex else db
        if da is not None:
            dc = coefficient_derivative(xp, wide, spec.gate) * widened(xp, da, b)
            if spec.adjoint:
                # k[t+1] = c[t] * h[t]: what dc leaks into the carry enters at the next step of the walk.
                leak = selected(xp, resets, dc * selected(xp, resets, h))
                extra = previous(xp, leak, None, spec.axis, spec.reverse)
            else:
                # Selected before and after: what a reset drops may be NaN, and so may its derivative.
                before = selected(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
                extra = selected(xp, resets, dc * before)
                if spec.convex:
                    extra = extra - dc * b
            rhs = extra if rhs is None else rhs + extra
        return self.along(xp, spec._replace(convex=False), operands, h, rhs, dh0, solve, leak)

    def vjp(
        self,
        xp: Any,
        spec: Walk,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        a, b, h0, resets = operands
        h = results[0]
        g, g_final = cotangents
        wide = widened(xp, a, b)
        g = filled(xp, tuple(h.shape), 0.0, b, b.dtype) if g is None else g
        other, dh0 = solve(spec.transpose(), a, g, g_final, resets)
        da = None
        if wanted[0]:
            # dc[t] = (adjoint state at t) * (plain state entering t), whichever of the two was the primal.
            if spec.adjoint:
                before = previous(xp, other, g_final, spec.axis, not spec.reverse)
                dc = selected(xp, resets, selected(xp, resets, h) * before)
            else:
                before = selected(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
                dc = selected(xp, resets, other * before)
                if spec.convex:
                    dc = dc - other * b
            da = fit(xp, dc * coefficient_derivative(xp, wide, spec.gate), a)
        db = self.input_cotangent(xp, spec, a, other)
        return (
            da,
            fit(xp, db, b) if wanted[1] else None,
            fit(xp, dh0, h0) if h0 is not None and wanted[2] else None,
            None,
        )


class _Backward(_Spec, FusedBackward):
    name = "linear_recurrence_backward"
    operands = ("a", "b", "h0", "resets", "h", "g", "g_final")
    results = ("da", "db", "dh0")
    differentiable = (False,) * 7
    backward = staticmethod(algorithm.backward)
    definition = staticmethod(algorithm.sequential)

    def gradient_shape(self, coefficients: Abstract, h: Abstract) -> tuple[int, ...]:
        return h.shape


LINEAR_RECURRENCE, BACKWARD = _LinearRecurrence(), _Backward()
register(LINEAR_RECURRENCE)
register(BACKWARD)
