"""The lengths that figures of `plan_buckets` are measured on: two lognormal workloads, as histograms or as samples."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Workload(NamedTuple):
    """Lognormal lengths, rounded and then clipped."""

    mean: float
    """Of the logarithm."""
    deviation: float
    least: int
    most: int
    draws: int

    @property
    def law(self) -> str:
        return f"lognormal({self.mean:g}, {self.deviation:g}) in [{self.least}, {self.most}]"

    @property
    def name(self) -> str:
        return f"{self.law}, {self.draws:,} draws"


SPEECH = Workload(5.0, 1.0, 16, 1024, 200_000)
"""About a thousand distinct lengths."""
TEXT = Workload(6.0, 1.2, 1, 32_768, 1_000_000)
"""About twelve thousand, with a tail."""
WORKLOADS = (SPEECH, TEXT)


@cache
def samples(workload: Workload, others: tuple[Workload, ...] = WORKLOADS) -> Array:
    """The lengths, drawn behind those of the workloads before it."""
    rng = np.random.default_rng(0)
    for each in others:
        drawn = rng.lognormal(each.mean, each.deviation, each.draws)
        if each == workload:
            return np.clip(np.rint(drawn), each.least, each.most).astype(np.int64)
    raise KeyError(workload)


def histogram(workload: Workload) -> tuple[Array, Array]:
    """Distinct lengths and how many there are of each."""
    lengths, counts = np.unique(samples(workload), return_counts=True)
    return lengths, counts
