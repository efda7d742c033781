"""The methods of the CUDA kernels and their knobs. None lets the kernel choose, by the problem and the device at hand."""

from dataclasses import dataclass

from seqpar.dispatch.knobs import knob, powers_of_two


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """Every sequence walked once, from its first step to its last."""

    threads: int | None = knob(None, tries=(None, *powers_of_two(32, 1024)))
    """Threads of a block, a multiple of 32; fewer where their shared memory would not suffice."""
    width: int | None = knob(None, tries=(None, *powers_of_two(1, 16)))
    """Neighbouring numbers that a thread reads at once, a power of two; less where strides or addresses do not allow it."""


@dataclass(frozen=True, kw_only=True)
class ChunkedConfig:
    """Time cut into segments that are walked at once, twice: what each does to a state, then the states themselves."""

    segments: int | None = knob(None, tries=(None, *powers_of_two(2, 1024)), below="time")
    """How many segments, at most: they are of one length, rounded up to what a block of threads takes at once."""
    threads: int | None = knob(None, tries=(None, *powers_of_two(32, 1024)))
    """Threads of a block, a multiple of 32; fewer where their shared memory would not suffice."""
    width: int | None = knob(None, tries=(None, *powers_of_two(1, 16)))
    """Neighbouring numbers that a thread reads at once, a power of two; less where strides or addresses do not allow it."""


Config = SequentialConfig | ChunkedConfig
