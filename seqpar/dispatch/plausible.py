"""Numbers as they are in use, for operands of which only shape and dtype are known: made by operations for the tuner.

What a kernel computes with decides how fast it is: states that overflow, subnormal numbers and masks of another density all
take other times. `random` is a generator of NumPy everywhere.
"""

from __future__ import annotations

from typing import Any

from seqpar.dispatch.operation import Abstract

DOUBLE = ("float64", "complex128")


def normal(random: Any, meta: Abstract) -> Any:
    """Of the standard normal distribution, real or complex."""
    kind = "float64" if meta.dtype in DOUBLE else "float32"
    numbers = random.standard_normal(meta.shape, dtype=kind)
    if meta.dtype.startswith("complex"):
        return (numbers + 1j * random.standard_normal(meta.shape, dtype=kind)).astype(meta.dtype)
    return numbers


def between(random: Any, meta: Abstract, low: float, high: float) -> Any:
    """Uniform between two numbers; of complex numbers the modulus is, and the phase is any."""
    kind = "float64" if meta.dtype in DOUBLE else "float32"
    numbers = random.random(meta.shape, dtype=kind) * (high - low) + low
    if meta.dtype.startswith("complex"):
        phase = random.random(meta.shape, dtype=kind) * 6.283185307179586
        import numpy as np

        return (numbers * np.exp(1j * phase)).astype(meta.dtype)
    return numbers


def marks(random: Any, meta: Abstract) -> Any:
    """True about once in 128 places: sequences of such lengths, packed one behind the other.

    Also in the first two places in memory and in the last one: a mark at the very start, one right behind another, and one at
    the end of everything are what wrong kernels forget.
    """
    found = random.random(meta.shape, dtype="float32") < 1 / 128
    found.reshape(-1)[:2] = True
    found.reshape(-1)[-1:] = True
    return found


def triangular(random: Any, meta: Abstract) -> Any:
    """An R factor of about (4 n, n) normal numbers: upper triangular, its diagonal positive and away from zero."""
    import numpy as np

    rows, columns = meta.shape[-2:]
    numbers = np.triu(normal(random, meta))
    diagonal = np.arange(min(rows, columns))
    numbers[..., diagonal, diagonal] = 2 * columns**0.5 + np.abs(numbers[..., diagonal, diagonal])
    return numbers
