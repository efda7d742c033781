"""One sign convention for every factorisation: the diagonal of R is real and not negative.

A QR factorisation of full rank is unique up to the phases of the rows of R, so this makes answers comparable across
methods, libraries, trees and block sizes.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import device

Array = Any

__all__ = ["diagonal", "positive_diagonal"]


def diagonal(xp: Any, r: Array) -> Array:
    """r_jj of (..., k, n), k <= n; the standard has it in an optional extension only."""
    return xp.sum(xp.where(_on_diagonal(xp, r), r, xp.zeros_like(r)), axis=-1)


def positive_diagonal(xp: Any, q: Array | None, r: Array) -> tuple[Array | None, Array]:
    """(q D^H, D r), D = diag(conj(sgn r_jj)) and sgn(0) = 1, for q (..., m, k) and r (..., k, n), square or wide."""
    here = diagonal(xp, r)
    if not xp.isdtype(r.dtype, "complex floating"):
        minus = here < 0
        r = xp.where(minus[..., :, None], 0 - r, r)  # zeros below the diagonal stay 0, not -0
        return (None if q is None else xp.where(minus[..., None, :], -q, q)), r
    size = xp.abs(here)
    nonzero = size != 0
    phase = xp.where(
        nonzero, here / xp.astype(xp.where(nonzero, size, xp.ones_like(size)), r.dtype), xp.ones_like(here)
    )
    r = xp.conj(phase)[..., :, None] * r
    r = xp.where(_on_diagonal(xp, r), xp.astype(size, r.dtype)[..., :, None], r)  # imaginary part exactly 0
    return (None if q is None else q * phase[..., None, :]), r


def _on_diagonal(xp: Any, r: Array) -> Array:
    k, n = r.shape[-2:]
    return xp.arange(k, device=device(r))[:, None] == xp.arange(n, device=device(r))
