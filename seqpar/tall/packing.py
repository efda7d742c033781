"""How Householder vectors of a tall matrix lie in memory: where each block of rows starts, and what its panels are made of.

Everything follows from m >= n >= 1 alone, never from a processor or its threads, so that what one machine packs another reads.

Rows are cut into parts of PART rows or more, all but the last of them whole blocks; parts can be factorised side by side.
Each is a chain: its first block, `head` rows, is factorised by itself, and each block of BLOCK rows after it (the last one may
have fewer) together with R on top, [R; block]. Then the R factors of parts 1, 2, ... are merged into that of part 0, each as
one more block of n rows under R.

    v         (..., rows, n)                row-major: the m rows of the blocks in their place, then n rows of every merge
    t         (..., blocks, panels, RECORD)  one record per panel of PANEL columns: the chains of parts 0, 1, ..., then merges
    signs     (..., n)                      1 or -1; NaN where the matrix is not finite

A record is a triangle T by columns (number (i, j) at PANEL * j + i, zeros below the diagonal) and then a factor d for each
column; columns that a last panel lacks are zeros. With X the columns of v that belong to block and panel,

    V = X diag(d)                       H = I - V T V^T

In a head, panel p has its first pivot in row PANEL * p, and X holds zeros above the pivots. In every other block V has rows of
the identity on top of it, rows PANEL * p and the following ones of R. Q is the product of all H in the order of the records
(for a part: in its own rows), of the first n columns of the identity, times diag(signs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PANEL = 16
"""Columns whose reflections are one product."""
RECORD = PANEL * PANEL + PANEL
BLOCK = 128
"""Rows of a block: 64 columns of float32 fill a first-level cache of 32 KB."""
PART = 16384
"""Least rows of a part, where there are several. A merge of 64 columns is half a block, of 128 in a part."""
MOST_COLUMNS = 256


class Block(NamedTuple):
    """Rows of v that are factorised at once."""

    start: int
    """First of its rows in v."""
    rows: int
    on_top: bool
    """Is R on top of it? Not in a head."""


class Packing(NamedTuple):
    """The geometry for m rows and n columns."""

    m: int
    n: int

    @property
    def head(self) -> int:
        """Rows of the first block of a part: whole blocks, at least n rows; all there are where m is less."""
        return min(self.m, -(-self.n // BLOCK) * BLOCK)

    @property
    def parts(self) -> int:
        return max(1, self.m // PART)

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def rows(self) -> int:
        """Rows of v."""
        return self.m + (self.parts - 1) * self.n

    @property
    def blocks(self) -> int:
        """Blocks of all chains, and merges."""
        return self.first_block(self.parts) + self.parts - 1

    def start(self, part: int) -> int:
        """First row of a part; m for the part after the last."""
        return self.m if part == self.parts else BLOCK * (part * (self.m // BLOCK) // self.parts)

    def first_block(self, part: int) -> int:
        """Which record a part's chain begins with; for the part after the last, the first merge."""
        return -(-self.start(part) // BLOCK) - part * (-(-self.head // BLOCK) - 1)

    def chain(self, part: int) -> Iterator[Block]:
        """The blocks of a part."""
        start, stop = self.start(part), self.start(part + 1)
        yield Block(start, self.head, False)
        for row in range(start + self.head, stop, BLOCK):
            yield Block(row, min(BLOCK, stop - row), True)

    def merge(self, part: int) -> Block:
        """The block of n rows that is the R factor of a part, 1 or a later one."""
        return Block(self.m + (part - 1) * self.n, self.n, True)
