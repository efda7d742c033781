"""The numbers that problems of recurrences and scans are made from: random, always the same, quickly drawn in any size.

Called by `recurrence`, `linear`, `matrices`, `scans` and `monoids`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any

HALF = ("bfloat16", "float16")
COMPLEX = ("complex64", "complex128")
DRAWN = 16_777_213
"""Random numbers that are drawn, a prime: beyond, they come again, never in the same rows. To draw more takes too long."""


def uniform(seed: int, shape: tuple[int, ...], low: float, high: float, dtype: str) -> Array:
    """Real random numbers, always the same, with single or double precision in them."""
    kind = np.float64 if dtype in ("float64", "complex128") else np.float32
    size = math.prod(shape)
    drawn = np.random.default_rng(seed).random(min(size, DRAWN), kind)
    drawn *= kind(high - low)
    drawn += kind(low)
    return (drawn if drawn.size == size else np.resize(drawn, size)).reshape(shape)


def normal(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """The same, normally distributed."""
    kind = np.float64 if dtype in ("float64", "complex128") else np.float32
    size = math.prod(shape)
    drawn = np.random.default_rng(seed).standard_normal(min(size, DRAWN), kind)
    return (drawn if drawn.size == size else np.resize(drawn, size)).reshape(shape)


def as_dtype(x: Array, dtype: str) -> Array:
    """In the dtype of a problem; bfloat16, which NumPy has not, in float32 without the digits that it lacks."""
    if dtype != "bfloat16":
        return x.astype(dtype, copy=False)
    bits = np.asarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)
