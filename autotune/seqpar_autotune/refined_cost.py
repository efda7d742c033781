"""The time of a step where it was measured, and a formula bent to what was measured elsewhere.

Used by the tuner of buckets, which plans with what is known so far. A formula alone is a few percent off, and differently so at
every length (tiles, caches), which is what a plan would follow instead of the machine; a table needs a full grid, while
the shapes of plans lie along a line of lengths.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqpar import CostModel
from seqpar.buckets.cost_table import Size

Array = Any


class RefinedCost:
    """T(length, batch) for `cost=` of `seqpar.plan_buckets`: a `seqpar.CostModel` times how far it is off nearby.

    The factor is the mean of measured/formula over all measured sizes, weighted by one over the squared distance in the
    logarithms (Shepard's interpolation): exact where something was measured.

    >>> cost = RefinedCost({(64, 8): 0.010, (128, 8): 0.021, (256, 8): 0.040})
    >>> round(cost(128, 8), 6), 0.021 < cost(140, 8) < 0.024
    (0.021, True)
    """

    def __init__(self, times: Mapping[Size, float]) -> None:
        self.model = CostModel.fit(times)
        sizes = np.array(list(times), float)
        self._places = np.log(sizes)
        self._factors = np.array(list(times.values())) / self.model.times(sizes[:, 0], sizes[:, 1])

    def __call__(self, length: float, batch: float) -> float:
        return float(self.times(length, batch))

    def times(self, lengths: Any, batches: Any) -> Array:
        length, batch = np.broadcast_arrays(np.asarray(lengths, float), np.asarray(batches, float))
        at = np.stack([np.log(length), np.log(batch)], axis=-1)[..., None, :]
        # Tiny, so that a measured size has all of the weight.
        weights = 1.0 / (((at - self._places) ** 2).sum(axis=-1) + 1e-20)
        factor = (weights * self._factors).sum(axis=-1) / weights.sum(axis=-1)
        return self.model.times(length, batch) * factor
