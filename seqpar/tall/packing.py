"""How Householder vectors of a tall matrix lie in memory: where each block of rows starts, and what its panels are made of.

Everything follows from m >= n >= 1 and the type, never from a processor or its threads, so that what one machine packs another
reads. Rows are cut into parts that can be factorised side by side, all about as long and all but the last of whole blocks.
Each part is a chain: its first block, the head, is factorised by itself, and each block after it (the last one may have fewer
rows) together with R on top, [R; block]. Then the R factors of parts 1, 2, ... are merged into that of part 0, each as one more
block of n rows under R.

    v         (..., rows, n)           the m rows of the blocks, then n rows for every merge; each block by columns, without gaps
    t         (..., parts, records, panels, RECORD)      of each part a record per block and panel, the last ones of its merge
    signs     (..., n)                 1 or -1; NaN where the matrix is not finite

Panels are PANEL columns. A record is a triangle T by columns (number (i, j) at PANEL * j + i, zeros below the diagonal) and
then a factor d for each column; columns that the last panel lacks are zeros. With X those numbers of a block that belong to a
panel,

    V = X diag(d)                       H = I - V T V^T

In a head, pivots of panel p are rows PANEL * p and the following ones: X holds zeros above each pivot among these rows, and the
rows before them are not looked at. In every other block V has rows of the identity on top of it, where those rows of R are.
Neither records that a part does not need, because another one has a block more, nor the merge of part 0 are looked at. Q is the
product of all H in the order in which they were found, times the first n columns of the identity, times diag(signs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PANEL = 16
"""Columns whose reflections are one product."""
RECORD = PANEL * PANEL + PANEL
BLOCKS = {"float32": 256, "float64": 256}
"""Rows of a block: half of those take up to a tenth longer, and a panel of float64 fills a first-level cache of 32 KB."""
PART, MOST_PARTS = 8192, 32
"""Least rows of a part, more where there would be more parts than these: merges come one after the other."""
MOST_COLUMNS = 256


class Block(NamedTuple):
    """Rows of v that are factorised at once."""

    start: int
    """First of its rows in v."""
    rows: int
    on_top: bool
    """Is R on top of it? Not in a head."""
    part: int
    record: int
    """Where its records are: t[..., part, record, :, :]."""


class Packing(NamedTuple):
    """The geometry for m rows and n columns."""

    m: int
    n: int
    dtype: str

    @property
    def block(self) -> int:
        """Rows of a block but the head."""
        return BLOCKS[self.dtype]

    @property
    def head(self) -> int:
        """Rows of the first block of a part: at least n."""
        return min(self.m, max(self.block, -(-self.n // PANEL) * PANEL))

    @property
    def parts(self) -> int:
        least = max(PART, -(-self.m // (MOST_PARTS * self.block)) * self.block)
        return max(1, self.m // least)

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def rows(self) -> int:
        """Rows of v."""
        return self.m + (self.parts - 1) * self.n

    @property
    def records(self) -> int:
        """Blocks of the longest part, the last one, and one for a merge where there is any."""
        longest = self.m - self.start(self.parts - 1)
        return 1 + -(-(longest - self.head) // self.block) + (self.parts > 1)

    def start(self, part: int) -> int:
        """First row of a part; m for the part after the last."""
        return self.m if part == self.parts else part * (self.m // self.block) // self.parts * self.block

    def chain(self, part: int) -> Iterator[Block]:
        """The blocks of a part."""
        start, stop = self.start(part), self.start(part + 1)
        yield Block(start, self.head, False, part, 0)
        for i, row in enumerate(range(start + self.head, stop, self.block)):
            yield Block(row, min(self.block, stop - row), True, part, i + 1)

    def merge(self, part: int) -> Block:
        """The block of n rows that is the R factor of a part, 1 or a later one."""
        return Block(self.m + (part - 1) * self.n, self.n, True, part, self.records - 1)
