"""The linear recurrence by its definition: plain NumPy loops in float64, which every method and kernel is compared with.

Nothing here is shared with the library. Operands are canonical: `a`, `b`, `resets` have the rank of the result and broadcast,
`h0` lacks the time axis. Operands of lower precision are read exactly; `a` is first rounded to the precision of the state,
as the contract says, so that a wide `a` with a narrow `b` has one right answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.testing.comparison import (
    assert_within,
    in_state_precision,
    precisions,
    summed_to,
    time_first,
    walk_order,
    widened,
)
from seqpar.testing.matrix_oracle import (
    matrix_backward,
    matrix_backward_error_bound,
    matrix_error_bound,
    matrix_walk,
)

__all__ = [
    "assert_within",
    "backward",
    "backward_error_bound",
    "error_bound",
    "matrix_backward",
    "matrix_backward_error_bound",
    "matrix_error_bound",
    "matrix_walk",
    "precisions",
    "walk",
]

Array = np.ndarray[Any, Any]


@np.errstate(all="ignore")  # non-finite values are data
def walk(
    a: Any,
    b: Any,
    h0: Any = None,
    resets: Any = None,
    *,
    axis: int,
    reverse: bool = False,
    gate: str = "value",
    convex: bool = False,
    adjoint: bool = False,
) -> tuple[Array, Array]:
    """(h, final) of one walk over time, in float64 or complex128."""
    c, one_minus_c, b, h0, resets, shape, axis = _load(a, b, h0, resets, axis, gate)
    u = one_minus_c * b if convex else b
    return _loop(c, u, h0, resets, shape, axis, reverse, adjoint)


@np.errstate(all="ignore")  # non-finite values are data
def backward(
    a: Any,
    b: Any,
    h0: Any,
    resets: Any,
    h: Any,
    g: Any,
    g_final: Any,
    *,
    axis: int,
    reverse: bool = False,
    gate: str = "value",
    convex: bool = False,
) -> tuple[Array, Array, Array]:
    """(da, db, dh0): the unconjugated transpose of the plain walk's derivative, step by step.

    `h` is the result of the plain walk, or None to compute it here. `da` has the shape of `a`, `db` the full shape.
    """
    c, one_minus_c, b64, h064, resets, shape, axis = _load(a, b, h0, resets, axis, gate)
    if h is None:
        h = _loop(c, one_minus_c * b64 if convex else b64, h064, resets, shape, axis, reverse, False)[0]
    h = time_first(widened(h), shape, axis)
    g = time_first(widened(g), shape, axis)
    c_, n_, b_, r_ = (time_first(x, shape, axis) for x in (c, one_minus_c, b64, resets))
    kind = np.result_type(c, b64, g)
    k = np.zeros(h.shape[1:], kind) if g_final is None else widened(g_final) + np.zeros(h.shape[1:], kind)
    dc, db = np.zeros(h.shape, kind), np.zeros(h.shape, kind)
    order = walk_order(shape[axis], reverse)
    for i in reversed(range(len(order))):
        t = order[i]
        before = h[order[i - 1]] if i > 0 else h064
        lam = g[t] + k
        k = np.where(r_[t], 0, c_[t] * lam)
        dc[t] = np.where(r_[t], 0, lam * before)
        if convex:
            dc[t] -= lam * b_[t]
        db[t] = n_[t] * lam if convex else lam
    slope = {"value": np.ones_like(c_), "log": c_, "logit": c_ * n_}[gate]
    da = summed_to(np.moveaxis(dc * slope, 0, axis), np.shape(a))
    return da, np.moveaxis(db, 0, axis), k


@np.errstate(all="ignore")  # non-finite values are data
def error_bound(
    a: Any,
    b: Any,
    h0: Any = None,
    resets: Any = None,
    *,
    axis: int,
    reverse: bool = False,
    gate: str = "value",
    convex: bool = False,
    adjoint: bool = False,
    roundings: float = 8.0,
) -> tuple[Array, Array]:
    """Elementwise bounds on the error of (h, final) for any order of evaluation in the state's precision.

    With A the walk over absolute values, every step commits at most `roundings` relative errors of A, and each error travels
    on as the state does: so the bound is the same walk again, fed with eps * A. It knows how fast the past is forgotten.
    """
    state, out = precisions(b)
    c, one_minus_c, b64, h064, resets, shape, axis = _load(a, b, h0, resets, axis, gate)
    u = np.abs(one_minus_c * b64 if convex else b64)
    size, size_final = _loop(np.abs(c), u, np.abs(h064), resets, shape, axis, reverse, adjoint)
    eps = roundings * state.eps
    tiny = float(state.smallest_normal)
    error, error_final = _loop(
        np.abs(c), eps * size + tiny, eps * np.abs(h064), resets, shape, axis, reverse, adjoint
    )
    rounded = float(out.eps) * size + float(out.smallest_normal) if out is not state else 0.0
    return error + rounded, error_final + eps * size_final + tiny


@np.errstate(all="ignore")  # non-finite values are data
def backward_error_bound(
    a: Any,
    b: Any,
    h0: Any,
    resets: Any,
    g: Any,
    g_final: Any,
    *,
    axis: int,
    reverse: bool = False,
    gate: str = "value",
    convex: bool = False,
    roundings: float = 8.0,
) -> tuple[Array, Array, Array]:
    """Elementwise bounds on the error of (da, db, dh0), where `h` too was computed in b's precision."""
    state, out = precisions(b)
    precision_a = precisions(a)[1]
    eps, tiny = roundings * float(state.eps), float(state.smallest_normal)
    where = {"axis": axis, "reverse": reverse, "gate": gate, "convex": convex, "roundings": roundings}
    error_h = error_bound(a, b, h0, resets, **where)[0]  # type: ignore[arg-type]
    c, one_minus_c, b64, h064, resets, shape, axis = _load(a, b, h0, resets, axis, gate)
    u = np.abs(one_minus_c * b64 if convex else b64)
    size_h = _loop(np.abs(c), u, np.abs(h064), resets, shape, axis, reverse, False)[0]
    g64 = np.abs(np.broadcast_to(widened(g), shape))
    last = np.zeros(h064.shape) if g_final is None else np.abs(widened(g_final)) + np.zeros(h064.shape)
    size, size_first = _loop(np.abs(c), g64, last, resets, shape, axis, not reverse, True)
    error, error_first = _loop(
        np.abs(c), eps * size + tiny, eps * last, resets, shape, axis, not reverse, True
    )

    def previous(x: Array, first: Array) -> Array:
        first = np.expand_dims(first + np.zeros(h064.shape), axis)
        if shape[axis] == 0:
            return x
        x = np.delete(x, 0 if reverse else -1, axis)
        return np.concatenate([x, first] if reverse else [first, x], axis)

    size_p = previous(size_h, np.abs(h064))
    error_p = previous(error_h, eps * np.abs(h064))
    dc = np.where(resets, 0.0, error * size_p + size * error_p + eps * size * size_p)
    if convex:
        dc = dc + error * np.abs(b64) + eps * size * np.abs(b64)
    size_dc = np.where(resets, 0.0, size * size_p) + (size * np.abs(b64) if convex else 0.0)
    slope = np.abs({"value": np.ones_like(c), "log": c, "logit": c * one_minus_c}[gate])
    # Sums over broadcast axes: eps * log2(n) for pairwise summation, n/64 allows the block sums below it.
    terms = max(1, int(np.prod(shape)) // max(1, int(np.prod(np.shape(a)))))
    da = summed_to((dc + (1 + terms / 64) * eps * size_dc) * slope, np.shape(a))
    da = (
        da
        + float(precision_a.eps) * summed_to(size_dc * slope, np.shape(a))
        + float(precision_a.smallest_normal)
    )
    db = (error + eps * size) * (np.abs(one_minus_c) if convex else 1.0)
    rounded = (np.abs(one_minus_c) if convex else 1.0) * size * float(out.eps) + float(out.smallest_normal)
    return da, db + (rounded if out is not state else tiny), error_first + eps * size_first + tiny


def _load(a: Any, b: Any, h0: Any, resets: Any, axis: int, gate: str) -> tuple[Any, ...]:
    a, b = np.asarray(a), np.asarray(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    axis = axis % len(shape)
    a = in_state_precision(a, b)
    if gate == "value":
        c, one_minus_c = a, 1 - a
    elif gate == "log":
        c, one_minus_c = np.exp(a), -np.expm1(a)
    else:
        assert gate == "logit"
        c, one_minus_c = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(a))
    edge = shape[:axis] + shape[axis + 1 :]
    h0 = np.zeros(edge) if h0 is None else np.broadcast_to(widened(h0), edge)
    resets = np.zeros((1,) * len(shape), bool) if resets is None else np.asarray(resets)
    return c, one_minus_c, widened(b), h0, np.broadcast_to(resets, shape), shape, axis


def _loop(
    c: Array,
    u: Array,
    h0: Array,
    resets: Array,
    shape: tuple[int, ...],
    axis: int,
    reverse: bool,
    adjoint: bool,
) -> tuple[Array, Array]:
    c, u, resets = (time_first(x, shape, axis) for x in (c, u, resets))
    k = h0.astype(np.result_type(c, u, h0))
    h = np.zeros(u.shape, k.dtype)
    for t in walk_order(shape[axis], reverse):
        if adjoint:
            h[t] = u[t] + k
            k = np.where(resets[t], 0, c[t] * h[t])
        else:
            h[t] = k = np.where(resets[t], u[t], c[t] * k + u[t])
    return np.moveaxis(h, 0, axis), k
