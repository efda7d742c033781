"""`pack_batch`: sequences of many lengths behind one another, with the resets that keep each from leaking into the next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from seqpar.buckets.best_fit import best_fit
from seqpar.buckets.options import count
from seqpar.buckets.ragged import Ragged, fits, ragged
from seqpar.dispatch.frameworks import binding_for
from seqpar.errors import ArrayTypeError, OptionError, ShapeError

NAME = "pack_batch"

A = TypeVar("A")


class PackedBatch(NamedTuple):
    """What `pack_batch` returns: n sequences on one line of T steps, or in R rows of T steps.

    ``time`` below is ``(T,)`` for one line and ``(R, T)`` for rows.
    """

    packed: Any
    """(*time, ...): the sequences."""
    resets: Any
    """(*time), boolean: does a sequence start here, or the padding behind the last one of a row?"""
    mask: Any
    """(*time), boolean: is the step real?"""
    segment_ids: Any
    """(*time), integers: number of the sequence in the list that was given; -1 in the padding."""
    positions: Any
    """(*time), integers: number of the step in its sequence; 0 in the padding."""
    lengths: Any
    """(n,), integers in NumPy, as the next two: they are known on the host, and shapes depend on them."""
    rows: Any
    """(n,), integers: the row of each sequence, 0 on one line."""
    starts: Any
    """(n,), integers: the step in its row where it starts."""

    @property
    def ends(self) -> Any:
        """(*time), boolean: the resets of a walk with ``reverse=True``, which enters each sequence at its end."""
        xp = binding_for(type(self.resets)).namespace(self.resets)
        last = xp.ones_like(self.resets[..., :1])
        return xp.concat((self.resets[..., 1:], last), axis=-1)

    @property
    def padding(self) -> float:
        """Share of the steps that are not real."""
        size = int(np.prod(self.resets.shape))
        return 1 - sum(self._known("padding").lengths) / size if size else 0.0

    def unpack(self, h: A) -> list[A]:
        """The sequences of a result in their own order: ``h`` is ``(*time, ...)``, each ``(length, ...)``."""
        line = self._line("unpack", h)
        places = self._known("unpack")
        order = places.order(self.resets.shape[-1])
        at, lengths = places.at(self.resets.shape[-1]), places.lengths
        pieces = binding_for(type(h)).cut_out(line, [at[i] for i in order], [lengths[i] for i in order])
        found: list[Any] = [None] * len(order)
        for i, piece in zip(order, pieces, strict=True):
            found[i] = piece
        return found

    def last(self, h: Any, initial: Any = 0) -> Any:
        """The last state of each sequence, ``(n, ...)``, from states ``(*time, ...)``; `initial` for those without steps."""
        line = self._line("last", h)
        binding = binding_for(type(h))
        xp = binding.namespace(h)
        lengths, rows, starts = (
            binding.from_numpy(x, h) if isinstance(x, np.ndarray) else x
            for x in (self.lengths, self.rows, self.starts)
        )
        where = rows * self.resets.shape[-1] + starts + lengths - 1
        some = xp.reshape(lengths > 0, (-1, *[1] * (line.ndim - 1)))
        if not line.shape[0]:
            found = binding.full(
                0, (self.lengths.shape[0], *line.shape[1:]), binding.dtype_name(line.dtype), line
            )
        else:
            found = xp.take(line, xp.where(where < 0, xp.zeros_like(where), where), axis=0)
        if not hasattr(initial, "shape"):
            initial = binding.full(initial, (), binding.dtype_name(line.dtype), line)
        return xp.where(some, found, initial)

    def _line(self, name: str, h: Any) -> Any:
        """(R T, ...): the rows behind one another."""
        time = tuple(self.resets.shape)
        if tuple(h.shape[: len(time)]) != time:
            raise ShapeError(
                f"PackedBatch.{name}: h.shape={tuple(h.shape)} does not begin with {time}, the shape of the packed steps. "
                "Give what was computed from `packed`, with its time axis in the same place."
            )
        if len(time) == 1:
            return h
        xp = binding_for(type(h)).namespace(h)
        return xp.reshape(h, (time[0] * time[1], *h.shape[len(time) :]))

    def _known(self, name: str) -> "Places":
        try:
            found = [np.asarray(x).tolist() for x in (self.lengths, self.rows, self.starts)]
        except Exception as error:
            raise ArrayTypeError(
                f"PackedBatch.{name}: the lengths have no values that could be read now ({type(error).__name__}), and what it "
                "gives has a shape for each of them. Call it where the batch was packed, or use segment_ids."
            ) from error
        return Places(*found)


@dataclass(frozen=True)
class Places:
    """Where the sequences are, in numbers of the host."""

    lengths: Sequence[int]
    rows: Sequence[int]
    starts: Sequence[int]

    def at(self, capacity: int) -> list[int]:
        """First step of each, where the rows lie behind one another."""
        return [row * capacity + start for row, start in zip(self.rows, self.starts, strict=True)]

    def order(self, capacity: int) -> list[int]:
        """The sequences as they lie behind one another; those without steps in front of who starts at the same step."""
        at = self.at(capacity)
        return sorted(range(len(at)), key=lambda i: (at[i], self.lengths[i]))


def pack_batch(
    sequences: Iterable[A], *, capacity: int | None = None, rows: int | None = None, value: Any = 0
) -> PackedBatch:
    """Put sequences behind one another, for recurrences that take `resets`: no padding, or next to none.

    Runs in the framework of its arrays and where they are; gradients flow back to the sequences.

    Parameters
    ----------
    sequences
        Arrays ``(length, ...features)`` of any one framework, with equal features and dtype. Nothing is ever left out.
    capacity
        Steps in a row. By default there is one line that holds all sequences in their order. With a capacity they are spread
        over rows, the longest first, each into the fullest row that holds it.
    rows
        How many rows there are to be, so that the shape does not depend on the lengths; an error if they need more.
    value
        What the padding behind the last sequence of a row is filled with.

    Returns
    -------
    A `PackedBatch`: ``packed, resets, mask, segment_ids, positions, lengths, rows, starts``, ``.unpack(h)`` and ``.last(h)`` for
    the states of a recurrence over it, ``.ends`` for the resets of a reversed one, and ``.padding``.

    Notes
    -----
    The first step of every sequence is marked, that of the first one too, so that all start alike: a `linear_recurrence` from
    zero whatever its `h0` is, a `solve_recurrence` from its `h0`. The padding starts with a reset too: nothing leaks into it.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> batch = seqpar.pack_batch([np.ones(2), np.ones(3), np.ones(1)])
    >>> batch.resets.astype(int)
    array([1, 0, 1, 0, 0, 1])
    >>> h = seqpar.linear_recurrence(0.5, batch.packed, resets=batch.resets)
    >>> batch.unpack(h)
    [array([1. , 1.5]), array([1.  , 1.5 , 1.75]), array([1.])]
    >>> batch.last(h)
    array([1.5 , 1.75, 1.  ])

    In rows of four steps:

    >>> seqpar.pack_batch([np.ones(2), np.ones(3), np.ones(1)], capacity=4).segment_ids
    array([[ 1,  1,  1,  2],
           [ 0,  0, -1, -1]])
    """
    given = ragged(NAME, sequences)
    lengths = given.lengths
    if None in (kinds := [None if x is None else 1 for x in given.sequences]):
        raise ArrayTypeError(
            f"{NAME}: sequences[{kinds.index(None)}] is None, a filler, which only a padded batch has rows for. Leave it out."
        )
    if capacity is None:
        if rows is not None:
            raise OptionError(
                f"{NAME}: rows={rows} was given without a capacity. Give capacity=, the steps of a row."
            )
        size, number = sum(lengths), 1
        ends = np.cumsum(lengths)
        places = Places(lengths, [0] * len(lengths), (ends - lengths).tolist())
    else:
        size = count(NAME, "capacity", capacity)
        longest = max(lengths)
        if longest > size:
            raise ShapeError(
                f"{NAME}: sequences[{lengths.index(longest)}] has {longest} steps, more than capacity={size}. Give "
                f"capacity={longest} or more, or cut it first."
            )
        row, starts, number = best_fit(lengths, size)
        places = Places(lengths, row, starts)
        if rows is not None:
            if number > count(NAME, "rows", rows):
                raise ShapeError(
                    f"{NAME}: {len(lengths)} sequences of {sum(lengths)} steps need {number} rows of capacity={size}, more than "
                    f"rows={rows}. Give rows={number} or more, a larger capacity, or fewer sequences."
                )
            number = rows
    return _packed(given, places, () if capacity is None else (number,), size, value)


def _packed(given: Ragged, places: Places, rows: tuple[int, ...], size: int, value: Any) -> PackedBatch:
    number = rows[0] if rows else 1
    fits(NAME, value, given.binding.dtype_name(given.like.dtype), given.place(0))
    order, at = places.order(size), places.at(size)
    line = given.binding.laid_out(
        [given.sequences[i] for i in order], [at[i] for i in order], number * size, value, given.like
    )
    time = (*rows, size)
    xp = given.binding.namespace(line)

    lengths, row, first = (np.asarray(x, np.int64) for x in (places.lengths, places.rows, places.starts))
    begin = row * size + first
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    real = np.repeat(begin, lengths) + position
    segments = np.full(number * size, -1, np.int64)
    segments[real] = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.zeros(number * size, np.int64)
    positions[real] = position
    # Starts of sequences, and of the padding in each row, which in a row without sequences is all of it.
    filled = np.zeros(number, np.int64)
    np.add.at(filled, row, lengths)
    padded = np.arange(number) * size + filled
    resets = np.zeros(number * size, bool)
    resets[begin[lengths > 0]] = True
    resets[padded[filled < size]] = True

    def laid(x: Any) -> Any:
        return given.array(x.reshape(time))

    return PackedBatch(
        packed=xp.reshape(line, (*time, *given.like.shape[1:])) if rows else line,
        resets=laid(resets),
        mask=laid(segments >= 0),
        segment_ids=laid(segments),
        positions=laid(positions),
        lengths=lengths,
        rows=row,
        starts=first,
    )
