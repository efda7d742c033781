"""Does a batch of every bucket fit into memory? Tried, and lowered where it does not: behind `MemoryModel.verify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seqpar.buckets.cost_progress import advancing
from seqpar.buckets.options import count
from seqpar.buckets.prices import prices
from seqpar.buckets.user_step import UserStep
from seqpar.errors import MeasurementError, OptionError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

NAME = "MemoryModel.verify"
WITHIN = 0.05
"""How far the size that is found may be below one that does not fit, as a part of it."""
RUNS = 2
"""Of every size that is tried: what one step leaves behind adds to the next."""


class VerifiedPlan(NamedTuple):
    """A plan whose batches fit into memory, and the steps that showed it."""

    plan: BucketPlan
    tried: tuple[tuple[int, int, bool], ...]
    """Length, batch size and whether it fit, in the order in which they were tried."""


def verify(
    step: Callable[..., Any],
    plan: BucketPlan,
    inputs: Callable[[int, int], Any] | None,
    multiple_of: int,
    synchronise: Callable[[], Any] | None,
    progress: bool | None,
) -> VerifiedPlan:
    """What `MemoryModel.verify` returns."""
    if isinstance(plan.boundaries[0], tuple):
        raise OptionError(
            f"{NAME}: the plan has pairs of lengths as boundaries, and the step is run at single ones. Give a plan of single "
            "lengths."
        )
    if plan.batch_sizes is None:
        raise OptionError(
            f"{NAME}: the plan has no batch sizes. Plan with memory=, max_tokens= or batch_size=."
        )
    count(NAME, "multiple_of", multiple_of)
    trials = _Trials(UserStep(NAME, step, inputs, synchronise), multiple_of)
    sizes = list(plan.batch_sizes)
    with advancing(NAME, progress, len(sizes)) as advance:
        for i in reversed(range(len(sizes))):
            sizes[i] = trials.largest(plan.boundaries[i], sizes[i])
            advance(f"length {plan.boundaries[i]}, batch {sizes[i]}")
    return VerifiedPlan(_with_sizes(plan, tuple(sizes)), tuple(trials.tried))


class _Trials:
    """Steps that are run to see whether they fit."""

    def __init__(self, run: UserStep, multiple_of: int) -> None:
        self.run = run
        self.multiple_of = multiple_of
        self.tried: list[tuple[int, int, bool]] = []

    def largest(self, length: int, batch: int) -> int:
        """The batch size if it fits, else one that does and is at most 5 % below one that does not."""
        if self._fits(length, batch):
            return batch
        low, high = 0, batch
        while low == 0:
            half = self._rounded(high // 2)
            if half == 0 and high <= self.multiple_of:
                raise MeasurementError(
                    f"{NAME}: not even (length, batch)={length, high} fits into memory. Plan with a shorter max_length."
                )
            half = half or self.multiple_of
            low, high = (half, high) if self._fits(length, half) else (0, half)
        while high - low > max(self.multiple_of, WITHIN * high):
            # At least one multiple above the low end; below the high end, for they are more than one apart.
            middle = max(self._rounded((low + high) // 2), self._rounded(low) + self.multiple_of)
            low, high = (middle, high) if self._fits(length, middle) else (low, middle)
        return low

    def _rounded(self, batch: int) -> int:
        return batch // self.multiple_of * self.multiple_of

    def _fits(self, length: int, batch: int) -> bool:
        def act() -> None:
            for _ in range(RUNS):
                self.run.prepared((length, batch))()

        fits = self.run.attempt((length, batch), act, dict)
        self.tried.append((length, batch, fits))
        return fits


def _with_sizes(plan: BucketPlan, sizes: tuple[int, ...]) -> BucketPlan:
    """The plan with other batch sizes, and what these buckets then cost."""
    if sizes == plan.batch_sizes:
        return plan
    counts, batches = np.array(plan.counts), np.array(sizes)
    price = np.array(plan.prices)
    if callable(plan.cost):
        price = prices(NAME, plan.cost, np.array(plan.boundaries), batches)
    shapes = plan.shape_price * plan.n_buckets
    group = batches * plan.ranks_per_step
    lowered = sum(new != old for new, old in zip(sizes, plan.batch_sizes or (), strict=True))
    note = f"{lowered} batch sizes were lowered, for they ran out of memory; boundaries, curve and rivals are as before"
    if plan.cost is None:
        note += ", and so are prices, since the cost that was minimised is not known here"
    return dataclasses.replace(
        plan,
        batch_sizes=sizes,
        prices=tuple(price.tolist()),
        predicted_cost=float((counts * price).sum()) + shapes,
        exact_cost=float((-(-counts // group) * group * price).sum()) + shapes,
        notes=(*plan.notes, note),
    )
