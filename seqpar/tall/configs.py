"""The knobs of `qr`'s and `lstsq`'s methods on the framework's own linear algebra. A knob of None is found from the problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RowBlocks:
    """Of method "tsqr": blocks of rows are factorised by themselves, their R factors merged up a tree."""

    rows: int | None = None
    """Rows of a block."""
    arity: int | None = None
    """How many R factors one node of the tree merges."""


@dataclass(frozen=True, kw_only=True)
class CertifiedCholesky:
    """Of method "cholesky": how Gram matrices are formed, and what is tried where the certificate fails, before "tsqr"."""

    rows: int | None = None
    """Rows of a block of the Gram matrix, converted at a time."""
    double: bool = True
    """Gram matrices in double precision, where the device has it."""
    stronger: Literal["shifted", "randomised", "nothing"] = "shifted"
    """A shifted Gram matrix, or a random sketch, which needs no double precision for condition up to 1e8 in float32."""
