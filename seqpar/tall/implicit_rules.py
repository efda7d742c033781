"""Derivatives of products with Q through the factorisation, by products with Q alone. Called by `implicit_operations`.

In the words of `seqpar.tall.rules`, dQ = dA R^-1 - Q U with U = lower(C + C^H)^H and C = Q^H dA R^-1, so

    y = Q x         dy = dA (R^-1 x) + Q (dx - U x)
    z = Q^H x       dz = R^-H (dA^H x) - U^H z + Q^H dx

and backwards Qbar is a product of few columns, Qbar = tall small^H, which is ybar x^H for y and x zbar^H for z:

    M = -small (Q^H tall)^H             Abar = tall (R^-1 small)^H + Q (lower(M) + lower(M)^H) R^-H

Where m < n, Q is that of the first m columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.algorithms.matrices import adjoint
from seqpar.dispatch.problem import Array
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.rules import from_lower, inverse_of, lower_of


def product_jvp(
    xp: Any, spec: Any, operands: Sequence[Any], da: Array | None, dx: Array | None, result: Array, solve: Any
) -> Array | None:
    """The tangent of y = Q x or Q^H x from those of a and x; operands are (a, r, first, second, signs, x)."""
    *factors, x = operands

    def times(y: Array, flipped: bool) -> Array:
        found: Array = solve(spec._replace(adjoint=flipped), *factors, y)[0]
        return found

    moved = None if dx is None else times(dx, spec.adjoint)
    if da is None:
        return moved
    r = operands[1]
    product, p = linear_algebra(r).product, r.shape[-2]
    da, inverse = da[..., :p], inverse_of(xp, r[..., :p])
    c = product(times(da, True), inverse)
    low = lower_of(xp, c + adjoint(xp, c))
    if spec.adjoint:
        turned = product(adjoint(xp, inverse), product(adjoint(xp, da), x)) - product(low, result)
    else:
        turned = product(da, product(inverse, x)) - times(product(adjoint(xp, low), x), False)
    return turned if moved is None else turned + moved


def product_vjp(
    xp: Any,
    spec: Any,
    operands: Sequence[Any],
    result: Array,
    ybar: Array,
    wanted: tuple[bool, bool],
    solve: Any,
) -> tuple[Array | None, Array | None]:
    """The cotangents of a and x that are wanted, with leading axes at full size."""
    a, r, *factors, x = operands
    if not wanted[0]:
        a = r = None

    def times(y: Array, flipped: bool) -> Array:
        found: Array = solve(spec._replace(adjoint=flipped), a, r, *factors, y)[0]
        return found

    xbar = times(ybar, not spec.adjoint) if wanted[1] or (wanted[0] and not spec.adjoint) else None
    if not wanted[0]:
        return None, xbar
    tall, small, through = (x, ybar, result) if spec.adjoint else (ybar, x, xbar)
    product, p = linear_algebra(r).product, r.shape[-2]
    inverse = inverse_of(xp, r[..., :p])
    m = -product(small, adjoint(xp, through))
    abar = product(tall, adjoint(xp, product(inverse, small)))
    abar = abar + times(product(from_lower(xp, m), adjoint(xp, inverse)), False)
    if p < r.shape[-1]:
        rest = xp.zeros_like(abar[..., :1])
        abar = xp.concat([abar, xp.broadcast_to(rest, (*abar.shape[:-1], r.shape[-1] - p))], axis=-1)
    return abar, xbar if wanted[1] else None
