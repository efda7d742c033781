"""Products of small matrices in plain arithmetic, in the precision of their elements.

Called by the algorithms and the rules of matrix recurrences. Never a library product: those obey precision switches (TF32,
bfloat16 passes) that belong to the user, and a product of 3 significant digits ruins a recurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from array_api_compat import device

Array = Any

__all__ = ["adjoint", "conjugate", "eye", "matrix_transpose", "product", "product_by_factors"]


def product(xp: Any, x: Array, y: Array) -> Array:
    """x @ y for x: (..., m, p) and y: (..., p, k); the leading axes broadcast."""
    return product_by_factors(xp, (x,), y)


def product_by_factors(xp: Any, factors: Sequence[Array], y: Array) -> Array:
    """x @ y where every element of x is a product of numbers that y's are multiplied by one after the other."""
    contracted = y.shape[-2]
    if y.shape[-1] == 1 or contracted == 0:
        # Sums along the rows of x in one piece. An empty sum has the right shape and is zero.
        terms = y[..., None, :, :]
        for x in factors:
            terms = x[..., :, :, None] * terms
        return xp.sum(terms, axis=-2)
    total: Any = 0.0
    for i in range(contracted):
        term = y[..., i : i + 1, :]
        for x in factors:
            term = x[..., :, i : i + 1] * term
        total = term if i == 0 else total + term
    return total


def matrix_transpose(xp: Any, x: Array) -> Array:
    """The last two axes exchanged, as a view where the library has views."""
    return xp.matrix_transpose(x)


def adjoint(xp: Any, x: Array) -> Array:
    """The conjugate transpose."""
    return conjugate(xp, xp.matrix_transpose(x))


def conjugate(xp: Any, x: Array) -> Array:
    """The complex conjugate, as a view where the library has such views."""
    if not xp.isdtype(x.dtype, "complex floating"):
        return x
    # PyTorch's namespace has conj_physical for it, which copies and has no batching rule; its arrays' own is a view.
    own = getattr(x, "conj", None)
    return xp.conj(x) if own is None else own()


def eye(xp: Any, like: Array, n: int, dtype: Any = None) -> Array:
    """The n x n identity on the device of `like`, and of its dtype if no other is given."""
    return xp.eye(n, dtype=like.dtype if dtype is None else dtype, device=device(like))
