"""What a kernel of products (cell_products.py) is compiled for, and the words that it reads."""

from dataclasses import dataclass

from seqpar_host.cell_job import ITEMSIZE

# Addresses of three matrices and bytes from row to row, and from one step of the sum to the next; sizes; 1 for a C that holds
# nothing yet.
A, A_ROW, A_STEP, B, B_STEP, C, C_ROW, ROWS, COLUMNS, STEPS, FRESH = range(11)
PRODUCT_WORDS = 11


@dataclass(frozen=True)
class ProductSpecialisation:
    """All that is fixed when products are compiled."""

    state: str
    wide: bool
    """The processor has 32 registers of 64 bytes; else tiles are smaller."""

    def __str__(self) -> str:
        return f"products {self.state}{' wide' if self.wide else ''}"

    @property
    def lanes(self) -> int:
        """Numbers in a vector."""
        return (64 if self.wide else 32) // ITEMSIZE[self.state]

    @property
    def tiles(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(vectors, rows) of a wide tile and of a narrow one."""
        return ((4, 4), (1, 8)) if self.wide else ((2, 4), (1, 8))
