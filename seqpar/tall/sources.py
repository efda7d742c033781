"""Where the rows of an accumulator come from, block by block, and which fold each of them goes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, NamedTuple

from seqpar.errors import ArrayTypeError

Block = tuple[Any, ...]
"""(a, b) or (a, b, weights)."""


class Source(NamedTuple):
    """Blocks, and what a progress bar counts."""

    blocks: Iterator[Block]
    total: int | None
    unit: str


def source_of(name: str, given: Any, rows: int) -> Source:
    """Blocks as given, or two or three arrays cut into blocks of so many rows."""
    if isinstance(given, (tuple, list)) and given and all(hasattr(x, "shape") for x in given):
        arrays = block_of(name, given)
        m = arrays[0].shape[0] if arrays[0].shape else 0
        if any(tuple(x.shape[:1]) != (m,) for x in arrays):
            return Source(iter([arrays]), 1, "blocks")  # `push` says what is wrong with them
        return Source(_cut(arrays, m, rows), m, "rows")
    if hasattr(given, "shape") or not isinstance(given, Iterable):
        raise ArrayTypeError(
            f"{name}: source is a {type(given).__name__}. Give (a, b), or an iterable of blocks (a, b)."
        )
    total = len(given) if isinstance(given, Sized) else None
    return Source((block_of(name, block) for block in given), total, "blocks")


def block_of(name: str, given: Any) -> Block:
    """A pair or triple."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        what = (
            f"{type(given).__name__} of {len(given)}"
            if isinstance(given, (tuple, list))
            else type(given).__name__
        )
        raise ArrayTypeError(f"{name}: a block is a {what}. Give (a, b) or (a, b, weights).")
    return tuple(given)


def _cut(arrays: Block, m: int, rows: int) -> Iterator[Block]:
    for first in range(0, m, rows) if m else (0,):
        yield tuple([x[first : min(first + rows, m), ...] for x in arrays])


def dealt(m: int, before: int, folds: int, run: int, at_a_time: int) -> Iterator[tuple[int, slice]]:
    """Which fold takes which of m rows, after so many before them: runs of rows go to the folds in turn.

    Runs of one row are strided slices, of no more than `at_a_time` rows at once, so that a file is read from front to back.
    """
    if run == 1:
        for first in range(0, m, at_a_time):
            last = min(first + at_a_time, m)
            for row in range(first, min(first + folds, last)):
                yield (before + row) % folds, slice(row, last, folds)
        return
    first = 0
    while first < m:
        row = before + first
        last = min(m, first + run - row % run)
        yield row // run % folds, slice(first, last)
        first = last
