"""`seqpar.plan_buckets`: the best lengths to pad sequences to.

What it does is in `seqpar.buckets.planning`, which is loaded with the first plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from seqpar.dispatch.faces import face

if TYPE_CHECKING:
    from seqpar.buckets.batch_sizes import Memory
    from seqpar.buckets.plan import BucketPlan

CURVE = 32
"""Numbers of buckets that the curve always covers, and the most that a free choice without a price takes."""


def plan_buckets(
    lengths: Any,
    n_buckets: int | tuple[int, int] | None = None,
    *,
    cost: Any = "padding",
    shape_price: float = 0.0,
    multiple_of: int = 1,
    max_tokens: int | None = None,
    batch_size: int | None = None,
    memory: Memory | None = None,
    batch_multiple_of: int = 1,
    max_length: int | tuple[int, int] | None = None,
    on_overflow: str = "error",
    boundaries: Sequence[Any] | None = None,
    max_padding: float = 0.1,
    max_buckets: int | None = None,
    ranks_per_step: int = 1,
    whole_batches: bool = False,
    method: str = "auto",
    backend: str | None = None,
) -> BucketPlan:
    """Choose the lengths to which sequences are padded, at the least cost there is.

    Exact, by dynamic programming over the histogram of lengths; with `n_buckets` buckets, or as many as are worth their price.

    Parameters
    ----------
    lengths
        Number of steps of each sequence: a list or a 1-D integer array of any framework, read on the host; or a histogram, as a
        tuple `(lengths, counts)`. Or pairs (input, output), as an (N, 2) array: the result is then a `seqpar.PairPlan`, whose
        boundaries are pairs, its search is a heuristic (`seqpar.buckets.pair_choice`), whose `notes` say which buckets were
        taken, `cost` is a function of (length_in, length_out, batch), and budgets of steps are about both lengths together.
    n_buckets
        How many buckets. None: with a `shape_price` the number that costs least, without one the smallest number whose
        padding is at most `max_padding`, 32 at most. Of pairs (Q1, Q2) as well: Q1 buckets of inputs with Q2 of outputs in each.
    cost
        What is minimised: "padding", the number of padded steps; or the time of a step as a function of (length, batch), as
        `seqpar.measure_cost` makes it, or as a mapping `{(length, batch): time}` with a full grid. A function is asked at any
        length up to the longest boundary, for `rivals` at some that do not occur.
    shape_price
        What every bucket costs besides, in the unit of `cost`: the time to compile for one more shape, over the epochs.
    multiple_of
        Boundaries are multiples of this.
    max_tokens, batch_size, memory
        The size of a batch on one rank: at most so many padded steps, so many sequences, what a model of memory allows
        (`seqpar.fit_memory`). The least of those given, rounded down to a multiple of `batch_multiple_of`.
    max_length, on_overflow
        Sequences longer than `max_length`, or of which not even a single one fits into a batch, are an "error", or are cut
        ("truncate") or left out ("drop") and counted.
    boundaries
        Boundaries of your own, to be told what they cost and to have batches of them.
    max_buckets
        The most buckets that a free choice takes.
    ranks_per_step
        Ranks that take a batch of one shape at each step: whole batches are counted in groups of these (`exact_cost`, `gap`).
    whole_batches
        Minimise the cost with whole batches, in which the last one of a bucket costs as much as a full one. It counts where
        sequences are few for their buckets, batches and ranks. Up to 4096 lengths the optimum (0.5 s), beyond that a search
        from the optimum without; fewer buckets than `n_buckets` if they cost less.
    method, backend
        Which kernel searches; see `seqpar.explain`.

    Examples
    --------
    >>> from seqpar import plan_buckets
    >>> plan = plan_buckets([3, 5, 5, 8, 90, 100], 2)
    >>> plan.boundaries, round(plan.padding, 3)
    ((8, 100), 0.091)
    >>> plan_buckets([3, 5, 5, 8, 90, 100], 2, max_tokens=400, multiple_of=16).batch_sizes
    (25, 3)
    """
    from seqpar.buckets.planning import planned

    return planned(
        lengths, n_buckets, method, backend, cost=cost, shape_price=shape_price, multiple_of=multiple_of,
        max_tokens=max_tokens, batch_size=batch_size, memory=memory, batch_multiple_of=batch_multiple_of,
        max_length=max_length, on_overflow=on_overflow, boundaries=boundaries, max_padding=max_padding,
        max_buckets=max_buckets, ranks_per_step=ranks_per_step, whole_batches=whole_batches,
    )  # fmt: skip


def _prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """For `seqpar.explain`."""
    import inspect

    from seqpar.buckets.planning import checked

    bound = inspect.signature(plan_buckets).bind(*args, **kwargs)
    bound.apply_defaults()
    return checked(**bound.arguments)


face(plan_buckets, _prepare)
