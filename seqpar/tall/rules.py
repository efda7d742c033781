"""Derivatives of QR and of R alone, for m >= n and m < n, real and complex, batched. Called by `seqpar.tall.operations`.

Cotangents are those of Re<xbar, dx> = Re sum(conj(xbar) dx); whoever wants linear transposes conjugates around. With

    lower(X) = tril(X, -1) + diag(X) / 2       C = Q^H dA R^-1       S = C + C^H

and a real diagonal of R that is not negative, Q^H dQ is skew and dR R^-1 upper triangular with a real diagonal, so

    dR = lower(S)^H R                          dQ = dA R^-1 - Q lower(S)^H
    M = R Rbar^H - Qbar^H Q                    Abar = (Qbar + Q (lower(M) + lower(M)^H)) R^-H

(Walter, Lehmann and Lamour 2012, eq. 25; Seeger et al. 2017, arXiv 1710.08717). Of R alone no Q is formed, for Q = A R^-1:

    C = R^-H (A^H dA) R^-1                     Abar = A R^-1 (lower(M) + lower(M)^H) R^-H,  M = R Rbar^H

which is one product with A in either direction. Wide matrices are [X | Y] with X square: Q and R's first columns are those of X.
Where R has a zero on its diagonal there is no derivative, and all of it is NaN.

Rows may be elsewhere: `total` is what makes the sum over all of them from the sum over those here, which are a's and q's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seqpar.algorithms.arrays import filled
from seqpar.algorithms.matrices import adjoint, eye
from seqpar.dispatch.problem import Array
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.rows import OWN_AXES, joined, lead_of, stacked

Operands = Sequence[Any]
Total = Callable[[Array], Array]


def all_here(x: Array) -> Array:
    """The total where no row is elsewhere."""
    return x


# --- Q and R ----------------------------------------------------------------------------------------------------------


def qr_jvp(xp: Any, q: Array, r: Array, da: Array, total: Total = all_here) -> tuple[Array, Array]:
    """Tangents of q (..., m, p) and r (..., p, n) from that of a (..., m, n)."""
    product = linear_algebra(r).product
    p, n = r.shape[-2:]
    inverse = inverse_of(xp, r[..., :p])
    moved = product(da[..., :p], inverse)
    c = total(product(adjoint(xp, q), moved))
    upper = adjoint(xp, lower_of(xp, c + adjoint(xp, c)))
    dq = moved - product(q, upper)
    if p == n:
        return dq, product(upper, r)
    # R = Q^H A, so dR = Q^H dA - (Q^H dQ) R; with Q^H dQ = C - upper. Below the diagonal that is zero but for rounding.
    return dq, xp.triu(total(product(adjoint(xp, q), da)) - product(c - upper, r))


def qr_vjp(
    xp: Any, q: Array, r: Array, qbar: Array | None, rbar: Array | None, total: Total = all_here
) -> Array:
    """The cotangent of a (..., m, n) from those of q (..., m, p) and r (..., p, n), of which one may be None."""
    product = linear_algebra(r).product
    p, n = r.shape[-2:]
    ybar = None
    if p < n:
        # R's other columns are Q^H Y, and Y is Q times them.
        other = xp.zeros_like(r[..., p:]) if rbar is None else rbar[..., p:]
        ybar = product(q, other)
        through_q = product(q, product(r[..., p:], adjoint(xp, other)))
        qbar = through_q if qbar is None else qbar + through_q
        r, rbar = r[..., :p], None if rbar is None else rbar[..., :p]
        ybar = xp.where(_is_singular(xp, r), xp.full_like(ybar, xp.nan), ybar)
    inverse = adjoint(xp, inverse_of(xp, r))
    m = None if rbar is None else product(r, adjoint(xp, rbar))
    if qbar is not None:
        along_q = total(product(adjoint(xp, qbar), q))
        m = -along_q if m is None else m - along_q
    assert m is not None, "one of the cotangents is given"
    abar = product(q, product(from_lower(xp, m), inverse))
    if qbar is not None:
        abar += product(qbar, inverse)
    return abar if ybar is None else xp.concat([abar, ybar], axis=-1)


# --- R alone ----------------------------------------------------------------------------------------------------------


def r_jvp(xp: Any, operands: Operands, r: Array, tangents: Operands, total: Total = all_here) -> Array:
    """The tangent of the R of [seed; sqrt(weights) * [a | b]]; operands are (a, b, weights, seed), of which a is given."""
    if r.shape[-2] < r.shape[-1]:
        rows, moved = _stacked_jvp(xp, operands, tangents)
        return qr_jvp(xp, _q_of(xp, rows, r), r, moved, total)[1]
    product = linear_algebra(r).product
    unit = unit_of(xp, r)
    inverse = inverse_of(xp, r / unit)
    gram = total(_gram_jvp(xp, operands, tangents, unit))
    c = product(adjoint(xp, inverse), product(gram, inverse)) / unit
    return product(adjoint(xp, lower_of(xp, c + adjoint(xp, c))), r)


def r_vjp(
    xp: Any, operands: Operands, r: Array, rbar: Array, wanted: Sequence[bool], total: Total = all_here
) -> tuple[Array | None, ...]:
    """The cotangents of a, b, weights and seed that are wanted."""
    a, b, weights, seed = operands
    if r.shape[-2] < r.shape[-1]:
        rows = stacked(xp, operands)
        return _stacked_vjp(xp, operands, qr_vjp(xp, _q_of(xp, rows, r), r, None, rbar, total), wanted)
    product = linear_algebra(r).product
    n = r.shape[-1] if b is None else r.shape[-1] - b.shape[-1]
    unit = unit_of(xp, r)
    inverse = inverse_of(xp, r / unit)
    m = from_lower(xp, product(r, adjoint(xp, rbar)))
    # Divided by the unit twice, once on either side of the product: the square may be no number of this type.
    small = product(inverse, product(m, adjoint(xp, inverse))) / unit
    grads: list[Array | None] = [None] * 4
    if any(wanted[:3]):
        given = [(x, columns) for x, columns in ((a, slice(None, n)), (b, slice(n, None))) if x is not None]
        pulled = [_of_rows(product, a, b, small[..., columns], unit) for _, columns in given]
        if weights is not None:
            if wanted[2]:
                # Of sqrt(w) x as of x times itself: no division by a weight, which may be zero.
                grads[2] = sum(inner(xp, g, x) for g, (x, _) in zip(pulled, given, strict=True)) / 2
            pulled = [weights[..., None] * g for g in pulled]
        grads[: len(pulled)] = pulled
    if seed is not None and wanted[3]:
        grads[3] = product(seed, small) / unit
    return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))


def _gram_jvp(xp: Any, operands: Operands, tangents: Operands, unit: Array) -> Array:
    """M^H dM / unit for M = [seed; sqrt(weights) * [a | b]]."""
    a, b, weights, seed = operands
    da, db, dweights, dseed = tangents
    product = linear_algebra(a).product

    def moved(x: Any, dx: Array | None) -> Array | None:
        parts = [] if dx is None else [dx if weights is None else weights[..., None] * dx]
        parts += [] if dweights is None else [dweights[..., None] / 2 * x]
        return sum(parts[1:], parts[0]) / unit if parts else None

    left = [adjoint(xp, x) for x in (a, b) if x is not None]
    right = [moved(x, dx) for x, dx in ((a, da), (b, db)) if x is not None]
    columns = [x.shape[-1] for x in (a, b) if x is not None]
    n, lead = sum(columns), unit.shape[:-2]
    blocks = [
        xp.concat([product(x, y) for x in left], axis=-2)
        if y is not None
        else filled(xp, (*lead, n, k), 0.0, unit, a.dtype)
        for k, y in zip(columns, right, strict=True)
    ]
    gram = joined(xp, blocks, lead, -1)
    return gram if dseed is None else gram + product(adjoint(xp, seed), dseed / unit)


def _of_rows(product: Any, a: Array, b: Array | None, right: Array, unit: Array) -> Array:
    """[a | b] @ right / unit, without [a | b]."""
    n = a.shape[-1]
    rows = product(a, right[..., :n, :])
    # In place: a second array of the size of a costs PyTorch as much time as the product, 166 ms for 1M x 32 in float32.
    if b is not None:
        rows += product(b, right[..., n:, :])
    rows /= unit
    return rows


# --- R alone of fewer rows than columns: few rows, so they are put together ---------------------------------------------


def _stacked_jvp(xp: Any, operands: Operands, tangents: Operands) -> tuple[Array, Array]:
    """The rows and their tangent."""
    a, b, weights, seed = operands
    da, db, dweights, dseed = (
        None if x is None else xp.zeros_like(x) if dx is None else dx
        for x, dx in zip(operands, tangents, strict=True)
    )
    lead = lead_of(operands, OWN_AXES)
    rows = a if b is None else joined(xp, [a, b], lead, -1)
    moved = da if db is None else joined(xp, [da, db], lead, -1)
    if weights is not None:
        root = xp.sqrt(weights)
        moved = root[..., None] * moved + (dweights / (2 * root))[..., None] * rows
    return stacked(xp, operands), moved if seed is None else joined(xp, [dseed, moved], lead, -2)


def _stacked_vjp(
    xp: Any, operands: Operands, cotangent: Array, wanted: Sequence[bool]
) -> tuple[Array | None, ...]:
    a, b, weights, seed = operands
    above = 0 if seed is None else seed.shape[-2]
    n = a.shape[-1]
    rows = cotangent[..., above:, :]
    dweights = None
    if weights is not None:
        root = xp.sqrt(weights)
        if wanted[2]:
            dweights = inner(xp, rows[..., :n], a) + (0 if b is None else inner(xp, rows[..., n:], b))
            dweights = dweights / (2 * root)
        rows = root[..., None] * rows
    grads = (
        rows[..., :n],
        None if b is None else rows[..., n:],
        dweights,
        None if seed is None else cotangent[..., :above, :],
    )
    return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))


def _q_of(xp: Any, rows: Array, r: Array) -> Array:
    p = r.shape[-2]
    return linear_algebra(r).product(rows[..., :p], inverse_of(xp, r[..., :p]))


# --- what rules of least squares need too ---------------------------------------------------------------------------------


def inner(xp: Any, x: Array, y: Array, axis: int = -1) -> Array:
    """Re<x, y> along an axis."""
    if not xp.isdtype(x.dtype, "complex floating"):
        return xp.sum(x * y, axis=axis)
    return xp.sum(xp.real(x) * xp.real(y) + xp.imag(x) * xp.imag(y), axis=axis)


# --- small matrices ---------------------------------------------------------------------------------------------------


def inverse_of(xp: Any, r: Array) -> Array:
    """R^-1; NaN where R has a zero on its diagonal."""
    unit, singular = eye(xp, r, r.shape[-1]), _is_singular(xp, r)
    # Some solvers raise for a singular matrix.
    found = linear_algebra(r).solve_right(xp.broadcast_to(unit, r.shape), xp.where(singular, unit, r))
    return xp.where(singular, xp.full_like(found, xp.nan), found)


def _is_singular(xp: Any, r: Array) -> Array:
    """Is there a zero on the diagonal? (..., 1, 1)"""
    return xp.any((r == 0) & (eye(xp, r, r.shape[-1]) == 1), axis=(-2, -1), keepdims=True)


def unit_of(xp: Any, r: Array) -> Array:
    """The size of a matrix: with entries beyond 1e19, squares of float32 are no numbers."""
    size = xp.abs(r)
    if r.shape[-1] == 0:
        return xp.sum(size, axis=(-2, -1), keepdims=True)
    largest = xp.max(size, axis=(-2, -1), keepdims=True)
    return xp.where(largest > 0, largest, xp.ones_like(largest))


def lower_of(xp: Any, x: Array) -> Array:
    """The part below the diagonal and half of the diagonal."""
    return xp.tril(x) * (1 - eye(xp, x, x.shape[-1]) / 2)


def from_lower(xp: Any, x: Array) -> Array:
    """The Hermitian matrix that x is the lower triangle of."""
    low = lower_of(xp, x)
    return low + adjoint(xp, low)
