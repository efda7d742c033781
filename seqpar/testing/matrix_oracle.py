"""The matrix recurrence by its definition: plain NumPy loops in float64, which every method and kernel is compared with.

Nothing here is shared with the library. Operands are canonical: A: (lead..., n, n), b: (lead..., n, k), resets: (lead..., 1, 1),
h0: (lead without time..., n, k); the lead axes broadcast, time is one of them. `A` is first rounded to the precision of the
state, as the contract says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seqpar.testing.comparison import (
    in_state_precision,
    precisions,
    summed_to,
    time_first,
    walk_order,
    widened,
)

Array = np.ndarray[Any, Any]


@np.errstate(all="ignore")  # non-finite values are data
def matrix_walk(
    A: Any,
    b: Any,
    h0: Any = None,
    resets: Any = None,
    *,
    axis: int,
    reverse: bool = False,
    transposed: bool = False,
    adjoint: bool = False,
) -> tuple[Array, Array]:
    """(h, final) of one walk over time, in float64 or complex128."""
    M, u, h0, resets, shape = _load(A, b, h0, resets, axis, transposed)
    h, k = _loop(_times, M, u, h0, resets, walk_order(shape[axis], reverse), adjoint)
    return np.moveaxis(h, 0, axis), k


@np.errstate(all="ignore")  # non-finite values are data
def matrix_backward(
    A: Any,
    b: Any,
    h0: Any,
    resets: Any,
    h: Any,
    g: Any,
    g_final: Any,
    *,
    axis: int,
    reverse: bool = False,
    transposed: bool = False,
) -> tuple[Array, Array, Array]:
    """(dA, db, dh0): the unconjugated transpose of the plain walk's derivative, step by step.

    `h` is the result of the plain walk, or None to compute it here from `b`, which is read for nothing else and may be None
    otherwise. `dA` has the shape of `A`; `db` and `dh0` the full shapes.
    """
    M, u, h0, resets, shape = _load(A, h if b is None else b, h0, resets, axis, transposed)
    steps = walk_order(shape[axis], reverse)
    h = _loop(_times, M, u, h0, resets, steps, False)[0] if h is None else time_first(widened(h), shape, axis)
    g = time_first(widened(g), shape, axis)
    kind = np.result_type(M, h, g)
    k = np.zeros(h.shape[1:], kind) if g_final is None else widened(g_final) + np.zeros(h.shape[1:], kind)
    dM, db = np.zeros(h.shape[:-1] + h.shape[-2:-1], kind), np.zeros(h.shape, kind)
    for i in reversed(range(len(steps))):
        t = steps[i]
        before = h[steps[i - 1]] if i > 0 else h0
        db[t] = lam = g[t] + k
        k = np.where(resets[t], 0, _times(_transpose(M[t]), lam))
        dM[t] = np.where(resets[t], 0, _times(lam, _transpose(before)))
    dA = _transpose(dM) if transposed else dM
    return summed_to(np.moveaxis(dA, 0, axis), np.shape(A)), np.moveaxis(db, 0, axis), k


@np.errstate(all="ignore")  # non-finite values are data
def matrix_error_bound(
    A: Any,
    b: Any,
    h0: Any = None,
    resets: Any = None,
    *,
    axis: int,
    reverse: bool = False,
    transposed: bool = False,
    adjoint: bool = False,
    roundings: float = 8.0,
) -> tuple[Array, Array]:
    """Elementwise bounds on the error of (h, final) for any order of evaluation in the state's precision.

    Every step commits at most `roundings` + n relative errors of the largest size that a state made of these operands can
    have, and each error travels on as a state does. Sizes and errors travel by |M|, which is sharp for diagonal and
    triangular matrices, or by the spectral norm of M, which is sharp for orthogonal ones: whichever is smaller at each step.
    What is exactly zero stays so.
    """
    size, error = _size_and_error(A, b, b, h0, resets, axis, reverse, transposed, adjoint, roundings)
    return np.moveaxis(error[0] + _rounded(size[0], b), 0, axis), error[1]


@np.errstate(all="ignore")  # non-finite values are data
def matrix_backward_error_bound(
    A: Any,
    b: Any,
    h0: Any,
    resets: Any,
    g: Any,
    g_final: Any,
    *,
    axis: int,
    reverse: bool = False,
    transposed: bool = False,
    roundings: float = 8.0,
) -> tuple[Array, Array, Array]:
    """Elementwise bounds on the error of (dA, db, dh0), where `h` too was computed in b's precision."""
    shape = _shape(A, b)
    g, h0 = np.broadcast_to(g, shape), np.zeros(()) if h0 is None else np.abs(widened(h0))
    size_h, error_h = _size_and_error(A, b, b, h0, resets, axis, reverse, transposed, False, roundings)
    size, error = _size_and_error(
        A, g, b, g_final, resets, axis, not reverse, not transposed, True, roundings
    )
    eps = (roundings + shape[-1]) * float(precisions(b)[0].eps)
    first = h0 + np.zeros(size_h[1].shape)
    size_p = _before(size_h[0], first, reverse)
    error_p = _before(error_h[0] + _rounded(size_h[0], b), eps * first, reverse)
    sizes = _select(_bounds_times(size[0], _transpose(size_p)), resets, shape, axis)
    errors = _bounds_times(error[0], _transpose(size_p)) + _bounds_times(size[0], _transpose(error_p))
    errors = _select(errors, resets, shape, axis)
    # Sums over broadcast axes: eps * log2(n) for pairwise summation, n / 64 allows the block sums below it.
    terms = max(1, int(np.prod(shape[:-1])) * shape[-2] // max(1, int(np.prod(np.shape(A)))))
    of_A = precisions(A)[1]
    sizes, errors = (
        summed_to(np.moveaxis(_transpose(x) if transposed else x, 0, axis), np.shape(A))
        for x in (sizes, errors)
    )
    dA = errors + ((1 + terms / 64) * eps + float(of_A.eps)) * sizes
    dA = np.where(sizes == 0, 0.0, dA + float(of_A.smallest_normal))
    db = np.moveaxis(error[0] + _rounded(size[0], b), 0, axis)
    return dA, db, error[1]


def _shape(A: Any, b: Any) -> tuple[int, ...]:
    return (*np.broadcast_shapes(np.shape(A)[:-2], np.shape(b)[:-2]), *np.shape(b)[-2:])


def _load(
    A: Any, u: Any, h0: Any, resets: Any, axis: int, transposed: bool, like: Any = None
) -> tuple[Any, ...]:
    """M, u, h0, resets of full shape with time in front, and that shape; M in the precision of the state of `like` or u."""
    shape = _shape(A, u)
    lead, edge = shape[:-2], shape[:axis] + shape[axis + 1 :]
    M = in_state_precision(A, u if like is None else like)
    M = time_first(_transpose(M) if transposed else M, (*lead, *M.shape[-2:]), axis)
    h0 = np.zeros(edge) if h0 is None else np.broadcast_to(widened(h0), edge)
    resets = np.zeros((1,) * len(shape), bool) if resets is None else np.asarray(resets)
    u = time_first(widened(u), shape, axis)
    return M, u, h0, time_first(resets, (*lead, 1, 1), axis), shape


def _loop(
    times: Callable[[Any, Any], Any],
    M: Any,
    u: Array,
    h0: Array,
    resets: Array,
    steps: list[int],
    adjoint: bool,
) -> tuple[Array, Array]:
    k = h0.astype(np.result_type(M, u, h0))
    h = np.zeros(u.shape, k.dtype)
    for t in steps:
        if adjoint:
            h[t] = u[t] + k
            k = np.where(resets[t], 0, times(M[t], h[t]))
        else:
            h[t] = k = np.where(resets[t], u[t], times(M[t], k) + u[t])
    return h, k


def _times(x: Array, y: Array) -> Array:
    """x @ y with every product formed: a library may skip 0 times NaN."""
    product: Array = (x[..., :, :, None] * y[..., None, :, :]).sum(axis=-2)
    return product


def _transpose(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def _before(x: Array, first: Array, reverse: bool) -> Array:
    """The state before each step, for states with time in front."""
    if not len(x):
        return x
    return np.concatenate([x[1:], first[None]] if reverse else [first[None], x[:-1]])


def _select(x: Array, resets: Any, shape: tuple[int, ...], axis: int) -> Array:
    return x if resets is None else np.where(time_first(resets, (*shape[:-2], 1, 1), axis), 0.0, x)


def _rounded(size: Array, b: Any) -> Array:
    """What rounding states to a half type adds."""
    state, out = precisions(b)
    if out is state:
        return np.zeros(size.shape)
    return np.where(size == 0, 0.0, float(out.eps) * size + float(out.smallest_normal))


def _size_and_error(
    A: Any,
    u: Any,
    b: Any,
    h0: Any,
    resets: Any,
    axis: int,
    reverse: bool,
    transposed: bool,
    adjoint: bool,
    roundings: float,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Bounds on the size and on the error of (states, final) of a walk over u in the precision of b's state."""
    M, u, h0, resets, shape = _load(A, u, h0, resets, axis, transposed, b)
    norms = time_first(_norms(in_state_precision(A, b)), (*shape[:-2], 1, 1), axis)
    state = precisions(b)[0]
    eps = (roundings + shape[-2]) * float(state.eps)

    def travel(u: Array, h0: Array) -> tuple[Array, Array]:
        return _bound_loop(np.abs(M), norms, u, h0, resets, walk_order(shape[axis], reverse), adjoint)

    def new(size: Array) -> Array:
        return np.where(size == 0, 0.0, eps * size + float(state.smallest_normal))

    size, size_final = travel(np.abs(u), np.abs(h0))
    error, error_final = travel(new(size), eps * np.abs(h0))
    return (size, size_final), (error, error_final + new(size_final))


def _bound_loop(
    M: Array, norms: Array, u: Array, h0: Array, resets: Array, steps: list[int], adjoint: bool
) -> tuple[Array, Array]:
    """A walk over sizes of elements and over norms of columns at once, each kept below what the other allows."""
    M, norms = (_capped(np.where(resets, 0.0, x)) for x in (M, norms))
    norms_u = _column_norms(u)
    k, norm = h0, _column_norms(h0)
    h = np.zeros(u.shape)
    for t in steps:
        if not adjoint:
            k, norm = _bounds_times(M[t], k), norms[t] * norm
        norm = np.minimum(norm + norms_u[t], _column_norms(k + u[t]))
        h[t] = k = np.minimum(k + u[t], norm)
        if adjoint:
            k, norm = _bounds_times(M[t], k), norms[t] * norm
    return h, np.minimum(k, norm)


def _capped(x: Array) -> Array:
    """A bound as large as any, of which zero times is zero."""
    return np.fmin(x, 1e300)


def _norms(M: Array) -> Array:
    """Spectral norms, infinite where an element is not finite."""
    finite = np.isfinite(M).all(axis=(-1, -2), keepdims=True)
    largest = np.linalg.svd(np.where(finite, M, 0), compute_uv=False).max(axis=-1, initial=0.0)
    return np.where(finite, largest[..., None, None], np.inf)


def _column_norms(x: Array) -> Array:
    norms: Array = np.sqrt((x * x).sum(axis=-2, keepdims=True))
    return norms


def _bounds_times(x: Array, y: Array) -> Array:
    return _capped(_times(x, _capped(y)))
