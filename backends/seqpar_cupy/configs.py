"""The methods of the CUDA kernels and their knobs. None lets the kernel choose, by the problem and the device at hand."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """Every sequence walked once, from its first step to its last."""

    threads: int | None = None
    """Threads of a block, a multiple of 32; fewer where their shared memory would not suffice."""
    width: int | None = None
    """Neighbouring numbers that a thread reads at once, a power of two; less where strides or addresses do not allow it."""


@dataclass(frozen=True, kw_only=True)
class ChunkedConfig:
    """Time cut into segments that are walked at once, twice: what each does to a state, then the states themselves."""

    segments: int | None = None
    """How many segments, at most: they are of one length, rounded up to what a block of threads takes at once."""
    threads: int | None = None
    """Threads of a block, a multiple of 32; fewer where their shared memory would not suffice."""
    width: int | None = None
    """Neighbouring numbers that a thread reads at once, a power of two; less where strides or addresses do not allow it."""


Config = SequentialConfig | ChunkedConfig
