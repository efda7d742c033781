"""Sequences behind one another on one line of steps, with gaps: what padding and packing both are to a framework.

A padded batch is a line whose rows are cut off it, each with one sequence at its start; a packed one has several in a row. The
bindings fill such a line from its pieces (`laid_out`) and cut the pieces out again (`cut_out`).
"""

from collections.abc import Callable, Sequence

from seqpar.dispatch.problem import Array


def gaps(lengths: Sequence[int], starts: Sequence[int], size: int) -> list[int]:
    """Steps without a sequence in front of each piece and behind the last one; starts rise."""
    found, end = [], 0
    for start, length in zip(starts, lengths, strict=True):
        found.append(start - end)
        end = start + length
    found.append(size - end)
    return found


def parts(
    pieces: Sequence[Array],
    starts: Sequence[int],
    size: int,
    blank: Callable[[int], Array],
    head: Callable[[Array, int], Array] = lambda x, steps: x[:steps, ...],
) -> list[Array]:
    """The line as a list of arrays to concatenate, where blank(n) makes an array of n steps that hold no sequence.

    `head` is how its first steps are taken, where the framework has a quicker way than the standard's.
    """
    lengths = [piece.shape[0] for piece in pieces]
    between = gaps(lengths, starts, size)
    # Slices of one array cost less than an array for each gap.
    empty = blank(max(between))
    line = []
    for gap, piece in zip(between, pieces, strict=False):
        if gap:
            line.append(head(empty, gap))
        line.append(piece)
    if between[-1] or not line:
        line.append(head(empty, between[-1]))
    return line
