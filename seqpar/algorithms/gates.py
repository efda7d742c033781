"""The coefficient of a linear recurrence from its gate, and the two quantities that must not be formed by subtraction.

Called by the algorithms on whole operands, in the precision of the state.
"""

from __future__ import annotations

from typing import Any

Array = Any

__all__ = ["coefficient", "coefficient_derivative", "complement"]


def coefficient(xp: Any, a: Array, gate: str) -> Array:
    """c: `a` itself, exp(a) for gate="log", sigmoid(a) for gate="logit"."""
    if gate == "value":
        return a
    return xp.exp(a) if gate == "log" else _sigmoid(xp, a, a >= 0)


def complement(xp: Any, a: Array, gate: str) -> Array:
    """1 - c without cancellation: a gate of exp(-1e-9) forgets 1e-9 of its state, not 0."""
    if gate == "value":
        return 1 - a
    return -xp.expm1(a) if gate == "log" else _sigmoid(xp, a, a < 0)


def coefficient_derivative(xp: Any, a: Array, gate: str) -> Array:
    """dc/da, elementwise: 1, c, or c (1 - c)."""
    if gate == "value":
        return xp.ones_like(a)
    c = coefficient(xp, a, gate)
    return c if gate == "log" else c * complement(xp, a, gate)


def _sigmoid(xp: Any, x: Array, above: Array) -> Array:
    """1 / (1 + exp(-|x|)) where `above` the half, else its complement: exp sees no positive argument and cannot overflow."""
    small = xp.exp(-xp.abs(x))
    return xp.where(above, xp.ones_like(small), small) / (1 + small)
