"""What the conformance suite asks of kernels that search for boundaries of buckets: the least cost, and cuts that have it.

The shape of an example is (buckets, groups). Its operands are the prices of the groups, which rise strictly, and the numbers
of sequences before each. Several cuts can cost the same, so the costs of the cuts are compared and not the cuts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from seqpar.algorithms.bucketing import bucket_ends, free_bucket_ends
from seqpar.buckets.kernels import NAME, Search, problem
from seqpar.dispatch.choice import choose
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.plan_buckets import plan_buckets
from seqpar.testing.examples import Answers, Array, Example


@dataclass(frozen=True, kw_only=True)
class BucketExample(Example):
    """One search: for the best cuts into each number of buckets, or into any number at a price for each."""

    operation: ClassVar[str] = NAME

    axis: int = 1
    dtype: str = "float64"
    extra: float | None = None

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "BucketExample":
        # Without lengths there is nothing to plan, and no group without a bucket.
        groups = max(1, time)
        return cls(shape=(min(batch, groups), groups), **fields)

    def operands(self) -> tuple[Array, ...]:
        random = np.random.default_rng([1, *self.shape])
        groups = self.shape[1]
        price = np.cumsum(random.uniform(0.01, 1, groups))
        counts = random.integers(0, 50, groups)
        counts[-1] += 1
        return self.laid_out(price), self.laid_out(np.append(0.0, np.cumsum(counts)))

    @cached_property
    def answers(self) -> Answers:
        price, before = self.operands()
        buckets, groups = self.shape
        # cost[i, j]: of one bucket from group i to group j - 1.
        cost = (before[None, :] - before[:, None])[:, 1:] * price
        cost = np.pad(np.where(cost < 0, np.inf, cost), ((0, 0), (1, 0)), constant_values=np.inf)
        cost[np.tril_indices(groups + 1)] = np.inf
        if self.extra is None:
            best, found = np.append(0.0, np.full(groups, np.inf)), []
            for _ in range(buckets):
                best = (best[:, None] + cost).min(axis=0)
                found.append(best[-1])
        else:
            best = np.zeros(groups + 1)
            for j in range(1, groups + 1):
                best[j] = (best[:j] + cost[:j, j]).min() + self.extra
            found = [best[-1]]
        exact = np.asarray(found)
        bound = 4 * groups * np.finfo(float).eps * exact
        return Answers((exact, exact), (bound, bound))

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        curve, cuts = results
        if self.extra is not None:
            return curve, np.asarray([self._cost(free_bucket_ends(cuts))])
        if cuts.ndim == 1:  # what a plan says of itself
            return curve, cuts
        return curve, np.asarray([self._cost(bucket_ends(cuts, q + 1)) for q in range(len(curve))])

    def _cost(self, ends: list[int]) -> float:
        price, before = self.operands()
        until = before[np.asarray(ends) + 1]
        shapes = len(ends) * (self.extra or 0.0)
        return float((np.diff(until, prepend=0.0) * price[ends]).sum()) + shapes

    def names(self, backward: bool) -> Sequence[str]:
        return "curve", "cuts"

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        price, before = operands
        assert price is not None and before is not None
        histogram = (np.arange(1, len(price) + 1), np.diff(before).astype(int))
        options = {"cost": lambda length, batch: price[length - 1], "batch_size": 1}
        return plan_buckets, [histogram, self.shape[0]], options

    def results(self, returned: Any) -> Sequence[Array]:
        curve = np.asarray(returned.curve[: self.shape[0]])
        return curve, np.append(curve[:-1], returned.predicted_cost)

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        search = Search(self.shape[0] if self.extra is None else 0, self.extra)
        choice = choose(problem(self.shape[1], search), wish)
        return choice.kernel.run(np, search, choice.config, operands)

    def words(self) -> list[str]:
        return [] if self.extra is None else ["free"]


BUCKET_EXAMPLES = (
    BucketExample(shape=(1, 1)),
    BucketExample(shape=(3, 3)),
    BucketExample(shape=(4, 60)),
    BucketExample(shape=(32, 257)),
    BucketExample(shape=(4, 60), memory="gaps"),
    BucketExample(shape=(4, 60), memory="backwards"),
    BucketExample(shape=(1, 1), extra=3.0),
    BucketExample(shape=(1, 60), extra=3.0),
    BucketExample(shape=(1, 257), extra=0.0),
)
