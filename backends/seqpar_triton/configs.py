"""The knobs of the Triton kernels. None takes what suits the problem and the device at hand."""

from dataclasses import dataclass

from seqpar.dispatch.knobs import knob, powers_of_two


@dataclass(frozen=True, kw_only=True)
class OnePassConfig:
    """A walk over all of time at once, with one lane per sequence, or per step where time lies contiguous."""

    lanes: int | None = knob(None, tries=(None, *powers_of_two(16, 1024)))
    """Sequences of one program, a power of two; where time lies contiguous, steps of one block."""
    unroll: int | None = knob(None, tries=(None, *powers_of_two(1, 32)))
    """Steps whose loads are started together."""
    stages: int | None = knob(None, tries=(None, 1, 2, 3, 4))
    """Blocks of `unroll` steps (or of `lanes` steps) in flight."""
    warps: int | None = knob(None, tries=(None, *powers_of_two(1, 8)))
    """Warps of one program, a power of two."""


@dataclass(frozen=True, kw_only=True)
class WalkConfig(OnePassConfig):
    """The same with time cut into segments."""

    segments: int | None = knob(None, tries=(None, *powers_of_two(2, 1024)), below="time")
    """Segments, walked at once: more parallelism for reading the inputs twice."""


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """A walk of a cell over all of time, with the states of some sequences in registers."""

    rows: int | None = knob(None, tries=(None, *powers_of_two(1, 64)))
    """Sequences of one program, a power of two."""
    warps: int | None = knob(None, tries=(None, *powers_of_two(1, 16)))
    """Warps of one program, a power of two."""


@dataclass(frozen=True, kw_only=True)
class CellShootingConfig(CellConfig):
    """The same with time in chunks that are walked at once, and again until they fit together to the bit."""

    chunk: int | None = knob(None, tries=(None, *powers_of_two(16, 1 << 14)), below="time")
    """Steps of a chunk, rounded up to a multiple of 16."""


@dataclass(frozen=True, kw_only=True)
class TallConfig:
    """Blocks of rows of tall matrices, one program for each, and a tree over their R factors."""

    rows: int | None = knob(None, tries=(None, *powers_of_two(32, 4096)))
    """Rows of a block, a power of two of at least twice the columns."""
    arity: int | None = knob(None, tries=(None, *powers_of_two(2, 32)))
    """R factors that one program merges."""
    warps: int | None = knob(None, tries=(None, *powers_of_two(1, 16)))
    """Warps of one program over a block, a power of two."""
