"""What the kernels cannot do, known without loading Triton."""

LARGEST_MATRIX = 16
"""Rows of a state that is held in registers."""
LARGEST_SPACE = 64
"""Units of a space of a cell: five tiles of weights of 64 by 64 fill a third of a processor's shared memory."""
MOST_IN_COLUMNS = 1 << 13
"""Numbers of a state, its axes padded to powers of two, that one backward program holds: 32 for a thread of 8 warps."""
MOST_SEGMENTS = 65535
"""The second axis of a grid."""
MOST_SEQUENCES = 2**31 - 2**16
"""Numbered in 32 bits, with the lanes beyond the last."""
MOST_WARPS = 32
"""Threads of one program: 1,024."""
AXES = 3
"""Axes beside time, after joining, that one launch walks; it follows the leading ones launch by launch."""
TIMELESS = ("h0", "final", "g_final", "dh0")
"""Operands and results that lack the axis of time."""
SHARED_BYTES = 216 << 10
"""Of the shared memory of a processor what weights may take: 227 KiB on an H100, less what else a program puts there."""
LEAST_MULTIPLIED = 16
"""The fewest rows of a matrix that `tl.dot` multiplies by."""


def padded(size: int) -> int:
    """The width of a tile of so many units of a cell."""
    return max(LEAST_MULTIPLIED, 1 << max(0, size - 1).bit_length())
