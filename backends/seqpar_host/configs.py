"""The methods of the host kernels and their knobs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """Every row walked in order, to the bit."""


@dataclass(frozen=True, kw_only=True)
class ChunkedConfig:
    """Time cut into chunks that are walked at once, for a few long rows on four cores or more."""

    chunk: int = 1 << 16
