"""`pad_batch`: sequences of many lengths as one array, with what tells the real steps from the padding."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from seqpar.buckets.options import count
from seqpar.buckets.ragged import Ragged, ragged
from seqpar.errors import ArrayTypeError, OptionError, ShapeError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

NAME = "pad_batch"

A = TypeVar("A")


class PaddedBatch(NamedTuple, Generic[A]):
    """What `pad_batch` returns: B sequences in rows of L steps."""

    padded: A
    """(B, L, ...): the sequences, each from the start of its row."""
    mask: A
    """(B, L), boolean: is the step real?"""
    lengths: A
    """(B,), integers: real steps of each row."""
    weights: A
    """(B,), floating: 1 for a sequence and 0 for a filler."""


def pad_batch(
    sequences: Iterable[A | None],
    plan: "BucketPlan | None" = None,
    *,
    boundary: int | None = None,
    batch_size: int | None = None,
    value: Any = 0,
) -> PaddedBatch[A]:
    """Pad sequences to one length, and the batch with fillers to one size.

    Runs in the framework of its arrays and where they are; gradients flow back to the sequences.

    Parameters
    ----------
    sequences
        Arrays ``(length, ...features)`` of any one framework, with equal features and dtype; None is a filler.
    plan
        A `BucketPlan`. The batch is padded to its smallest boundary that holds the longest sequence. Longer ones than the last
        boundary are an error, or are cut to it where the plan says ``on_overflow="truncate"``.
    boundary
        The length to pad to instead. Without one and without a plan: that of the longest sequence.
    batch_size
        Rows of the result, those that no sequence takes being fillers. By default the plan's batch size for the boundary, if
        it has any, and no fillers otherwise.
    value
        What the padding is filled with, for example -100 or NaN for labels.

    Returns
    -------
    A named tuple ``(padded, mask, lengths, weights)``. The dtype of ``padded`` is that of the sequences, weights are float64
    for float64 and complex128 sequences and float32 for all others.

    Notes
    -----
    Sequences in JAX that a program on the CPU can see are padded in the memory of the host, at no cost for new lengths. On a GPU
    they stay there, and each new length costs a small compilation: there it is quicker to pad NumPy arrays and to move the
    batch.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> batch = seqpar.pad_batch([np.array([1.0, 2.0, 3.0]), np.array([4.0])], boundary=4, batch_size=3)
    >>> batch.padded
    array([[1., 2., 3., 0.],
           [4., 0., 0., 0.],
           [0., 0., 0., 0.]])
    >>> batch.mask.sum(axis=1), batch.lengths, batch.weights
    (array([3, 1, 0]), array([3, 1, 0]), array([1., 1., 0.]))
    """
    given = ragged(NAME, sequences)
    if boundary is not None:
        boundary = count(NAME, "boundary", boundary, 0)
    steps = boundary_of(given, plan, boundary)
    rows = rows_of(
        given, plan, steps, None if batch_size is None else count(NAME, "batch_size", batch_size, 1)
    )
    if plan is not None:
        given = held(
            given, steps, plan.boundaries[-1], plan.limit if plan.on_overflow == "truncate" else None
        )
    else:
        given = held(given, steps, None, None)
    lengths = np.zeros(rows, np.int64)
    lengths[: len(given.lengths)] = given.lengths
    return PaddedBatch(
        given.padded(steps, rows, value), given.mask(steps, rows), given.array(lengths), given.weights(rows)
    )


def boundary_of(given: Ragged, plan: "BucketPlan | None", boundary: int | None) -> int:
    """The length to pad to."""
    if boundary is not None:
        return boundary
    longest = max(given.lengths)
    if plan is None:
        return longest
    if not hasattr(plan, "boundaries"):
        raise ArrayTypeError(
            f"{given.operation}: plan is a {type(plan).__name__}, not a BucketPlan. Give one, or boundary= and batch_size=."
        )
    if not isinstance(plan.boundaries[0], int):
        raise OptionError(
            f"{given.operation}: plan has pairs of lengths as boundaries. Give boundary= for one side of the pairs, or use "
            "plan.collate, which pads both."
        )
    return plan.boundaries[min(bisect_left(plan.boundaries, longest), len(plan.boundaries) - 1)]


def rows_of(
    given: Ragged, plan: "BucketPlan | None", boundary: int, batch_size: int | None, way_out: str = ""
) -> int:
    """Rows of the batch, fillers included."""
    number, most = len(given.sequences), f"batch_size={batch_size}"
    if batch_size is None:
        if plan is None or plan.batch_sizes is None or boundary not in plan.boundaries:
            return number
        batch_size = plan.batch_sizes[plan.boundaries.index(boundary)]
        most = f"the {batch_size} that the plan's batches of boundary {boundary} have"
    if number > batch_size:
        raise ShapeError(
            f"{given.operation}: {number} {given.name} are more than {most}. Give fewer, or {way_out or f'batch_size={number}'}."
        )
    return batch_size


def held(given: Ragged, boundary: int, last: int | None, limit: int | None, way_out: str = "") -> Ragged:
    """The sequences, cut to the limit of a plan that cuts; an error where one is longer than the boundary."""
    longest = max(given.lengths)
    # What a plan cuts, it cuts in its last bucket: a shorter boundary would lose steps that it keeps.
    if limit is not None and boundary == last and longest > limit:
        return given.cut(limit)
    if longest <= boundary:
        return given
    i = given.lengths.index(longest)
    if not way_out and boundary == last:
        way_out = f'Plan with all lengths, with on_overflow="truncate" to cut what is longer than {boundary}, or leave it out.'
    elif not way_out:
        way_out = f"Give boundary={longest} or more, or cut it first."
    raise ShapeError(
        f"{given.operation}: {given.place(i)} has {longest} steps, more than the boundary {boundary}. {way_out}"
    )
