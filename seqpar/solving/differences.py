"""Derivatives of a step function in a framework that has none: NumPy, CuPy, anything that speaks the array API.

The complex step, Im f(h + i s v) / s with a tiny s, has no cancellation and is right to rounding. It needs a function that
takes complex states and is analytic in them, so on a few rows it is first held against a difference. Where it fails there,
or the function refuses complex numbers or drops an imaginary part, central differences take its place: right to about
eps^(2/3), 4e-11 in float64 and 2e-5 in float32, relative to the size of the second and third derivatives.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array

Evaluate = Callable[[Array, Sequence[Array]], Array]

NUMBERS_AT_ONCE = 2**22
"""Numbers of all perturbed states that are evaluated in one call: 16 MiB in float32."""

ROWS_TRIED = 8
"""Rows on which a complex step is held against a difference."""


def jvp(xp: Any, evaluate: Evaluate, h: Array, x: Sequence[Array], tangent: Array) -> Array:
    """The derivative of evaluate(h, x) by h along a tangent: all (rows, n), leaves of x (rows, ...)."""
    if h.shape[0] == 0:
        return xp.zeros_like(h)
    if complex_step_works(xp, evaluate, h, x):
        return _complex_step(xp, evaluate, h, x, tangent)
    return _difference(xp, evaluate, h, x, tangent)


def jacobian(xp: Any, evaluate: Evaluate, h: Array, x: Sequence[Array]) -> Array:
    """The derivative of evaluate(h, x) by h: (rows, n, n), [row, i, j] = d out_i / d h_j."""
    rows, n = h.shape
    if rows == 0 or n == 0:
        return xp.zeros((rows, n, n), dtype=h.dtype, device=device(h))
    along = _complex_step if complex_step_works(xp, evaluate, h, x) else _difference
    unit = xp.eye(n, dtype=h.dtype, device=device(h))
    # Every column is one more copy of all rows in the same call.
    columns = max(1, NUMBERS_AT_ONCE // (rows * n))
    found = []
    for first in range(0, n, columns):
        tangents = unit[first : min(n, first + columns), :]
        k = tangents.shape[0]
        many = along(
            xp,
            evaluate,
            _copies(xp, h, k),
            [_copies(xp, leaf, k) for leaf in x],
            xp.reshape(xp.broadcast_to(tangents[:, None, :], (k, rows, n)), (k * rows, n)),
        )
        found.append(xp.reshape(many, (k, rows, n)))
    return xp.permute_dims(found[0] if len(found) == 1 else xp.concat(found, axis=0), (1, 2, 0))


def complex_step_works(xp: Any, evaluate: Evaluate, h: Array, x: Sequence[Array]) -> bool:
    """Does the function take complex states, and does the imaginary part agree with a difference, on a few rows?"""
    stride = -(-h.shape[0] // ROWS_TRIED)
    h, x = h[::stride, ...], [leaf[::stride, ...] for leaf in x]
    # No two numbers move alike, so that a part of the derivative that is lost cannot cancel.
    moves = 1 + xp.arange(h.shape[-1], dtype=h.dtype, device=device(h)) / max(1, h.shape[-1])
    tangent = xp.broadcast_to(moves, h.shape)
    expected = _difference(xp, evaluate, h, x, tangent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            found = _complex_step(xp, evaluate, h, x, tangent)
    except Exception:  # whatever the user's function or the framework says to complex numbers
        return False
    if found is None or found.shape != expected.shape:
        return False
    size = 1 + xp.max(xp.abs(xp.where(xp.isfinite(expected), expected, xp.zeros_like(expected))))
    known = xp.isfinite(expected)
    apart = xp.abs(xp.where(known, found - expected, xp.zeros_like(found)))
    return bool(xp.all(apart <= 100 * xp.finfo(h.dtype).eps ** 0.5 * size))


def _complex_step(xp: Any, evaluate: Evaluate, h: Array, x: Sequence[Array], tangent: Array) -> Any:
    """Im f(h + i s v) / s; None where the function returns real numbers."""
    kind = xp.complex128 if h.dtype == xp.float64 else xp.complex64
    # Far under the rounding of h, far over underflow: float32 ends at 1e-38.
    size = 2.0**-100 if h.dtype == xp.float64 else 2.0**-50
    moved = xp.astype(h, kind) + xp.astype(tangent * size, kind) * 1j
    out = evaluate(moved, x)
    if not xp.isdtype(out.dtype, "complex floating"):
        return None
    return xp.astype(xp.imag(out) / size, h.dtype, copy=False)


def _difference(xp: Any, evaluate: Evaluate, h: Array, x: Sequence[Array], tangent: Array) -> Array:
    """(f(h + s v) - f(h - s v)) / 2 s, with s v of the size eps^(1/3) max(1, |h|): truncation and rounding are alike there."""
    reach = xp.finfo(h.dtype).eps ** (1 / 3)
    size = reach * xp.maximum(
        xp.max(xp.abs(h), axis=-1, keepdims=True), xp.ones((1, 1), dtype=h.dtype, device=device(h))
    )
    longest = xp.max(xp.abs(tangent), axis=-1, keepdims=True)
    step = size / xp.where(longest > 0, longest, xp.ones_like(longest))
    rows = h.shape[0]
    both = xp.concat([h + step * tangent, h - step * tangent], axis=0)
    out = evaluate(both, [xp.concat([leaf, leaf], axis=0) for leaf in x])
    return (out[:rows, ...] - out[rows:, ...]) / (2 * step)


def _copies(xp: Any, x: Array, k: int) -> Array:
    """k copies of all rows, one after the other."""
    if k == 1:
        return x
    return xp.reshape(xp.broadcast_to(x[None, ...], (k, *x.shape)), (k * x.shape[0], *x.shape[1:]))
