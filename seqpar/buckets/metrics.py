"""What the batches of an epoch are like, in numbers: what mixing lengths costs, and what it buys.

Used by `seqpar.BucketSampler.metrics`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.buckets.order import Order

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

Array = Any

# Samples looked at together: their arrays stay in a cache of the CPU.
BLOCK = 65_536


@dataclass(frozen=True, kw_only=True)
class SamplerMetrics:
    """The batches of one epoch over all ranks. A *group* is what one step of the optimiser sees."""

    epoch: int
    steps: int
    """Groups."""
    samples: int
    samples_per_group: float
    padding: float
    """Share of the steps in rows of samples that is padding; fillers are not in it."""
    fillers: int
    """Places without a sample, of weight zero."""
    efficiency: float
    """Share of all steps that are computed, padding and fillers included, that belongs to samples."""
    adjacent_correlation: float
    """Of the mean lengths of consecutive groups: near 0 in a good order, 1 where lengths drift. 0 where there is none to tell."""
    between_groups: float
    """Share of the variance of length that lies between groups: 1 if all samples of a group are of one length, near 0 if
    each group is like the whole data set."""
    visit_entropy: float
    """Of the buckets over the steps, in bits: 0 if all steps visit one bucket, log2(buckets) if they visit all equally."""

    def __str__(self) -> str:
        return "\n".join(
            (
                f"epoch {self.epoch}: {self.steps} steps, {self.samples} samples, {self.samples_per_group:.1f} in a group",
                f"padding               {self.padding:8.2%}",
                f"fillers               {self.fillers:8d}",
                f"efficiency            {self.efficiency:8.2%}",
                f"adjacent correlation  {self.adjacent_correlation:8.3f}",
                f"variance between      {self.between_groups:8.2%}",
                f"visit entropy         {self.visit_entropy:8.3f} bits",
            )
        )


def sampler_metrics(
    order: Order, plan: "BucketPlan", capacity: Sequence[int], lengths: Array, epoch: int
) -> SamplerMetrics:
    """The metrics of an epoch, from all of its groups."""
    at_once = max(1, BLOCK // max(capacity))
    buckets, counts, sums = [], [], []
    squares = 0.0
    # Squares of differences from about the mean: of lengths themselves they would cancel.
    centre = float(lengths.mean())
    for first in range(0, order.steps, at_once):
        groups = order.groups(epoch, first, min(at_once, order.steps - first))
        own = lengths[groups.samples]
        buckets.append(groups.buckets)
        counts.append(np.diff(groups.starts))
        sums.append(np.add.reduceat(own, groups.starts[:-1]))
        squares += float(np.square(own - centre).sum())
    bucket, count, tokens = np.concatenate(buckets), np.concatenate(counts), np.concatenate(sums)
    boundary = np.asarray(plan.boundaries).reshape(plan.n_buckets, -1).sum(1)[bucket]
    places = np.asarray(capacity)[bucket]
    samples = int(count.sum())
    mean = tokens / count - centre
    shift = float((tokens - centre * count).sum()) / samples
    total = squares - samples * shift**2
    between = float((count * np.square(mean - shift)).sum())
    visits = np.bincount(bucket) / order.steps
    visits = visits[visits > 0]
    return SamplerMetrics(
        epoch=epoch,
        steps=order.steps,
        samples=samples,
        samples_per_group=samples / order.steps,
        padding=1.0 - float(tokens.sum()) / float((count * boundary).sum()),
        fillers=int(places.sum()) - samples,
        efficiency=float(tokens.sum()) / float((places * boundary).sum()),
        adjacent_correlation=_correlation(mean[:-1], mean[1:]),
        between_groups=min(1.0, between / total) if total > 1e-9 * samples else 1.0,
        visit_entropy=float(-(visits * np.log2(visits)).sum()) + 0.0,
    )


def _correlation(x: Array, y: Array) -> float:
    if len(x) < 2:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / scale if scale > 1e-9 else 0.0
