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
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, batched, fit, register
from seqpar.validation import COMPLEX, state_of


class Walk(NamedTuple):
    """The static part of a linear recurrence."""

    axis: int
    reverse: bool = False
    gate: str = "value"
    convex: bool = False
    adjoint: bool = False

    def transposed(self) -> "Walk":
        """The walk that is this one's linear transpose in (b, h0)."""
        return self._replace(reverse=not self.reverse, adjoint=not self.adjoint, convex=False)


def shape_of(a: Abstract, b: Abstract) -> tuple[int, ...]:
    """The shape of the states."""
    return tuple(n if m == 1 else m for m, n in zip(a.shape, b.shape, strict=True))


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


class _Recurrence(Operation):
    """What the forward and the fused backward operation share: the spec and the problem."""

    def encode(self, spec: Walk) -> str:
        return f"{spec.axis} {spec.reverse:d} {spec.gate} {spec.convex:d} {spec.adjoint:d}"

    def decode(self, text: str) -> Walk:
        axis, reverse, gate, convex, adjoint = text.split()
        return Walk(int(axis), reverse == "1", gate, convex == "1", adjoint == "1")

    def problem(
        self, spec: Walk, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        a, b = operands[:2]
        assert a is not None
        shape = shape_of(a, b or _present(operands[5]))
        flags = {
            "reverse": spec.reverse,
            f"gate={spec.gate}": spec.gate != "value",
            "convex": spec.convex,
            "adjoint": spec.adjoint,
            "h0": operands[2] is not None,
            "resets": operands[3] is not None,
            "broadcast": a.shape != shape,
        }
        return shape, spec.axis, tuple(word for word, on in flags.items() if on)


class _LinearRecurrence(_Recurrence):
    name = "linear_recurrence"
    operands = ("a", "b", "h0", "resets")
    results = ("h", "final")
    differentiable = (True, True, True, False)
    fused_backward = "linear_recurrence_backward"

    def abstract(self, spec: Walk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        a, b = _present(operands[0]), _present(operands[1])
        shape = shape_of(a, b)
        return Abstract(shape, b.dtype), Abstract(without(shape, spec.axis), state_of(b.dtype))

    def empty(self, xp: Any, spec: Walk, operands: Sequence[Any]) -> tuple[Array, ...]:
        h, final = algorithm.sequential(xp, spec, *operands)
        return h, final

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
        state = algorithm.state_dtype(xp, b.dtype)
        wide = xp.astype(a, state, copy=False)
        rhs = leak = None
        if db is not None:
            rhs = algorithm.complement(xp, wide, spec.gate) * db if spec.convex else db
        if da is not None:
            dc = algorithm.coefficient_derivative(xp, wide, spec.gate) * xp.astype(da, state, copy=False)
            if spec.adjoint:
                # k[t+1] = c[t] * h[t]: what dc leaks into the carry enters at the next step of the walk.
                leak = _select(xp, resets, dc * _select(xp, resets, h))
                extra = algorithm.previous(xp, leak, None, spec.axis, spec.reverse)
            else:
                # Selected before and after: what a reset drops may be NaN, and so may its derivative.
                before = _select(xp, resets, algorithm.previous(xp, h, h0, spec.axis, spec.reverse))
                extra = _select(xp, resets, dc * before)
                if spec.convex:
                    extra = extra - dc * b
            rhs = extra if rhs is None else rhs + extra
        shape = tuple(h.shape)
        rhs = _zeros(xp, shape, b) if rhs is None else xp.astype(rhs, b.dtype, copy=False)
        if tuple(rhs.shape) != shape:  # only then: PyTorch's older vmap has no rule for it
            rhs = xp.broadcast_to(rhs, shape)
        dh, dfinal = solve(spec._replace(convex=False), a, rhs, dh0, resets)
        if leak is not None and shape[spec.axis]:
            dfinal = dfinal + leak[(slice(None),) * spec.axis + (0 if spec.reverse else -1, ...)]
        return dh, dfinal

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
        wide = xp.astype(a, algorithm.state_dtype(xp, b.dtype), copy=False)
        g = _zeros(xp, tuple(h.shape), b) if g is None else g
        other, dh0 = solve(spec.transposed(), a, g, g_final, resets)
        da = None
        if wanted[0]:
            # dc[t] = (adjoint state at t) * (plain state entering t), whichever of the two was the primal.
            if spec.adjoint:
                before = algorithm.previous(xp, other, g_final, spec.axis, not spec.reverse)
                dc = _select(xp, resets, _select(xp, resets, h) * before)
            else:
                before = _select(xp, resets, algorithm.previous(xp, h, h0, spec.axis, spec.reverse))
                dc = _select(xp, resets, other * before)
                if spec.convex:
                    dc = dc - other * b
            da = fit(xp, dc * algorithm.coefficient_derivative(xp, wide, spec.gate), a)
        db = algorithm.complement(xp, wide, spec.gate) * other if spec.convex else other
        return (
            da,
            fit(xp, db, b) if wanted[1] else None,
            fit(xp, dh0, h0) if h0 is not None and wanted[2] else None,
            None,
        )

    def transpose(
        self,
        xp: Any,
        spec: Walk,
        operands: Sequence[Any],
        linear: Sequence[Abstract | None],
        cotangents: Sequence[Array | None],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        a, b, _, resets = operands
        g, g_final = cotangents
        b_meta, h0_meta = linear[1], linear[2]
        if g is None:
            like = b_meta or Abstract(tuple(b.shape), "")
            dtype = getattr(xp, b_meta.dtype) if b_meta else b.dtype
            g = _zeros(xp, shape_of(Abstract(tuple(a.shape), ""), like), a, dtype)
        db, dh0 = solve(spec.transposed(), a, g, g_final, resets)
        if spec.convex:
            wide = xp.astype(a, algorithm.state_dtype(xp, db.dtype), copy=False)
            db = xp.astype(algorithm.complement(xp, wide, spec.gate) * db, db.dtype)
        return (
            None,
            algorithm.sum_to(xp, db, b_meta.shape) if b_meta else None,
            algorithm.sum_to(xp, dh0, h0_meta.shape) if h0_meta else None,
            None,
        )

    def batch(
        self, xp: Any, spec: Walk, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[Walk, tuple[Array | None, ...]]:
        return spec._replace(axis=spec.axis + 1), batched(xp, operands, axes, (0, 1))


class _Backward(_Recurrence):
    """The whole first-order vjp of a plain walk in one pass: reads a, h, g and writes da, db."""

    name = "linear_recurrence_backward"
    operands = ("a", "b", "h0", "resets", "h", "g", "g_final")
    results = ("da", "db", "dh0")
    differentiable = (False,) * 7

    def abstract(self, spec: Walk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        a, b, h0, _, h, _, _ = operands
        a, h = _present(a), _present(h)
        like = b or h
        stateless = h0.shape if h0 else without(h.shape, spec.axis)
        return (
            Abstract(a.shape, a.dtype),
            Abstract(like.shape, like.dtype),
            Abstract(stateless, state_of(h.dtype)),
        )

    def raw(self, spec: Walk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """Gradients before the sums over broadcast axes; over time `da` is summed inside, in float64."""
        a, b, _, _, h, _, _ = operands
        a, h = _present(a), _present(h)
        state = state_of(h.dtype)
        shape, steps = h.shape, h.shape[spec.axis]
        if a.shape[spec.axis] == 1 and steps != 1:
            shape_da = shape[: spec.axis] + (1,) + shape[spec.axis + 1 :]
            da = Abstract(shape_da, "complex128" if state in COMPLEX else "float64")
        else:
            da = Abstract(shape, a.dtype if a.shape == shape else state)
        db = Abstract(shape, h.dtype if (b or h).shape == shape else state)
        return da, db, Abstract(without(shape, spec.axis), state)

    def finish(
        self, xp: Any, spec: Walk, operands: Sequence[Any], results: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        a, b, h0, _, h, _, _ = operands
        like = h if b is None else b
        da, db, dh0 = results
        return (
            fit(xp, da, a),
            fit(xp, db, like),
            dh0 if h0 is None else algorithm.sum_to(xp, dh0, tuple(h0.shape)),
        )

    def empty(self, xp: Any, spec: Walk, operands: Sequence[Any]) -> tuple[Array, ...]:
        return self.by_rules(xp, spec, operands)

    def by_rules(self, xp: Any, spec: Walk, operands: Sequence[Any]) -> tuple[Array, ...]:
        """The definition, by the rules of the forward operation."""
        a, b, h0, resets, h, g, g_final = operands

        def solve(walk: Walk, *arrays: Array | None) -> tuple[Array, Array]:
            return algorithm.chunked(xp, walk, *arrays)

        results = algorithm.backward(xp, spec, a, b, h0, resets, h, g, g_final, solve)
        return self.finish(xp, spec, operands, results)

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "the fused backward has no derivative of its own: derivatives of it go through the forward rules"
        )

    vjp = transpose = batch = jvp


def _present(x: Abstract | None) -> Abstract:
    assert x is not None
    return x


def _select(xp: Any, resets: Array | None, x: Array) -> Array:
    """x, and zero where the state was dropped: by selection, so that NaN cannot get past."""
    return x if resets is None else xp.where(resets, xp.zeros_like(x), x)


def _zeros(xp: Any, shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
    from array_api_compat import device

    return xp.zeros(shape, dtype=like.dtype if dtype is None else dtype, device=device(like))


LINEAR_RECURRENCE, BACKWARD = _LinearRecurrence(), _Backward()
register(LINEAR_RECURRENCE)
register(BACKWARD)
