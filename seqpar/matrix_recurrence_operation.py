"""The matrix recurrence as an operation: one walk over time, its tangent, its adjoint, its batching.

As for the linear recurrence, a walk that multiplies *after* it adds makes the family closed under every derivative. The
matrices of a transposed walk are read the other way, never copied; with M[t] = A[t], or its transpose:

    plain     h[t] = M[t] @ k + b[t]      k = h[t]               (h0, b) -> (h, final k)
    adjoint   h[t] = b[t] + k             k = M[t] @ h[t]        (h0, b) -> (h, final k)

    transpose of plain with A, walking forward   =  adjoint with A's transposes, walking backward   (and the other way round)

A reset selects: the plain walk drops k, the adjoint walk sets k to zero. Nothing here conjugates; JAX takes transposes
as they are, the torch binding conjugates around them. A state is a column: canonical operands are A (..., n, n), b (..., n, k).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms import matrix_recurrence as algorithm
from seqpar.algorithms.arrays import filled, previous
from seqpar.algorithms.matrices import matrix_transpose, product
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, fit, register
from seqpar.recurrence_operation import FusedBackward, Recurrence, present, selected, widened


class MatrixWalk(NamedTuple):
    """The static part of a matrix recurrence."""

    axis: int
    reverse: bool = False
    transposed: bool = False
    adjoint: bool = False

    def transpose(self) -> "MatrixWalk":
        """The walk that is this one's linear transpose in (b, h0)."""
        return MatrixWalk(self.axis, not self.reverse, not self.transposed, not self.adjoint)


class _Spec(Operation):
    """How the forward operation and its fused backward read their spec, the problem it poses, and its axes."""

    def encode(self, spec: MatrixWalk) -> str:
        return f"{spec.axis} {spec.reverse:d} {spec.transposed:d} {spec.adjoint:d}"

    def decode(self, text: str) -> MatrixWalk:
        axis, *flags = text.split()
        return MatrixWalk(int(axis), *(flag == "1" for flag in flags))

    def shape_of(self, coefficients: Abstract, b: Abstract) -> tuple[int, ...]:
        """The shape of the states: leading axes broadcast, the last two are b's."""
        lead = (n if m == 1 else m for m, n in zip(coefficients.shape[:-2], b.shape[:-2], strict=True))
        return (*lead, *b.shape[-2:])

    def plausible(self, spec: MatrixWalk, name: str, meta: Abstract, random: Any) -> Any:
        found = super().plausible(spec, name, meta, random)
        if name != "A":
            return found
        if meta.shape[spec.axis] == 1:
            # The same matrix at every step: none of its powers may grow.
            import numpy as np

            return found * (0.95 / np.linalg.norm(found, 2, axis=(-2, -1), keepdims=True))
        # Of this size products of them fall off slowly, by 0.9 a step.
        return found * (0.9 / meta.shape[-1] ** 0.5)

    def multiplications(self, spec: MatrixWalk, operands: Sequence[Abstract | None]) -> float:
        shape, _, _ = self.problem(spec, operands)
        return float(math.prod(shape) * shape[-2])

    def problem(
        self, spec: MatrixWalk, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        given = dict(zip(self.operands, operands, strict=True))
        A, states = present(given["A"]), present(given["b"] if "b" in given else given["h"])
        shape = self.shape_of(A, states)
        flags = {
            "reverse": spec.reverse,
            "transposed": spec.transposed,
            "adjoint": spec.adjoint,
            "h0": given["h0"] is not None,
            "resets": given["resets"] is not None,
            "broadcast": A.shape[:-2] != shape[:-2],
            "constant": A.shape[spec.axis] == 1 and shape[spec.axis] != 1,
        }
        return shape, spec.axis, tuple(word for word, on in flags.items() if on)

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        if name not in ("A", "dA", "resets"):
            return super().axes(shape, time, name, meta)
        # Rows and columns of a matrix are no axes of the states: whoever has a state needs all of them.
        lead = tuple(i if n == shape[i] else None for i, n in enumerate(meta.shape[:-2]))
        return (*lead, None, None)

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        return time, len(shape) - 2


class _MatrixRecurrence(_Spec, Recurrence):
    name = "matrix_recurrence"
    operands = ("A", "b", "h0", "resets")
    fused_backward = "matrix_recurrence_backward"
    definition = staticmethod(algorithm.sequential)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import matrix_recurrences

        return matrix_recurrences()

    def reads(self, spec: MatrixWalk, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        of_A = wanted[0]
        return (True, False, of_A, True), (of_A, False)

    def backward_operands(
        self,
        spec: MatrixWalk,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
    ) -> tuple[Array | None, ...] | None:
        A, _, h0, resets = operands
        if spec.adjoint or cotangents[0] is None:
            return None
        return A, h0, resets, results[0], *cotangents

    def jvp(
        self,
        xp: Any,
        spec: MatrixWalk,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        A, b, h0, resets = operands
        dA, db, dh0, _ = tangents
        h = results[0]
        if dA is None and db is None and dh0 is None:
            return None, None
        rhs, leak = db, None
        if dA is not None:
            dM = widened(xp, dA, b)
            dM = matrix_transpose(xp, dM) if spec.transposed else dM
            # Selected before and after: what a reset drops may be NaN, and so may its derivative.
            if spec.adjoint:
                # k[t+1] = M[t] @ h[t]: what dM leaks into the carry enters at the next step of the walk.
                leak = selected(xp, resets, product(xp, dM, selected(xp, resets, widened(xp, h, h))))
                extra = previous(xp, leak, None, spec.axis, spec.reverse)
            else:
                before = selected(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
                extra = selected(xp, resets, product(xp, dM, before))
            rhs = extra if rhs is None else rhs + extra
        return self.along(xp, spec, operands, h, rhs, dh0, solve, leak)

    def vjp(
        self,
        xp: Any,
        spec: MatrixWalk,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        A, b, h0, resets = operands
        h = results[0]
        g, g_final = cotangents
        g = filled(xp, tuple(h.shape), 0.0, b, b.dtype) if g is None else g
        other, dh0 = solve(spec.transpose(), A, g, g_final, resets)
        dA = None
        if wanted[0]:
            # dM[t] = (adjoint state at t) (plain state entering t)^T, whichever of the two was the primal.
            if spec.adjoint:
                lam = selected(xp, resets, previous(xp, other, g_final, spec.axis, not spec.reverse))
                before = selected(xp, resets, widened(xp, h, h))
            else:
                lam = selected(xp, resets, widened(xp, other, h))
                before = selected(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
            rows, columns = (before, lam) if spec.transposed else (lam, before)
            dA = fit(xp, product(xp, rows, matrix_transpose(xp, columns)), A)
        return (
            dA,
            fit(xp, other, b) if wanted[1] else None,
            fit(xp, dh0, h0) if h0 is not None and wanted[2] else None,
            None,
        )


class _Backward(_Spec, FusedBackward):
    name = "matrix_recurrence_backward"
    operands = ("A", "h0", "resets", "h", "g", "g_final")
    results = ("dA", "db", "dh0")
    differentiable = (False,) * 6
    backward = staticmethod(algorithm.backward)
    definition = staticmethod(algorithm.sequential)

    def gradient_shape(self, coefficients: Abstract, h: Abstract) -> tuple[int, ...]:
        return (*h.shape[:-2], *coefficients.shape[-2:])


MATRIX_RECURRENCE, BACKWARD = _MatrixRecurrence(), _Backward()
register(MATRIX_RECURRENCE)
register(BACKWARD)
