"""What a sample costs in a bucket of two lengths: its padded steps, or its share of the time of a step."""

from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.batch_sizes import Batching
from seqpar.buckets.kernels import NAME
from seqpar.buckets.prices import PADDING, cost_of
from seqpar.errors import ArrayTypeError, OptionError

Array = Any


class Pricing(NamedTuple):
    """What a sample costs in a bucket, and how many make a batch."""

    cost: Any
    rules: Batching

    def sizes(self, boundaries: Array) -> Array | None:
        return self.rules.sizes(boundaries.sum(axis=1))

    def prices(self, boundaries: Array) -> Array:
        """inf where not even one sample fits into a batch."""
        sizes = self.sizes(boundaries)
        if self.cost == PADDING:
            found = boundaries.sum(axis=1).astype(np.float64)
        else:
            found = np.zeros(len(boundaries))
            assert sizes is not None
            for k in np.flatnonzero(sizes):
                first, second, batch = int(boundaries[k, 0]), int(boundaries[k, 1]), int(sizes[k])
                time = cost_of(NAME, self.cost, length_in=first, length_out=second, batch=batch)
                if not (np.isfinite(time) and time >= 0):
                    raise OptionError(
                        f"{NAME}: cost(length_in={first}, length_out={second}, batch={batch}) is {time}. A cost is a finite "
                        "number of zero or more for every pair of lengths and batch size in question."
                    )
                found[k] = time / batch
        if sizes is not None:
            found[sizes == 0] = np.inf
        return found


def pair_cost(cost: Any) -> Any:
    if cost == PADDING if isinstance(cost, str) else callable(cost) and not hasattr(cost, "times"):
        return cost
    raise ArrayTypeError(
        f"{NAME}: cost={cost!r} is not for pairs. Give 'padding' or a function (length_in, length_out, batch) -> time of a step."
    )
