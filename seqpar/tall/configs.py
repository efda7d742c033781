"""The knobs of `qr`'s and `lstsq`'s methods on the framework's own linear algebra. A knob of None is found from the problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqpar.dispatch.knobs import knob, powers_of_two


@dataclass(frozen=True, kw_only=True)
class RowBlocks:
    """Of method "tsqr": blocks of rows are factorised by themselves, their R factors merged up a tree."""

    rows: int | None = knob(None, tries=(None, *powers_of_two(256, 1 << 17)), below="time")
    """Rows of a block."""
    arity: int | None = knob(None, tries=(None, *powers_of_two(2, 64)))
    """How many R factors one node of the tree merges."""


@dataclass(frozen=True, kw_only=True)
class CertifiedCholesky:
    """Of method "cholesky": how Gram matrices are formed, and what is tried where the certificate fails, before "tsqr"."""

    rows: int | None = knob(None, tries=(None, *powers_of_two(1 << 11, 1 << 20)), below="time")
    """Rows of a block of the Gram matrix, converted at a time."""
    double: bool = knob(True, tries=(True, False), ordered=False)
    """Gram matrices in double precision, where the device has it."""
    stronger: Literal["shifted", "randomised", "nothing"] = knob(
        "shifted", tries=("shifted", "randomised"), ordered=False
    )
    """A shifted Gram matrix, or a random sketch, which needs no double precision for condition up to 1e8 in float32."""
