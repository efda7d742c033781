"""The associative functions that `scans` measures: what one combination takes, what elements are, and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqpar import monoids
from seqpar_bench.bench.operations.operands import COMPLEX, HALF, normal, uniform

Array = Any


@dataclass(frozen=True, kw_only=True)
class Monoid:
    """One of `seqpar.monoids`, as it stands in a benchmark."""

    title: str
    """In words, in the plural."""
    combine: Callable[[Any, Any], Any]
    flops: int
    """Of one combination, or 0 where the number says nothing."""
    leaves: int = 1
    element: tuple[int, ...] = ()
    """Axes behind those of a problem's shape."""
    ufunc: Any = None
    """Of NumPy, if it has one."""
    real: bool = False
    """Of real numbers alone?"""
    pointwise: bool = False
    """Is it arithmetic of numbers one by one, as PyTorch's compiler sees it (2.13)? It does not see it in `logaddexp`."""


MONOIDS = {
    "affine": Monoid(title="affine pairs", combine=monoids.affine, flops=3, leaves=2, pointwise=True),
    "add": Monoid(title="sums", combine=monoids.add, flops=1, ufunc=np.add, pointwise=True),
    "logaddexp": Monoid(
        title="log-domain sums", combine=monoids.logaddexp, flops=0, ufunc=np.logaddexp, real=True
    ),
    "quaternion_product": Monoid(
        title="quaternions", combine=monoids.quaternion_product, flops=28, element=(4,), real=True
    ),
    "matmul": Monoid(title="4x4 matrices", combine=monoids.matmul, flops=2 * 4**3, element=(4, 4)),
}


def drawn(monoid: str, shape: tuple[int, ...], axis: int, dtype: str) -> tuple[Array, ...]:
    """Elements whose partial results neither vanish nor grow faster than sums."""
    x = normal(0, shape, dtype)
    if dtype in COMPLEX:
        x = x + 1j * normal(1, shape, dtype)
    if monoid == "affine":
        return _factors(shape, axis, dtype), x
    if monoid == "quaternion_product":
        return (x / np.linalg.norm(x, axis=-1, keepdims=True),)
    if monoid == "matmul":
        return (_rotations(normal(0, shape[:-1], dtype)),)
    return (x,)


def _factors(shape: tuple[int, ...], axis: int, dtype: str) -> Array:
    """Factors whose products up to any step are of size 1/2 to 1, of either sign or any direction.

    The products are what is drawn, for a check sees an error in them only where they have not vanished beside the largest.
    """
    if dtype in HALF:
        # Powers of two: a factor that is rounded once is wrong in all products after it.
        products = np.where(uniform(2, shape, 0.0, 1.0, dtype) < 0.5, np.float32(0.5), np.float32(1.0))
    else:
        products = uniform(2, shape, 0.5, 1.0, dtype)
    if dtype in COMPLEX:
        products = products * np.exp(1j * uniform(3, shape, 0.0, 6.0, dtype))
    else:
        products[normal(3, shape, dtype) < 0] *= -1
    ahead = np.moveaxis(products, axis, 0)
    factors = products.copy()
    np.moveaxis(factors, axis, 0)[1:] /= ahead[:-1]
    return factors


def _rotations(q: Array) -> Array:
    """4 by 4 rotations: what unit quaternions do to others that they are multiplied with."""
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    a, b, c, d = (q[..., i] for i in range(4))
    rows = ((a, -b, -c, -d), (b, a, -d, c), (c, d, a, -b), (d, -c, b, a))
    return np.stack([np.stack(row, -1) for row in rows], -2)
