"""What a cell's kernel does with one tile: load it, multiply it by weights, and the functions that cells are made of.

A tile is ROWS states by the units of one space, padded to a power of two. Where there are no units it holds zeros whenever a
matrix is to multiply it, so that nothing of the padding, infinite as it may be, reaches a unit.
"""

import triton
import triton.language as tl

from seqpar_triton.numbers import exponentials


@triton.jit
def sigmoid(x, WIDE: tl.constexpr):
    """1 / (1 + exp(-x)), to a few ulp of it and of 1 minus it: exp of what is not positive, on either side."""
    e, _ = exponentials(-tl.abs(x), WIDE)
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def tanh(x, WIDE: tl.constexpr):
    """From exp(-2 |x|) - 1, which is as accurate near 0, and -1 itself where the result is to be 1."""
    _, less = exponentials(-2.0 * tl.abs(x), WIDE)
    size = -less / (2.0 + less)
    return tl.where(x < 0.0, -size, size)


@triton.jit
def gate_of(
    weights, unit, START: tl.constexpr, LINE: tl.constexpr, LANE: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """One gate of a matrix, or its transpose: [i, j] is number START + i LINE + j LANE of the weights."""
    i, j = tl.arange(0, PADDED_ROWS)[:, None], tl.arange(0, PADDED_COLUMNS)[None, :]
    at = (START + i * LINE + j * LANE).to(tl.int64) * unit
    return tl.load(weights + at, mask=(i < ROWS) & (j < COLUMNS), other=0.0).to(STATE)


@triton.jit
def lines_of_gate(
    weights, unit, first, START: tl.constexpr, LINE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SOME: tl.constexpr, PADDED_COLUMNS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """SOME lines of a gate of a matrix of ROWS lines, from the one numbered `first` on."""
    i, j = first + tl.arange(0, SOME)[:, None], tl.arange(0, PADDED_COLUMNS)[None, :]
    at = (START + i * LINE + j).to(tl.int64) * unit
    return tl.load(weights + at, mask=(i < ROWS) & (j < COLUMNS), other=0.0).to(STATE)


@triton.jit
def times(total, tile, gate):
    """total + tile @ gate, every product and sum in the format of the state, whatever the GPU could do faster in another."""
    return tl.dot(tile, gate, total, input_precision="ieee", out_dtype=total.dtype)
