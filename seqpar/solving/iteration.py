"""One iteration of a Newton method over all steps at once, as pure array functions.

With r[t] = h[t] - step(h[t-1], x[t]) and a part A of the Jacobian (`seqpar.solving.jacobians`), the update is the solution of

    d[t] = A[t] d[t-1] - r[t],   h <- h + d,

a linear recurrence of numbers, of small matrices or of none, which `seqpar.linear_recurrence` and `seqpar.matrix_recurrence`
solve in parallel over time. Where a walk begins A is 0, and h[t] is exact after one update.

These are the parts, with nothing read from an array: the drivers are `seqpar.solving.newton` and, as a loop of JAX,
`seqpar_jax.solving_newton`.

All arrays have the sequences first: states (batch, steps, n), inputs (batch, steps, ...), resets (batch, steps).
"""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.linear_recurrence import linear_recurrence
from seqpar.matrix_recurrence import matrix_recurrence
from seqpar.solving.damping import filtered
from seqpar.solving.jacobians import Pattern


def flat(xp: Any, x: Array) -> Array:
    """(batch, steps, ...) -> (batch * steps, ...): a row for every step."""
    return xp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def entering(xp: Any, h: Array, enters: Array, h0: Array, resets: Array | None) -> Array:
    """The state before each step."""
    before = xp.concat([enters[:, None, :], h[:, :-1, :]], axis=1)
    return before if resets is None else xp.where(resets[:, :, None], h0[:, None, :], before)


def residuals(xp: Any, h: Array, f: Array) -> tuple[Array, Array]:
    """h - f, 0 where f is no number, and its size in each step relative to max(1, |h|), infinite there."""
    numbers = xp.isfinite(f) & xp.isfinite(h)
    nothing = xp.zeros_like(h)
    r = xp.where(numbers, h, nothing) - xp.where(numbers, f, nothing)
    size = xp.abs(h)
    relative = xp.abs(r) / xp.where(size > 1, size, xp.ones_like(size))
    same = (h == f) | (xp.isnan(h) & xp.isnan(f))
    relative = xp.where(numbers | same, relative, xp.full_like(relative, float("inf")))
    return r, xp.max(relative, axis=-1)


def solution(
    xp: Any,
    pattern: Pattern,
    part: Array | None,
    r: Array,
    resets: Array | None,
    known: Array,
    damping: Array | None = None,
    variance: float | None = None,
) -> Array:
    """d[t] = A[t] d[t-1] - r[t], with A = 0 at resets and where A, or the step (`known` is false), is no number."""
    if pattern.part == "zero":
        return -r
    shrunk = None if damping is None else 1 - damping
    cut = ~known if resets is None else resets | ~known
    if pattern.part == "identity":
        a = xp.ones((r.shape[0],), dtype=r.dtype, device=device(r)) if shrunk is None else shrunk
        return linear_recurrence(a[:, None, None], -r, resets=cut)
    batch, steps, n = r.shape
    a = xp.reshape(part, (batch, steps, *part.shape[1:]))  # type: ignore[union-attr]
    fine = xp.isfinite(a)
    cut = cut | ~xp.all(xp.reshape(fine, (batch, steps, -1)), axis=-1)
    a = xp.where(fine, a, xp.zeros_like(a))
    if shrunk is not None:
        a = a * xp.reshape(shrunk, (batch, *(1 for _ in a.shape[1:])))
    if variance is not None:
        return filtered(xp, a, r, cut, variance)
    if pattern.part == "diagonal":
        return linear_recurrence(a, -r, resets=cut)
    if pattern.part == "dense":
        return matrix_recurrence(a, -r, resets=cut)
    # Every unit is a sequence of its own, with its block of K x K.
    k, units = pattern.blocks, n // pattern.blocks
    a = xp.permute_dims(a, (0, 2, 1, 3, 4))
    apart = xp.permute_dims(xp.reshape(r, (batch, steps, k, units)), (0, 3, 1, 2))
    d = matrix_recurrence(a, -apart, resets=cut[:, None, :])
    return xp.reshape(xp.permute_dims(d, (0, 2, 3, 1)), (batch, steps, n))


def projected(xp: Any, h: Array, bounds: tuple[Any, Any] | None) -> Array:
    """The states within bounds, by selection: NaN stays what it is."""
    if bounds is None:
        return h
    low, high = (xp.asarray(b, dtype=h.dtype, device=device(h)) for b in bounds)
    return xp.where(h < low, low, xp.where(h > high, high, h))
