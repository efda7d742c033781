"""The loop of planning and measuring: plan with the cost known so far, measure the plan's shapes that are new, plan again.

Used by `tune_buckets`, which names the number of buckets and what else there is to choose; every plan that a search asks for is
settled here once, and then timed in rounds: each shape once per round, in random order, as batches of an epoch come.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from seqpar import measure_cost, plan_buckets
from seqpar.buckets.cost_table import Size
from seqpar.buckets.plan import BucketPlan
from seqpar.buckets.user_step import UserStep
from seqpar.errors import MeasurementError

from .outcome import Failure, Reading
from .refined_cost import RefinedCost
from .verdict import Verdict

MOST_PLANS = 8
"""After so many plans of one kind the best of them is taken, though the next one may differ again."""

SHARE = 1 / 3
"""The part of the seconds left that measuring new shapes may take for more than two calls of each."""


class OutOfTime(KeyboardInterrupt):
    """No step begins any more. It ends a search as Ctrl-C does: with what was measured."""


class _Over(Exception):
    """The same inside of `measure_cost`, which hands over the times that it has with an error of the step's."""


@dataclass(frozen=True)
class Settled:
    """A plan all of whose shapes were measured, or why it is not to be timed."""

    plan: BucketPlan | None
    plans: int
    """So many were made until the last one had no new shape."""
    failure: Failure | None = None


