"""Products of small matrices in plain arithmetic, in the precision of their elements.

Called by the algorithms and the rules of matrix recurrences. Never a library product: those obey precision switches (TF32,
bfloat16 passes) that belong to the user, and a product of 3 significant digits ruins a recurrence.
"""

from __future__ import annotations

from typing import Any

Array = Any

__all__ = ["matrix_transpose", "product"]


def product(xp: Any, x: Array, y: Array) -> Array:
    """x @ y for x: (..., m, p) and y: (..., p, k); the leading axes broadcast."""
    contracted = x.shape[-1]
    if y.shape[-1] == 1 or contracted == 0:
        # One or no column: a sum along rows of x. The empty sum has the right shape and is zero.
        return xp.sum(x[..., :, :, None] * y[..., None, :, :], axis=-2)
    total = x[..., :, 0:1] * y[..., 0:1, :]
    for i in range(1, contracted):
        total = total + x[..., :, i : i + 1] * y[..., i : i + 1, :]
    return total


def matrix_transpose(xp: Any, x: Array) -> Array:
    """The last two axes exchanged, as a view where the library has views."""
    return xp.matrix_transpose(x)
