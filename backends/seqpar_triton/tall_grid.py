"""How tall matrices are cut into what single programs hold in registers."""

from typing import NamedTuple

from seqpar_triton.configs import TallConfig

MOST_COLUMNS = 64
"""Of a tile: with more, a block of twice as many rows does not fit."""
MOST_ROWS = 1024
"""Rows of a block that is a matrix of its own."""
LEAF_ROWS = 256
"""Rows of a block of a larger one. Not measured: every column costs a program two sums over its rows, whatever their number."""
MOST_ARITY = 8
WORDS_PER_THREAD = 32
"""Words of 32 bits of a tile in a thread's registers: with twice as many most kernels take more than 128 registers, and 16 warps,
have no more."""
MOST_WARPS = 16
MOST_NUMBERS = {False: 1 << 15, True: 1 << 13}
"""Numbers of a tile, by whether they are double: what 16 warps hold without spilling more than some dozen bytes."""


class Tile(NamedTuple):
    """What one program holds."""

    rows: int
    columns: int
    warps: int


class Grid(NamedTuple):
    """How matrices are cut."""

    leaf: Tile
    blocks: int
    """Leaves of one matrix."""
    node: Tile
    arity: int


def power_of_two(n: int) -> int:
    """The smallest one that is not less."""
    return 1 << max(0, n - 1).bit_length()


def tile_of(rows: int, columns: int, wide: bool, warps: int | None = None) -> Tile:
    """The tile of so many rows, and warps for it."""
    across = power_of_two(columns)
    rows = max(power_of_two(rows), across)
    words = rows * across * (2 if wide else 1)
    return Tile(rows, across, warps or max(1, min(MOST_WARPS, words // (32 * WORDS_PER_THREAD))))


def grid_for(config: TallConfig, rows: int, columns: int, wide: bool) -> Grid:
    """The grid for matrices of so many rows and columns."""
    across = power_of_two(columns)
    most = MOST_NUMBERS[wide] // across
    held = config.rows
    if held is None:
        held = min(MOST_ROWS, most)
        held = held if rows <= held else max(2 * across, min(LEAF_ROWS, held))
    arity = config.arity or max(2, min(MOST_ARITY, most // columns))
    return Grid(
        leaf=tile_of(min(rows, held), columns, wide, config.warps),
        blocks=-(-rows // held),
        node=tile_of(arity * columns, columns, wide, config.warps),
        arity=arity,
    )


def too_large(tile: Tile, wide: bool) -> bool:
    """Is a tile more than the registers of a program hold, with 32 warps?"""
    return tile.rows * tile.columns > 2 * MOST_NUMBERS[wide]
