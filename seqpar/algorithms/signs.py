"""One sign convention for every factorisation: the diagonal of R is real and not negative.

A QR factorisation of full rank is unique up to the phases of the rows of R, so this makes answers comparable across
methods, libraries, trees and block sizes.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import device

Array = Any

__all__ = ["diagonal", "over", "phases", "positive_diagonal"]


def diagonal(xp: Any, r: Array) -> Array:
    """r_jj of (..., k, n), k <= n; the standard has it in an optional extension only."""
    return xp.sum(xp.where(_on_diagonal(xp, r), r, xp.zeros_like(r)), axis=-1)


def positive_diagonal(xp: Any, q: Array | None, r: Array) -> tuple[Array | None, Array]:
    """(q D^H, D r), D = diag(conj(sgn r_jj)) and sgn(0) = 1, for q (..., m, k) and r (..., k, n), square or wide."""
    here = diagonal(xp, r)
    if xp.isdtype(r.dtype, "complex floating"):
        phase = phases(xp, here)
        r = xp.conj(phase)[..., :, None] * r
        q = None if q is None else q * phase[..., None, :]
    else:
        minus = here < 0
        r = xp.where(minus[..., :, None], 0 - r, r)  # zeros below the diagonal stay 0, not -0
        q = None if q is None else xp.where(minus[..., None, :], -q, q)
    # Its imaginary part exactly 0, and no zero with a sign.
    size = xp.astype(xp.abs(here), r.dtype, copy=False)
    return q, xp.where(_on_diagonal(xp, r), size[..., :, None], r)


def phases(xp: Any, z: Array) -> Array:
    """z / |z|, 1 for 0; of length 1 for subnormal numbers too, whose |z| has few bits."""
    size = xp.abs(z)
    one = xp.ones_like(size)
    if not xp.isdtype(z.dtype, "complex floating"):
        return xp.where(z < 0, -one, one)
    lift = 2.0 ** round(-0.8 * math.log2(float(xp.finfo(z.dtype).smallest_normal)))
    z = z * xp.where(size < 1 / lift, lift * one, one)
    size = xp.abs(z)
    return xp.where(size == 0, xp.ones_like(z), over(xp, z, xp.where(size == 0, one, size)))


def over(xp: Any, z: Array, size: Array) -> Array:
    """z / size for a real size. The quotient of two complex numbers forms 1 / size in some libraries, which may overflow."""
    if not xp.isdtype(z.dtype, "complex floating"):
        return z / size
    real, imag = (xp.astype(part / size, z.dtype) for part in (xp.real(z), xp.imag(z)))
    return real + 1j * imag


def _on_diagonal(xp: Any, r: Array) -> Array:
    k, n = r.shape[-2:]
    return xp.arange(k, device=device(r))[:, None] == xp.arange(n, device=device(r))
