"""The matrix recurrence as an operation: one walk over time, its tangent, its adjoint, its batching.

As for the linear recurrence, a walk that multiplies *after* it adds makes the family closed under every derivative. The
matrices of a transposed walk are read the other way, never copied; with M[t] = A[t], or its transpose:

    plain     h[t] = M[t] @ k + b[t]      k = h[t]               (h0, b) -> (h, final k)
    adjoint   h[t] = b[t] + k             k = M[t] @ h[t]        (h0, b) -> (h, final k)

    transpose of plain with A, walking forward   =  adjoint with A's transposes, walking backward   (and the other way round)

A reset selects: the plain walk drops k, the adjoint walk sets k to zero. Nothing here conjugates; JAX takes transposes
as they are, the torch binding conjugates around them. A state is a column: canonical operands are A (..., n, n), b (..., n, k).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms import matrix_recurrence as algorithm
from seqpar.algorithms.arrays import filled, previous, state_dtype, sum_to
from seqpar.algorithms.matrices import matrix_transpose, product
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, batched, fit, register
from seqpar.validation import COMPLEX, state_of


class MatrixWalk(NamedTuple):
    """The static part of a matrix recurrence."""

    axis: int
    reverse: bool = False
    transposed: bool = False
    adjoint: bool = False

    def transpose(self) -> "MatrixWalk":
        """The walk that is this one's linear transpose in (b, h0)."""
        return MatrixWalk(self.axis, not self.reverse, not self.transposed, not self.adjoint)


def shape_of(A: Abstract, b: Abstract) -> tuple[int, ...]:
    """The shape of the states: leading axes broadcast, the last two are b's."""
    lead = (n if m == 1 else m for m, n in zip(A.shape[:-2], b.shape[:-2], strict=True))
    return (*lead, *b.shape[-2:])


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


