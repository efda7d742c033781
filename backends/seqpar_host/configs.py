"""The methods of the host kernels and their knobs."""

from dataclasses import dataclass

from seqpar.dispatch.knobs import knob, powers_of_two


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """Every row walked in order, to the bit."""


@dataclass(frozen=True, kw_only=True)
class ChunkedConfig:
    """Time cut into chunks that are walked at once, for a few long rows on four cores or more."""

    chunk: int = knob(1 << 16, tries=powers_of_two(1 << 10, 1 << 20), below="time")


@dataclass(frozen=True, kw_only=True)
class CellShootingConfig:
    """Chunks of so many steps, walked at once and corrected to the bit.

    None: as the beginning of each sequence shows how fast it forgets where it started, or in order if it does not.
    """

    chunk: int | None = knob(None, tries=(None, *powers_of_two(8, 1 << 14)), below="time")
