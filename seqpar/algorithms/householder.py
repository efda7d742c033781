"""Householder QR in the array API alone, for libraries without `linalg`: a loop over columns, batched over leading axes.

A reflection I - 2 v v^H / (v^H v) takes column j, from row j on, to a multiple of e_j. Nothing is written in place, so
the code traces; a zero column gives v = 0, which is the identity.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from seqpar.algorithms.matrices import adjoint
from seqpar.algorithms.signs import over, phases

Array = Any

__all__ = ["householder_qr"]


def householder_qr(xp: Any, a: Array) -> tuple[Array, Array]:
    """Reduced (q, r) of a (..., m, n), any shape, r with whatever signs."""
    m, n = a.shape[-2:]
    k = min(m, n)
    rows = xp.arange(m, device=device(a))[:, None]
    r, reflections = a, []
    for j in range(min(m - 1, n)):
        v = _reflection(xp, xp.where(rows >= j, r[..., j : j + 1], xp.zeros_like(r[..., j : j + 1])), j)
        reflections.append(v)
        r = _reflect(xp, v, r)
    q = xp.broadcast_to(xp.astype(rows == rows[:k, 0], a.dtype), (*a.shape[:-1], k))
    for v in reversed(reflections):
        q = _reflect(xp, v, q)
    return q, xp.triu(r[..., :k, :])


def _reflection(xp: Any, x: Array, j: int) -> Array:
    """v with |v|^2 = 2 that takes x, zero above row j, to a multiple of e_j; 0 where x is."""
    largest = xp.max(xp.abs(x), axis=-2, keepdims=True)  # squares overflow above 1e19 in float32
    x = over(xp, x, xp.where(largest == 0, xp.ones_like(largest), largest))
    head = x[..., j : j + 1, :]
    size = xp.abs(head)
    norm = xp.sqrt(xp.sum(xp.abs(x) ** 2, axis=-2, keepdims=True))
    phase = phases(xp, head)  # away from zero, so that nothing cancels
    first = xp.arange(x.shape[-2], device=device(x))[:, None] == j
    v = xp.where(first, head + phase * xp.astype(norm, x.dtype), x)
    half = xp.sqrt(norm * (norm + size))  # |v|^2 = 2 norm (norm + |head|)
    return over(xp, v, xp.where(half == 0, xp.ones_like(half), half))


def _reflect(xp: Any, v: Array, x: Array) -> Array:
    return x - xp.matmul(v, xp.matmul(adjoint(xp, v), x))