class _Recurrence(Operation):
    """What the forward and the fused backward operation share: the spec, the problem, the axes."""

    def encode(self, spec: MatrixWalk) -> str:
        return f"{spec.axis} {spec.reverse:d} {spec.transposed:d} {spec.adjoint:d}"

    def decode(self, text: str) -> MatrixWalk:
        axis, *flags = text.split()
        return MatrixWalk(int(axis), *(flag == "1" for flag in flags))

    def problem(
        self, spec: MatrixWalk, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        given = dict(zip(self.operands, operands, strict=True))
        A, states = _present(given["A"]), _present(given.get("b") or given.get("h"))
        shape = shape_of(A, states)
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


class _MatrixRecurrence(_Recurrence):
    name = "matrix_recurrence"
    operands = ("A", "b", "h0", "resets")
    results = ("h", "final")
    differentiable = (True, True, True, False)
    fused_backward = "matrix_recurrence_backward"

    def abstract(self, spec: MatrixWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        A, b = _present(operands[0]), _present(operands[1])
        shape = shape_of(A, b)
        return Abstract(shape, b.dtype), Abstract(without(shape, spec.axis), state_of(b.dtype))

    def empty(self, xp: Any, spec: MatrixWalk, operands: Sequence[Any]) -> tuple[Array, ...]:
        return algorithm.sequential(xp, spec, *operands)

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
            dM = xp.astype(dA, state_dtype(xp, b.dtype), copy=False)
            dM = matrix_transpose(xp, dM) if spec.transposed else dM
            # Selected before and after: what a reset drops may be NaN, and so may its derivative.
            if spec.adjoint:
                # k[t+1] = M[t] @ h[t]: what dM leaks into the carry enters at the next step of the walk.
                leak = _select(xp, resets, product(xp, dM, _select(xp, resets, _wide(xp, h))))
                extra = previous(xp, leak, None, spec.axis, spec.reverse)
            else:
                before = _select(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
                extra = _select(xp, resets, product(xp, dM, before))
            rhs = extra if rhs is None else rhs + extra
        shape = tuple(h.shape)
        rhs = filled(xp, shape, 0.0, b, b.dtype) if rhs is None else xp.astype(rhs, b.dtype, copy=False)
        if tuple(rhs.shape) != shape:  # only then: PyTorch's older vmap has no rule for it
            rhs = xp.broadcast_to(rhs, shape)
        dh, dfinal = solve(spec, A, rhs, dh0, resets)
        if leak is not None and shape[spec.axis]:
            dfinal = dfinal + leak[(slice(None),) * spec.axis + (0 if spec.reverse else -1, ...)]
        return dh, dfinal

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
                lam = _select(xp, resets, previous(xp, other, g_final, spec.axis, not spec.reverse))
                before = _select(xp, resets, _wide(xp, h))
            else:
                lam = _select(xp, resets, _wide(xp, other))
                before = _select(xp, resets, previous(xp, h, h0, spec.axis, spec.reverse))
            rows, columns = (before, lam) if spec.transposed else (lam, before)
            dA = fit(xp, product(xp, rows, matrix_transpose(xp, columns)), A)
        return (
            dA,
            fit(xp, other, b) if wanted[1] else None,
            fit(xp, dh0, h0) if h0 is not None and wanted[2] else None,
            None,
        )

    def transpose(
        self,
        xp: Any,
        spec: MatrixWalk,
        operands: Sequence[Any],
        linear: Sequence[Abstract | None],
        cotangents: Sequence[Array | None],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        A, b, _, resets = operands
        g, g_final = cotangents
        b_meta, h0_meta = linear[1], linear[2]
        if g is None:
            like = b_meta or Abstract(tuple(b.shape), "")
            dtype = getattr(xp, b_meta.dtype) if b_meta else b.dtype
            g = filled(xp, shape_of(Abstract(tuple(A.shape), ""), like), 0.0, A, dtype)
        db, dh0 = solve(spec.transpose(), A, g, g_final, resets)
        return (
            None,
            sum_to(xp, db, b_meta.shape) if b_meta else None,
            sum_to(xp, dh0, h0_meta.shape) if h0_meta else None,
            None,
        )

    def batch(
        self, xp: Any, spec: MatrixWalk, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[MatrixWalk, tuple[Array | None, ...]]:
        return spec._replace(axis=spec.axis + 1), batched(xp, operands, axes, (0, 1))


class _Backward(_Recurrence):
    """The whole first-order vjp of a plain walk in one pass: reads A, h, g and writes dA, db."""

    name = "matrix_recurrence_backward"
    operands = ("A", "h0", "resets", "h", "g", "g_final")
    results = ("dA", "db", "dh0")
    differentiable = (False,) * 6

    def abstract(self, spec: MatrixWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        A, h0, _, h, _, _ = operands
        A, h = _present(A), _present(h)
        stateless = h0.shape if h0 else without(h.shape, spec.axis)
        return (
            Abstract(A.shape, A.dtype),
            Abstract(h.shape, h.dtype),
            Abstract(stateless, state_of(h.dtype)),
        )

    def raw(self, spec: MatrixWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """Gradients before the sums over broadcast axes; over time `dA` is summed inside, in float64."""
        A, _, _, h, _, _ = operands
        A, h = _present(A), _present(h)
        state, axis = state_of(h.dtype), spec.axis
        shape = (*h.shape[:-2], *A.shape[-2:])
        if A.shape[axis] == 1 and shape[axis] != 1:
            shape = shape[:axis] + (1,) + shape[axis + 1 :]
            dA = Abstract(shape, "complex128" if state in COMPLEX else "float64")
        else:
            dA = Abstract(shape, A.dtype if A.shape == shape else state)
        return dA, Abstract(h.shape, h.dtype), Abstract(without(h.shape, axis), state)

    def finish(
        self, xp: Any, spec: MatrixWalk, operands: Sequence[Any], results: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        A, h0, _, h, _, _ = operands
        dA, db, dh0 = results
        return (
            fit(xp, dA, A),
            fit(xp, db, h),
            dh0 if h0 is None else sum_to(xp, dh0, tuple(h0.shape)),
        )

    def empty(self, xp: Any, spec: MatrixWalk, operands: Sequence[Any]) -> tuple[Array, ...]:
        return self.by_rules(xp, spec, operands)

    def by_rules(self, xp: Any, spec: MatrixWalk, operands: Sequence[Any]) -> tuple[Array, ...]:
        """The definition, by the rules of the forward operation."""

        def solve(walk: MatrixWalk, *arrays: Array | None) -> tuple[Array, Array]:
            return algorithm.sequential(xp, walk, *arrays)

        A, h0, resets, h, g, g_final = operands
        results = algorithm.backward(xp, spec, A, h0, resets, h, g, g_final, solve)
        return self.finish(xp, spec, operands, results)

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "the fused backward has no derivative of its own: derivatives of it go through the forward rules"
        )

    vjp = transpose = batch = jvp


def _present(x: Abstract | None) -> Abstract:
    assert x is not None
    return x


def _wide(xp: Any, x: Array) -> Array:
    return xp.astype(x, state_dtype(xp, x.dtype), copy=False)


def _select(xp: Any, resets: Array | None, x: Array) -> Array:
    """x, and zero where the state was dropped: by selection, so that NaN cannot get past."""
    return x if resets is None else xp.where(resets, xp.zeros_like(x), x)


MATRIX_RECURRENCE, BACKWARD = _MatrixRecurrence(), _Backward()
register(MATRIX_RECURRENCE)
register(BACKWARD)
