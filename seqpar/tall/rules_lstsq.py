"""Derivatives of least squares by its optimality, never through a factorisation. Called by `seqpar.tall.lstsq_operation`.

x minimises sum_i w_i |a_i x - b_i|^2 + sum_j ridge_j |x_j|^2 and is the shortest that does. With

    G = A^H w A + diag(ridge)     G+ its pseudo-inverse, root^H root     P = I - G+ G, which is 0 where the rank is full
    e = B - A x                   Z = G+ x                               dG = dA^H w A + A^H w dA + A^H dw A + diag(dridge)

the differential of G x = A^H w B, for changes that keep the rank (Golub and Pereyra 1973), and what it pulls back are

    dx = G+ (dA^H w e + A^H w (dB - dA x) + A^H dw e - dridge x) + P dA^H w A Z                        W = G+ xbar
    Bbar = w A W      Abar = w (e W^H - A W x^H + A Z (P xbar)^H)      wbar = Re<A W, e>      ridgebar = -Re<W, x>

Of each column of sqrt(w) e the norm changes by Re(<w e, dB - dA x> + <e, dw e> / 2 - <ridge x, dx>) / norm. Singular values of
sqrt(w) A change by Re(v^H dG v) / 2s, without the ridge. Of a norm or a singular value that is zero the derivative is taken
as 0, which is the shortest of its subgradients, as frameworks do for |x| at 0. What only these rules read has its own, so
that every order closes: root, up to a unitary factor that drops out of root^H root, and P, and singular vectors

    droot = -root dG G+ / 2 + root G+ dG P          dP = -P dG G+ - G+ dG P
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import filled
from seqpar.algorithms.matrices import adjoint, eye
from seqpar.dispatch.problem import Array
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.rules import Total, all_here, inner, unit_of

Operands = Sequence[Any]
Results = Sequence[Any]


def lstsq_jvp(
    xp: Any, operands: Operands, results: Results, tangents: Operands, total: Total = all_here
) -> tuple[Array, ...]:
    """Tangents of x, residual, singular_values, right, root and null from those of a, b, ridge and weights.

    `total` makes sums over all rows of sums over those that are here; the reverse rule has none.
    """
    a, b, ridge, weights = operands[:4]
    da, db, dridge, dweights = tangents[:4]
    x, residual, _, _, _, root, null = results
    product = linear_algebra(x).product
    a_adjoint, e = adjoint(xp, a), b - product(a, x)

    def weighted(y: Array) -> Array:
        return y if weights is None else weights[..., None] * y

    unit = unit_of(xp, root)
    root = root / unit
    share = _reciprocal(xp, residual)[..., None, :]
    # What enters the normal equations, times the unit, and what their matrix changes by.
    moved = filled(xp, tuple(e.shape), 0.0, e, e.dtype) if db is None else db
    from_null = xp.zeros_like(x)
    right_side = xp.zeros_like(x)
    if da is not None:
        moved = moved - product(da, x)
        da_adjoint = adjoint(xp, da)
        right_side = product(da_adjoint, weighted(unit * e))
        beyond = unit * product(a, unit * _inverse(xp, root, x))
        from_null = total(product(da_adjoint, weighted(beyond)))
    gained = inner(xp, weighted(share * e), moved, axis=-2)
    pushed = weighted(moved)
    if dweights is not None:
        changed = dweights[..., None] * e
        pushed = pushed + changed
        gained = gained + inner(xp, share * e, changed, axis=-2) / 2
    gained = total(gained)
    right_side = total(right_side + product(a_adjoint, unit * pushed))
    if dridge is not None:
        right_side = right_side - unit * dridge[..., None] * x
    dx = unit * _inverse(xp, root, right_side) + product(null, from_null)
    if ridge is not None:
        gained = gained - inner(xp, ridge[..., None] * share * x, dx, axis=-2)
    dg = _gram_jvp(xp, operands, tangents)
    dg = None if dg is None else total(dg)
    return dx, gained, *_small_jvp(xp, results, dg, dridge)


def lstsq_vjp(
    xp: Any, operands: Operands, results: Results, cotangents: Results, wanted: Sequence[bool]
) -> tuple[Array | None, ...]:
    """Cotangents of a, b, ridge and weights that are wanted, from those of the results (as many, None for zero)."""
    a, b, ridge, weights = operands[:4]
    x, residual = results[:2]
    xbar, residualbar = cotangents[:2]
    root, null = results[5:]
    product = linear_algebra(x).product
    xbar = xp.zeros_like(x) if xbar is None else xbar
    share = _reciprocal(xp, residual)[..., None, :]
    residualbar = (xp.zeros_like(residual) if residualbar is None else residualbar)[..., None, :]
    if ridge is not None and cotangents[1] is not None:
        xbar = xbar - ridge[..., None] * share * x * residualbar
    unit = unit_of(xp, root)
    root = root / unit
    w = unit * _inverse(xp, root, xbar)
    of_gram, of_ridge = _small_vjp(xp, results, cotangents)
    small = Small(x, share, residualbar, unit, w, unit * _inverse(xp, root, x), product(null, xbar), of_gram)
    abar, bbar, weightsbar = rows_vjp(xp, a, b, weights, small, (wanted[0], wanted[1], wanted[3]))
    ridgebar = None
    if ridge is not None and wanted[2]:
        ridgebar = -inner(xp, unit * w, x)
        if of_ridge is not None:
            ridgebar = ridgebar + _diagonal(xp, of_ridge)
    return abar, bbar, ridgebar, weightsbar


class Small(NamedTuple):
    """What the cotangents of rows are made of: matrices of n rows."""

    x: Array
    share: Array
    """One over the norm of what is left of each column of b, (..., 1, k)."""
    residualbar: Array
    """Cotangents of those norms, (..., 1, k)."""
    unit: Array
    """The size of root, (..., 1, 1): with entries of 1e-20 or 1e20, the size of G+ is no number of float32."""
    w: Array
    """G+ xbar / unit."""
    z: Array
    """G+ x / unit."""
    outside: Array
    """P xbar."""
    gram: Array | None
    """Hermitian half of the cotangent of G."""


def rows_vjp(
    xp: Any, a: Array, b: Array, weights: Array | None, small: Small, wanted: Sequence[bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """Cotangents of some rows of a, b and weights."""
    product = linear_algebra(a).product
    e = b - product(a, small.x)
    aw = small.unit * product(a, small.w)
    along = small.residualbar * (small.share * e)
    pulled = aw + along
    scale = None if weights is None else weights[..., None]
    abar = weightsbar = None
    if wanted[0]:
        # One product with rows of 3 k numbers: no sum of matrices as large as a.
        left = xp.concat([small.unit * e, -pulled, small.unit * product(a, small.z)], axis=-1)
        left = left if scale is None else scale * left
        abar = product(left, adjoint(xp, xp.concat([small.w, small.x, small.outside], axis=-1)))
    if small.gram is not None:
        bent = product(a, small.gram)
        if abar is not None:
            abar = abar + 2 * (bent if scale is None else scale * bent)
    if weights is not None and wanted[2]:
        weightsbar = inner(xp, aw + along / 2, e)
        if small.gram is not None:
            weightsbar = weightsbar + inner(xp, bent, a)
    return abar, (pulled if scale is None else scale * pulled) if wanted[1] else None, weightsbar


# --- n x n matrices -----------------------------------------------------------------------------------------------------


def _gram_jvp(xp: Any, operands: Operands, tangents: Operands) -> Array | None:
    """The change of A^H w A."""
    a, weights = operands[0], operands[3]
    da, dweights = tangents[0], tangents[3]
    if da is None and dweights is None:
        return None
    # Half of it, to which its adjoint is added.
    moved = [] if da is None else [da if weights is None else weights[..., None] * da]
    moved += [] if dweights is None else [dweights[..., None] / 2 * a]
    half = linear_algebra(a).product(adjoint(xp, a), sum(moved[1:], moved[0]))
    return half + adjoint(xp, half)


def _small_jvp(xp: Any, results: Results, dg: Array | None, dridge: Array | None) -> tuple[Array | None, ...]:
    """Tangents of singular_values, right, root and null from the change of A^H w A and of the ridge."""
    _, _, values, _, right, root, null = results
    product = linear_algebra(root).product
    dvalues = dright = droot = dnull = None
    if dg is not None:
        turned = product(product(right, dg), adjoint(xp, right))
        dvalues = _diagonal(xp, turned) * _reciprocal(xp, values) / 2
        dright = product(_gaps(xp, values) * turned, right)
        if right.shape[-2] < right.shape[-1]:
            dright = dright + _over_squares(values, product(product(right, dg), _outside(xp, right)))
    if dridge is not None:
        bend = eye(xp, null, null.shape[-1], dridge.dtype) * dridge[..., None]
        dg = bend if dg is None else dg + bend
    if dg is not None:
        dg = xp.astype(dg, root.dtype, copy=False)
        inverse = product(adjoint(xp, root), root)
        crossing = product(dg, null)
        droot = product(product(root, inverse), crossing) - product(product(root, dg), inverse) / 2
        half = product(inverse, crossing)
        dnull = -half - adjoint(xp, half)
    return dvalues, dright, droot, dnull


def _small_vjp(xp: Any, results: Results, cotangents: Results) -> tuple[Array | None, Array | None]:
    """The Hermitian half of the cotangent of A^H w A, and the cotangent of diag(ridge)."""
    _, _, values, _, right, root, null = results
    _, _, valuesbar, _, rightbar, rootbar, nullbar = cotangents
    product = linear_algebra(root).product
    of_a, of_both = [], []
    if valuesbar is not None:
        bar = xp.astype(valuesbar * _reciprocal(xp, values) / 2, right.dtype, copy=False)
        of_a.append(product(adjoint(xp, right), bar[..., None] * right))
    if rightbar is not None:
        turned = product(rightbar, adjoint(xp, right))
        of_a.append(product(adjoint(xp, right), product(_gaps(xp, values) * turned, right)))
        if right.shape[-2] < right.shape[-1]:
            beyond = product(rightbar, _outside(xp, right))
            of_a.append(product(adjoint(xp, right), _over_squares(values, beyond)))
    if rootbar is not None or nullbar is not None:
        inverse = product(adjoint(xp, root), root)
    if rootbar is not None:
        pulled = product(adjoint(xp, root), rootbar)
        of_both.append(product(inverse, product(pulled, null)) - product(pulled, inverse) / 2)
    if nullbar is not None:
        of_both.append(-product(null, product(nullbar, inverse)) - product(inverse, product(nullbar, null)))
    both = sum(of_both[1:], of_both[0]) if of_both else None
    every = [*of_a, *of_both]
    if not every:
        return None, None
    total = sum(every[1:], every[0])
    return (total + adjoint(xp, total)) / 2, both


def _gaps(xp: Any, values: Array) -> Array:
    """1 / (s_i^2 - s_j^2), 0 on the diagonal; inf where singular values coincide, whose vectors have no derivative."""
    first, second = values[..., :, None], values[..., None, :]
    same = eye(xp, values, values.shape[-1]) == 1
    squares = (first - second) * (first + second)
    return xp.where(same, xp.zeros_like(squares), 1 / xp.where(same, xp.ones_like(squares), squares))


def _over_squares(values: Array, x: Array) -> Array:
    return x / (values * values)[..., None]


def _inverse(xp: Any, root: Array, x: Array) -> Array:
    """G+ x."""
    product = linear_algebra(x).product
    return product(adjoint(xp, root), product(root, x))


def _reciprocal(xp: Any, x: Array) -> Array:
    """1 / x, and 0 for 0."""
    nothing = x == 0
    return xp.where(nothing, xp.zeros_like(x), 1 / xp.where(nothing, xp.ones_like(x), x))


def _outside(xp: Any, rows: Array) -> Array:
    """The projection on the complement of orthonormal rows."""
    return eye(xp, rows, rows.shape[-1]) - linear_algebra(rows).product(adjoint(xp, rows), rows)


def _diagonal(xp: Any, x: Array) -> Array:
    """The real part of the diagonal."""
    real = xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x
    return xp.sum(real * eye(xp, real, real.shape[-1]), axis=-1)
