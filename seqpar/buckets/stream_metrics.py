"""What the batches of a stream were like so far, in numbers that take no memory to keep.

Used by `seqpar.buckets.stream_pass` to count and by `seqpar.BucketStream.metrics` to tell.
"""

import math
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counts:
    """What happened in a pass so far."""

    groups: int = 0
    samples: int = 0
    tokens: int = 0
    padded: int = 0
    """Steps of the rows with a sample."""
    computed: int = 0
    """Steps of all rows."""
    places: int = 0
    promoted: int = 0
    dropped: int = 0
    truncated: int = 0
    peak: int = 0
    longest_wait: int = 0
    visits: Counter[int] = field(default_factory=Counter)
    neighbours: list[float] = field(default_factory=lambda: [0.0] * 5)
    """Sums of x, y, x x, y y, x y over the mean lengths x, y of consecutive groups, without the first one's."""
    first: float = 0.0
    before: float = 0.0

    def group(self, boundary: int, places: int, lengths: list[int], promoted: int) -> int:
        """Count a group; its tokens are returned."""
        samples, tokens = len(lengths), sum(lengths)
        mean = tokens / samples
        if not self.groups:
            self.first = mean
        else:
            x, y = self.before - self.first, mean - self.first
            self.neighbours = [
                s + t for s, t in zip(self.neighbours, (x, y, x * x, y * y, x * y), strict=True)
            ]
        self.before = mean
        self.groups += 1
        self.samples += samples
        self.tokens += tokens
        self.padded += samples * boundary
        self.computed += places * boundary
        self.places += places
        self.promoted += promoted
        self.visits[boundary] += 1
        return tokens


@dataclass(frozen=True, kw_only=True)
class StreamMetrics:
    """The batches of a pass so far, over all ranks. A *group* is what one step of the optimiser sees."""

    epoch: int
    steps: int
    """Groups."""
    samples: int
    read: int
    """Samples read: given out, dropped and waiting."""
    padding: float
    """Share of the steps in rows of samples that is padding; fillers are not in it."""
    fillers: int
    """Places without a sample, of weight zero: only at the end of a stream."""
    efficiency: float
    """Share of all steps that are computed, padding and fillers included, that belongs to samples."""
    promoted: int
    """Samples in a longer bucket than theirs, to fill a group."""
    dropped: int
    truncated: int
    adjacent_correlation: float
    """Of the mean lengths of consecutive groups: near 0 in a good order, 1 where lengths drift."""
    visit_entropy: float
    """Of the boundaries over the steps, in bits: 0 if all steps have one, log2(buckets) if all come equally often."""
    shapes: int
    """Different boundaries that batches have had, in all passes."""
    plans: int
    """Plans in all passes."""
    reviews: int
    """How often a new plan was considered, and taken or not."""
    peak: int
    """The most samples that waited at once."""
    longest_wait: int
    """Samples read between reading a sample and giving it out, at most."""

    def __str__(self) -> str:
        return "\n".join(
            (
                f"epoch {self.epoch}: {self.steps} steps, {self.samples} samples of {self.read} that were read",
                f"padding               {self.padding:8.2%}",
                f"fillers               {self.fillers:8d}",
                f"efficiency            {self.efficiency:8.2%}",
                f"promoted              {self.promoted:8d}",
                f"dropped, truncated    {self.dropped:8d} {self.truncated}",
                f"adjacent correlation  {self.adjacent_correlation:8.3f}",
                f"visit entropy         {self.visit_entropy:8.3f} bits",
                f"shapes                {self.shapes:8d}",
                f"plans, reviews        {self.plans:8d} {self.reviews}",
                f"waited at once        {self.peak:8d}",
                f"longest wait          {self.longest_wait:8d}",
            )
        )


def stream_metrics(
    counts: Counts, epoch: int, read: int, shapes: int, plans: int, reviews: int
) -> StreamMetrics:
    """The metrics of what was counted."""
    shares = [n / counts.groups for n in counts.visits.values()]
    return StreamMetrics(
        epoch=epoch,
        steps=counts.groups,
        samples=counts.samples,
        read=read,
        padding=1.0 - counts.tokens / counts.padded if counts.padded else 0.0,
        fillers=counts.places - counts.samples,
        efficiency=counts.tokens / counts.computed if counts.computed else 1.0,
        promoted=counts.promoted,
        dropped=counts.dropped,
        truncated=counts.truncated,
        adjacent_correlation=_correlation(counts.groups - 1, *counts.neighbours),
        visit_entropy=-sum(share * math.log2(share) for share in shares) + 0.0,
        shapes=shapes,
        plans=plans,
        reviews=reviews,
        peak=counts.peak,
        longest_wait=counts.longest_wait,
    )


def _correlation(n: int, x: float, y: float, xx: float, yy: float, xy: float) -> float:
    if n < 2:
        return 0.0
    spread = (xx - x * x / n) * (yy - y * y / n)
    return (xy - x * y / n) / math.sqrt(spread) if spread > 1e-18 * xx * yy else 0.0
