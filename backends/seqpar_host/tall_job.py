"""What a kernel of tall-skinny QR is compiled for, and the words that it reads.

A kernel is a C function of one integer, the address of its words; the first word says which step on a block of rows is
wanted. A block lies in scratch by columns: number (row, column) at `row + LEAD * column`, rows up to whole vectors of zeros
(of complex numbers, real parts at `row + 2 * LEAD * column`, imaginary parts LEAD further on; elsewhere they lie in pairs).
Panels are PANEL columns. The record of a panel is what makes its reflections a block: with X its columns as they lie in
scratch and d the factors in the record,

    V = X diag(d) (and the identity above it, where R lies on top of the block)        H = I - V T V^H

T is kept by columns. R, and whatever else lies on top, is row-major with rows of whole panels.
"""

from dataclasses import dataclass

from seqpar.dispatch.geometry import ITEMSIZE

PANEL = 16
# Rows that scratch has room for. Not a multiple of 1024 bytes: all columns of a panel would fall on four sets of the cache.
LEAD = 272
# Numbers of a record: T, then d.
FACTORS = PANEL * PANEL
RECORD = FACTORS + PANEL

OP = 0
PACK, SCALE, CHECK, RESCALE, FACTOR, REFLECT, UNPACK, FINISH, SIGN, PACK_WEIGHTS = range(10)
# PACK: rows of a matrix of any strides into scratch, and the largest size of each column. UNPACK: back, into contiguous rows.
(SOURCE, ROW_STEP, COLUMN_STEP, BLOCK, ROWS, COLUMNS, LARGEST) = range(1, 8)
# SCALE: rows times square roots of a column of weights, columns times powers of two; 0 for either. LARGEST as above.
(WEIGHTS, POWERS) = range(8, 10)
# CHECK: are the sizes of columns fit for squares? RESCALE: make those of R so. FINISH: R with a diagonal that is not negative.
# SIGN: rows at TOP times SIGNS.
(SEEN, FOUND, TOP, TOP_ROWS, TOP_STEP, SIGNS) = range(10, 16)
# FACTOR: a panel of BLOCK, from chunk FIRST to CHUNKS. INSIDE: pivots are rows of the block; else rows at TOP.
(FIRST, CHUNKS, RECORD_AT, INSIDE, WANTED) = range(16, 21)
# REFLECT: the reflections of panel BLOCK on the columns of TARGET and the rows at TOP (0: none).
(TARGET, HIGH, WIDE, BACKWARD, FRESH) = range(21, 26)
# FACTOR asks for memory that is wanted next: so many lines of the cache with each column.
(NEXT, NEXT_LINES) = range(26, 28)
TALL_WORDS = 28


@dataclass(frozen=True)
class TallSpecialisation:
    """All that is fixed when a kernel of tall-skinny QR is compiled."""

    dtype: str
    wide: bool
    """The processor has 32 registers of 64 bytes."""

    def __str__(self) -> str:
        return f"tall {self.dtype}{' wide' if self.wide else ''}"

    @property
    def complex(self) -> bool:
        return self.dtype.startswith("complex")

    @property
    def state(self) -> str:
        """The type of the parts of a number."""
        return {"complex64": "float32", "complex128": "float64"}.get(self.dtype, self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of a part."""
        return ITEMSIZE[self.state]

    @property
    def lanes(self) -> int:
        """Rows in a vector."""
        return (64 if self.wide else 32) // self.itemsize
