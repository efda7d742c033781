"""The associative functions that `scans` measures: what their elements are and what one combination takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqpar import monoids


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