class PlanLoop:
    """What is known of a step, and the plans made of it."""

    def __init__(
        self,
        step: Callable[..., Any],
        lengths: Any,
        *,
        inputs: Callable[[int, int], Any] | None,
        synchronise: Callable[[], Any] | None,
        repeats: int,
        epochs: float,
        seed: int,
        clock: Callable[[], float],
        rules: Mapping[str, Any],
        until: float = math.inf,
    ) -> None:
        self.times: dict[Size, float] = {}
        """Seconds of a step of each shape that was measured."""
        self.first: dict[Size, float] = {}
        """Seconds of the very first step of each."""
        self.too_large: set[Size] = set()
        self.shape_price = 0.0
        """Seconds that a new shape costs, once."""
        self.over = False
        """Was something cut off because the clock is beyond `until`?"""
        self._until = until
        self._began = False
        self.epochs = epochs
        self.rules = rules
        self.ranks: int = rules.get("ranks_per_step", 1)
        self._lengths = lengths
        self._run = UserStep("tune_buckets", step, inputs, synchronise)
        self._repeats = repeats
        self._clock = clock
        self._generator = random.Random(f"shapes {seed}")

    def begin(self, plans: Sequence[BucketPlan]) -> None:
        """Measure the shapes of these, and from their first calls what a new shape costs; it stays at that."""
        self.measure([size for plan in plans for size in shapes(plan)])
        more = [self.first[size] - self.times[size] for size in self.times]
        self.shape_price = max(0.0, median(more))

    def measure(self, sizes: Sequence[Size]) -> None:
        """Time the shapes that were not timed before, in turns. Raises OutOfTime, with the times so far kept."""
        new = [size for size in dict.fromkeys(sizes) if size not in self.times and size not in self.too_large]
        if not new:
            return
        run = self._run
        try:
            found = measure_cost(
                self._step_in_time, new, inputs=run.inputs, synchronise=run.synchronise,
                repeats=self._repeats, progress=False, clock=self._clock, seconds=self._share(),
            )  # fmt: skip
        except MeasurementError as error:
            if isinstance(error.__cause__, _Over):
                self.times |= error.measured
                raise OutOfTime from None
            # Raised from an error of the step's: that is the user's to see. Otherwise none of the sizes fits into memory.
            if error.__cause__ is not None or not self.times:
                raise
            self.too_large |= set(new)
            return
        self.times |= dict(zip(found.sizes, found.seconds, strict=True))
        self.first |= dict(zip(found.sizes, found.first_calls, strict=True))
        self.too_large |= set(new) - set(found.sizes)

    def plan(self, n_buckets: int, **rules: Any) -> BucketPlan:
        """The best plan by what is known now."""
        return plan_buckets(
            self._lengths,
            n_buckets,
            cost=RefinedCost(self.times),
            shape_price=self.shape_price / self.epochs,
            **{**self.rules, **rules},
        )

    def settle(self, n_buckets: int, **rules: Any) -> Settled:
        """Plan and measure until the plan asks for nothing new; the best of those plans."""
        best: BucketPlan | None = None
        failure: Failure | None = None
        plans = 0
        while plans < MOST_PLANS:
            self._check()
            plans += 1
            plan = self.plan(n_buckets, **rules)
            known = all(size in self.times for size in shapes(plan))
            self.measure(shapes(plan))
            failure = self._too_large(plan)
            if failure is not None:
                break
            if best is None or self.seconds(plan) < self.seconds(best):
                best = plan
            if known:
                break
        return Settled(best, plans, failure if best is None else None)

    def given(self, plan: BucketPlan) -> Settled:
        """A plan that was made elsewhere, measured."""
        self.measure(shapes(plan))
        failure = self._too_large(plan)
        return Settled(plan if failure is None else None, 1, failure)

    def seconds(self, plan: BucketPlan, times: Mapping[Size, float] | None = None) -> float:
        """An epoch of one rank with this plan, by the times of its shapes; compiling them is spread over all epochs."""
        times = self.times if times is None else times
        steps = -(-np.array(plan.counts) // (np.array(plan.batch_sizes) * self.ranks))
        per_step = np.array([times[size] for size in shapes(plan)])
        return float((steps * per_step).sum()) + plan.n_buckets * self.shape_price / self.epochs

    def guess(self, plan: BucketPlan) -> float:
        """An epoch, where not all of its shapes were measured."""
        cost = RefinedCost(self.times)
        return self.seconds(plan, {size: self.times.get(size) or cost(*size) for size in shapes(plan)})

    def round(self, settled: Sequence[Settled]) -> list[Reading]:
        """Every shape of these plans once, and what an epoch of each plan takes by that."""
        sizes = sorted({size for one in settled if one.plan is not None for size in shapes(one.plan)})
        self._generator.shuffle(sizes)
        times: dict[Size, float] = {}
        for size in sizes:
            self._check()

            def timed(size: Size = size) -> None:
                call = self._run.prepared(size)
                start = self._clock()
                call()
                times[size] = self._clock() - start

            if not self._run.attempt(size, timed, lambda: self.times):
                self.too_large.add(size)
        return [self._reading(one, times) for one in settled]

    def _step_in_time(self, *args: Any, **kwargs: Any) -> Any:
        # Of a single step at least something is known.
        if self._began and self._clock() >= self._until:
            self.over = True
            raise _Over
        self._began = True
        return self._run.step(*args, **kwargs)

    def _check(self) -> None:
        if self._clock() >= self._until:
            self.over = True
            raise OutOfTime

    def _share(self) -> float | None:
        """Seconds for measuring shapes, before its calls are as few as can be."""
        return None if self._until == math.inf else max(SHARE * (self._until - self._clock()), 1e-9)

    def _reading(self, settled: Settled, times: Mapping[Size, float]) -> Reading:
        if settled.failure is not None:
            return settled.failure
        assert settled.plan is not None
        failure = self._too_large(settled.plan)
        return self.seconds(settled.plan, times) if failure is None else failure

    def _too_large(self, plan: BucketPlan) -> Failure | None:
        size = next((size for size in shapes(plan) if size in self.too_large), None)
        if size is None:
            return None
        return Failure(Verdict.MEMORY, f"length {size[0]}, batch {size[1]} does not fit into memory")


def shapes(plan: BucketPlan) -> list[Size]:
    """(length, batch) of each bucket."""
    assert plan.batch_sizes is not None
    return list(zip(plan.boundaries, plan.batch_sizes, strict=True))
