"""How many sequences of a length make a batch: a fixed number, a budget of steps, what fits in memory, or the least of those."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from seqpar.buckets.options import MOST, count
from seqpar.errors import ArrayTypeError, OptionError

Array = Any


class Memory(Protocol):
    """What `memory=` has to offer; `seqpar.MemoryModel` does."""

    def batch_size(self, length: int) -> int:
        """The most sequences of that length that fit, 0 if none does."""
        ...


class Batching(NamedTuple):
    """The rules for the size of a batch. Without any there is none."""

    batch_size: int | None
    max_tokens: int | None
    memory: Memory | None
    multiple_of: int

    def sizes(self, boundaries: Array) -> Array | None:
        """Sequences per batch and rank for each boundary, 0 where not even one fits; None without a rule."""
        rules = []
        if self.batch_size is not None:
            rules.append(np.full(len(boundaries), self.batch_size, np.int64))
        if self.max_tokens is not None:
            rules.append(self.max_tokens // boundaries)
        if self.memory is not None:
            rules.append(np.asarray([_fit(self.memory, int(b)) for b in boundaries], np.int64))
        if not rules:
            return None
        return np.minimum.reduce(rules) // self.multiple_of * self.multiple_of

    def longest(self, step: int, most: int) -> int:
        """The longest boundary of which a batch fits, among the multiples of `step` up to `most`; 0 if none does."""
        low, high = 0, most // step
        while low < high:
            middle = (low + high + 1) // 2
            sizes = self.sizes(np.asarray([middle * step], np.int64))
            if sizes is None or sizes[0] >= 1:
                low = middle
            else:
                high = middle - 1
        return low * step

    def __str__(self) -> str:
        words = [f"batch_size={self.batch_size}"] if self.batch_size is not None else []
        words += [f"max_tokens={self.max_tokens}"] if self.max_tokens is not None else []
        words += [f"memory={self.memory!r}"] if self.memory is not None else []
        words += [f"batch_multiple_of={self.multiple_of}"] if self.multiple_of > 1 else []
        return ", ".join(words)


def batching(name: str, batch_size: Any, max_tokens: Any, memory: Any, multiple_of: Any) -> Batching:
    """The rules, checked."""
    for what, given in (("batch_size", batch_size), ("max_tokens", max_tokens)):
        if given is not None:
            count(name, what, given)
    count(name, "batch_multiple_of", multiple_of)
    if batch_size is not None and batch_size % multiple_of:
        raise OptionError(
            f"{name}: batch_size={batch_size} is not a multiple of batch_multiple_of={multiple_of}. "
            "Give one of them alone, or a batch size that is."
        )
    if memory is not None and not callable(getattr(memory, "batch_size", None)):
        raise ArrayTypeError(
            f"{name}: memory={memory!r} has no batch_size(length). Give what seqpar.fit_memory returns; "
            "for a budget of steps there is max_tokens=."
        )
    return Batching(batch_size, max_tokens, memory, multiple_of)


def grouped(name: str, sizes: Array, ranks: int) -> Array:
    """Sequences that all ranks take at once, for each size of a batch."""
    if int(sizes.max()) * ranks > MOST:
        raise OptionError(
            f"{name}: {ranks} batches of {int(sizes.max())} sequences are more than 2**62 sequences. Give smaller batches."
        )
    return sizes * ranks


def _fit(memory: Memory, length: int) -> int:
    """What a model of memory says of a length, 0 or more."""
    try:
        found: Any = memory.batch_size(length)
    except Exception as error:
        error.add_note(f"in memory.batch_size({length})")
        raise
    try:
        size = int(found)
    except (TypeError, ValueError, OverflowError):
        size = MOST + 1
    if size > MOST:
        raise OptionError(
            f"memory.batch_size({length}) is {found!r}, and has to be a whole number of sequences, at most 2**62. Return one, "
            "0 where none fits."
        )
    return max(size, 0)
