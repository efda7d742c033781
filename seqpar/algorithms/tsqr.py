"""QR of a tall matrix by blocks of rows and a tree over their R factors (TSQR), in the array API alone.

Blocks are factorised by themselves, as one batch; their R factors, stacked `arity` at a time, are factorised again until one
is left. Q is the product of the levels' block-diagonal factors, each explicit and small, and is applied top down. The answer
does not depend on blocks or arity but for rounding, since the diagonal of R is made non-negative.

Demmel, Grigori, Hoemmen, Langou: Communication-optimal parallel and sequential QR and LU factorizations, 2012.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from array_api_compat import device

from seqpar.algorithms.matrices import adjoint
from seqpar.algorithms.signs import positive_diagonal

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra

Array = Any
Levels = tuple[Array, ...]

__all__ = ["apply", "apply_adjoint", "explicit", "factors", "nan_unless_finite", "r_of"]


def r_of(xp: Any, la: LinearAlgebra, a: Array, *, rows: int, arity: int) -> Array:
    """The R alone, (..., min(m, n), n), of a (..., m, n). No Q is formed; NaN all over where a is not finite."""
    m, n = a.shape[-2:]
    if m <= max(rows, n):
        r = la.r(a)
    else:
        r = la.r(_blocks(xp, a, max(rows, n)))
        while r.shape[-3] > 1:
            r = la.r(_nodes(xp, r, arity))
        r = r[..., 0, :, :]
    _, r = positive_diagonal(xp, None, r)
    return nan_unless_finite(xp, None, r)[1]


def factors(xp: Any, la: LinearAlgebra, a: Array, *, rows: int, arity: int) -> tuple[Levels, Array]:
    """(levels, r): the leaves' factors (..., blocks, rows, p), then those of nodes (..., nodes, arity * n, n), and r."""
    m, n = a.shape[-2:]
    q, r = la.qr(a[..., None, :, :] if m <= max(rows, n) else _blocks(xp, a, max(rows, n)))
    levels = [q]
    while r.shape[-3] > 1:
        q, r = la.qr(_nodes(xp, r, arity))
        levels.append(q)
    top, r = positive_diagonal(xp, levels[-1], r)
    # A factor of NaN at the top makes every row NaN.
    top, r = nan_unless_finite(xp, top, r)
    return (*levels[:-1], top), r[..., 0, :, :]


def explicit(xp: Any, la: LinearAlgebra, levels: Levels, m: int) -> Array:
    """Q, (..., m, p)."""
    return _down(xp, la, levels[:-1], levels[-1], m)


def apply(xp: Any, la: LinearAlgebra, levels: Levels, c: Array, m: int) -> Array:
    """Q c, (..., m, k), for c (..., p, k)."""
    return _down(xp, la, levels[:-1], la.product(levels[-1], c[..., None, :, :]), m)


def apply_adjoint(xp: Any, la: LinearAlgebra, levels: Levels, x: Array) -> Array:
    """Q^H x, (..., p, k), for x (..., m, k)."""
    c = la.product(adjoint(xp, levels[0]), _blocks(xp, x, levels[0].shape[-2]))
    for level in levels[1:]:
        c = la.product(adjoint(xp, level), _nodes(xp, c, level.shape[-2] // c.shape[-2]))
    return c[..., 0, :, :]


def _down(xp: Any, la: LinearAlgebra, levels: Levels, c: Array, m: int) -> Array:
    """From the rows of a node (..., nodes, arity * n, k) to those of the leaves below it, through the levels under it."""
    for level in reversed(levels):
        *lead, nodes, stacked, k = c.shape
        blocks, n = level.shape[-3], level.shape[-1]
        c = xp.reshape(c, (*lead, nodes * stacked // n, n, k))
        c = la.product(level, c[..., :blocks, :, :])
    *lead, blocks, rows, k = c.shape
    return xp.reshape(c, (*lead, blocks * rows, k))[..., :m, :]


def _blocks(xp: Any, a: Array, rows: int) -> Array:
    """(..., blocks, rows, n), the last one filled up with zero rows."""
    *lead, m, n = a.shape
    return xp.reshape(_padded(xp, a, -m % rows), (*lead, -(-m // rows), rows, n))


def _nodes(xp: Any, r: Array, arity: int) -> Array:
    """`arity` blocks stacked: (..., blocks, n, k) to (..., nodes, arity * n, k)."""
    *lead, blocks, n, k = r.shape
    arity = min(arity, blocks)
    nodes = -(-blocks // arity)
    r = xp.reshape(r, (*lead, blocks * n, k))
    return xp.reshape(_padded(xp, r, (nodes * arity - blocks) * n), (*lead, nodes, arity * n, k))


def _padded(xp: Any, a: Array, more: int) -> Array:
    if not more:
        return a
    return xp.concat(
        [a, xp.zeros((*a.shape[:-2], more, a.shape[-1]), dtype=a.dtype, device=device(a))], axis=-2
    )


def nan_unless_finite(xp: Any, q: Array | None, r: Array) -> tuple[Array | None, Array]:
    """(q, r), all NaN in matrices whose r is not finite everywhere: libraries differ in how far a NaN spreads."""
    finite = xp.all(xp.isfinite(r), axis=(-2, -1), keepdims=True)
    r = xp.where(finite, r, xp.full_like(r, xp.nan))
    return (None if q is None else xp.where(finite, q, xp.full_like(q, xp.nan))), r
