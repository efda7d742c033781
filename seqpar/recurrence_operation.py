"""What the recurrences have in common as operations: a plain walk over time, its adjoint walk, and the fused backward pass.

    plain     h[t] = c[t] k + u[t]       k = h[t]               (h0, u) -> (h, final k)
    adjoint   h[t] = b[t] + k            k = c[t] h[t]          (h0, b) -> (h, final k)

An operation says what its coefficients are, numbers or matrices, and states its jvp and vjp; its spec is a walk that knows
its own `transpose()`, the walk the other way that is its linear transpose. Operands are coefficients, b, h0, resets.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from seqpar.algorithms.arrays import filled, state_dtype, sum_to
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, batched, fit
from seqpar.validation import COMPLEX, state_of

Walked = tuple[Array, ...]
Walker = Callable[..., Walked]
"""A method of the forward operation: (xp, walk, coefficients, b, h0, resets) -> (h, final)."""


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape without one axis: that of a state, without time."""
    return shape[:axis] + shape[axis + 1 :]


def present(x: Abstract | None) -> Abstract:
    """An operand that is never absent, for the type checker."""
    assert x is not None
    return x


class Recurrence(Operation):
    """The forward operation: plain and adjoint walks."""

    results = ("h", "final")
    differentiable = (True, True, True, False)
    definition: ClassVar[Walker]

    @abstractmethod
    def shape_of(self, coefficients: Abstract, b: Abstract) -> tuple[int, ...]:
        """The shape of the states."""

    def abstract(self, spec: Any, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        coefficients, b = present(operands[0]), present(operands[1])
        shape = self.shape_of(coefficients, b)
        return Abstract(shape, b.dtype), Abstract(without(shape, spec.axis), state_of(b.dtype))

    def empty(self, xp: Any, spec: Any, operands: Sequence[Any]) -> Walked:
        return type(self).definition(xp, spec, *operands)

    def input_cotangent(self, xp: Any, spec: Any, coefficients: Array, lam: Array) -> Array:
        """The cotangent of b from that of u, the term that the plain walk adds."""
        return lam

    def along(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Any],
        h: Array,
        rhs: Array | None,
        dh0: Array | None,
        solve: Solve,
        leak: Array | None = None,
    ) -> Walked:
        """The tangents of (h, final): the same walk over another right-hand side, and what leaks into the last carry."""
        coefficients, b, _, resets = operands
        shape = tuple(h.shape)
        rhs = filled(xp, shape, 0.0, b, b.dtype) if rhs is None else xp.astype(rhs, b.dtype, copy=False)
        if tuple(rhs.shape) != shape:  # only then: PyTorch's older vmap has no rule for it
            rhs = xp.broadcast_to(rhs, shape)
        dh, dfinal = solve(spec, coefficients, rhs, dh0, resets)
        if leak is not None and shape[spec.axis]:
            dfinal = dfinal + leak[(slice(None),) * spec.axis + (0 if spec.reverse else -1, ...)]
        return dh, dfinal

    def transpose(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Any],
        linear: Sequence[Abstract | None],
        cotangents: Sequence[Array | None],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        coefficients, b, _, resets = operands
        g, g_final = cotangents
        b_meta, h0_meta = linear[1], linear[2]
        if g is None:
            like = b_meta or Abstract(tuple(b.shape), "")
            dtype = getattr(xp, b_meta.dtype) if b_meta else b.dtype
            g = filled(
                xp, self.shape_of(Abstract(tuple(coefficients.shape), ""), like), 0.0, coefficients, dtype
            )
        lam, dh0 = solve(spec.transpose(), coefficients, g, g_final, resets)
        db = self.input_cotangent(xp, spec, coefficients, lam)
        return (
            None,
            sum_to(xp, xp.astype(db, lam.dtype, copy=False), b_meta.shape) if b_meta else None,
            sum_to(xp, dh0, h0_meta.shape) if h0_meta else None,
            None,
        )

    def batch(
        self, xp: Any, spec: Any, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[Any, tuple[Array | None, ...]]:
        return spec._replace(axis=spec.axis + 1), batched(xp, operands, axes, (0, 1))


class FusedBackward(Operation):
    """The whole first-order vjp of a plain walk in one pass, against its direction.

    Operands named as the forward operation names them, then h, g and g_final; results are the cotangents of coefficients, b, h0.
    """

    backward: ClassVar[Callable[..., Walked]]
    """The algorithm: (xp, walk, *operands, solve) -> results, with `solve` one walk of the forward operation."""
    definition: ClassVar[Walker]

    @abstractmethod
    def gradient_shape(self, coefficients: Abstract, h: Abstract) -> tuple[int, ...]:
        """The shape of the gradient of coefficients that broadcast nowhere."""

    def abstract(self, spec: Any, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        coefficients, like, h0, h = self._named(operands)
        return (
            Abstract(coefficients.shape, coefficients.dtype),
            Abstract(like.shape, like.dtype),
            Abstract(h0.shape if h0 else without(h.shape, spec.axis), state_of(h.dtype)),
        )

    def raw(self, spec: Any, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """Gradients before the sums over broadcast axes; over time those are formed inside, in float64."""
        coefficients, like, _, h = self._named(operands)
        state, axis = state_of(h.dtype), spec.axis
        shape = self.gradient_shape(coefficients, h)
        if coefficients.shape[axis] == 1 and shape[axis] != 1:
            shape = shape[:axis] + (1,) + shape[axis + 1 :]
            gradient = Abstract(shape, "complex128" if state in COMPLEX else "float64")
        else:
            gradient = Abstract(shape, coefficients.dtype if coefficients.shape == shape else state)
        db = Abstract(h.shape, h.dtype if like.shape == h.shape else state)
        return gradient, db, Abstract(without(h.shape, axis), state)

    def finish(self, xp: Any, spec: Any, operands: Sequence[Any], results: Walked) -> Walked:
        coefficients, like, h0, _ = self._named(operands)
        gradient, db, dh0 = results
        return (
            fit(xp, gradient, coefficients),
            fit(xp, db, like),
            dh0 if h0 is None else sum_to(xp, dh0, tuple(h0.shape)),
        )

    def empty(self, xp: Any, spec: Any, operands: Sequence[Any]) -> Walked:
        return self.by_rules(xp, spec, operands)

    def by_rules(self, xp: Any, spec: Any, operands: Sequence[Any], walker: Walker | None = None) -> Walked:
        """By one adjoint walk and the rules around it; by the definition, if no other method is given."""
        walk = walker or type(self).definition

        def solve(spec: Any, *arrays: Array | None) -> Walked:
            return walk(xp, spec, *arrays)

        return self.finish(xp, spec, operands, type(self).backward(xp, spec, *operands, solve))

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "the fused backward has no derivative of its own: derivatives of it go through the forward rules"
        )

    vjp = transpose = batch = jvp

    def _named(self, operands: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        """Coefficients, b or what is shaped as it was, h0, h."""
        given = dict(zip(self.operands, operands, strict=True))
        h, b = given["h"], given.get("b")
        return operands[0], h if b is None else b, given["h0"], h


def selected(xp: Any, resets: Array | None, x: Array) -> Array:
    """x, and zero where the state was dropped: by selection, so that NaN cannot get past."""
    return x if resets is None else xp.where(resets, xp.zeros_like(x), x)


def widened(xp: Any, x: Array, like: Array) -> Array:
    """x in the precision in which states of the dtype of `like` are carried."""
    return xp.astype(x, state_dtype(xp, like.dtype), copy=False)
