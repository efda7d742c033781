"""The knobs of the Triton kernels. None takes what suits the problem and the device at hand."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OnePassConfig:
    """A walk over all of time at once, with one lane per sequence, or per step where time lies contiguous."""

    lanes: int | None = None
    """Sequences of one program, a power of two; where time lies contiguous, steps of one block."""
    unroll: int | None = None
    """Steps whose loads are started together."""
    stages: int | None = None
    """Blocks of `unroll` steps (or of `lanes` steps) in flight."""
    warps: int | None = None
    """Warps of one program, a power of two."""


@dataclass(frozen=True, kw_only=True)
class WalkConfig(OnePassConfig):
    """The same with time cut into segments."""

    segments: int | None = None
    """Segments, walked at once: more parallelism for reading the inputs twice."""


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """A walk of a cell over all of time, with the states of some sequences in registers."""

    rows: int | None = None
    """Sequences of one program, a power of two."""
    warps: int | None = None
    """Warps of one program, a power of two."""


@dataclass(frozen=True, kw_only=True)
class CellShootingConfig(CellConfig):
    """The same with time in chunks that are walked at once, and again until they fit together to the bit."""

    chunk: int | None = None
    """Steps of a chunk, rounded up to a multiple of 16."""


@dataclass(frozen=True, kw_only=True)
class TallConfig:
    """Blocks of rows of tall matrices, one program for each, and a tree over their R factors."""

    rows: int | None = None
    """Rows of a block, a power of two of at least twice the columns."""
    arity: int | None = None
    """R factors that one program merges."""
    warps: int | None = None
    """Warps of one program over a block, a power of two."""
