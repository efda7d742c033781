"""`BucketPlan.collate`: the samples of one batch as arrays in the shape of their bucket.

A sample is a tree of arrays, numbers and whatever else a dataset holds. Its sequences are padded, what has no steps is stacked,
and the rest is listed. Used as the `collate_fn` of PyTorch's DataLoader and by hand everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from seqpar.buckets.columns import Column, columns
from seqpar.buckets.padding import boundary_of, held, rows_of
from seqpar.buckets.ragged import Ragged
from seqpar.buckets.samples import BatchedDataset, Samples
from seqpar.errors import OptionError, ShapeError, unknown_name

if TYPE_CHECKING:
    from seqpar.buckets.batch import Batch
    from seqpar.buckets.plan import BucketPlan

NAME = "BucketPlan.collate"
UNFETCHED = "fetch them through plan.wrap(dataset), by the batches of a seqpar.BucketSampler"
OTHER_LENGTHS = "The batch was made for other lengths: give the sampler that of each sample, in their order."


class Collated(NamedTuple):
    """A batch as it enters a training step. `(padded, mask, weights)`: it unpacks as one."""

    padded: Any
    """The samples as one tree of arrays: sequences (B, L, ...), everything else (B, ...)."""
    mask: Any
    """(B, L), boolean: is the step real? For pairs of lengths a pair of masks."""
    weights: Any
    """(B,), floating: what the loss of a sample counts, 0 for a filler."""


def wrap(plan: BucketPlan, dataset: Any) -> BatchedDataset:
    """`BucketPlan.wrap`."""
    return BatchedDataset(dataset)


def collate(plan: BucketPlan, samples: Iterable[Any]) -> Collated:
    """`BucketPlan.collate`."""
    return Collator(plan)(samples)


def collator(
    plan: BucketPlan, sequence: Any = None, value: Any = 0, normalise: str | None = None
) -> Collator:
    """`BucketPlan.collator`."""
    return Collator(plan, sequence, value, normalise)


@dataclass(frozen=True)
class Collator:
    """A function from the samples of a batch to `(padded, mask, weights)`, always in the shape of the bucket.

    `sequence` says which parts of a sample have steps: True or False for each, in the containers of the sample, or one for
    all below it; parts of a dict that are left out follow the rule, which is that every array with at least one axis has them.
    For pairs of lengths it says "input", "output" or False; the rule is that the first sequence is the input and the second
    one the output. `value` is what places without a sample are filled with: one number, or likewise one for each part.

    `normalise="samples"` or `"tokens"` makes the weight of a sample `world_size / total`, where the batch says how many samples,
    or steps, all batches of its group have together. Then `sum(weights * losses)`, for losses of samples, or
    `sum(weights[:, None] * where(mask, losses, 0))`, for losses of steps, added up over the batches that a process has of the
    group, has the global mean as its mean over processes: what `DistributedDataParallel` makes of gradients that a process
    accumulates, whoever has which batch.
    """

    plan: BucketPlan
    sequence: Any = None
    value: Any = 0
    normalise: str | None = None

    def __post_init__(self) -> None:
        if self.normalise not in (None, "samples", "tokens"):
            raise unknown_name("BucketPlan.collator", "normalise", self.normalise, ("samples", "tokens"))

    def __call__(self, samples: Iterable[Any]) -> Collated:
        if not isinstance(samples, Samples):
            samples = Samples(samples)
        sides = 2 if isinstance(self.plan.boundaries[0], tuple) else 1
        parts, structure = columns(samples, self.sequence, self.value, sides)
        found = [part.ragged() if part.side is not None else None for part in parts]
        first = [_agreeing(parts, found, side) for side in range(sides)]
        boundaries, rows = self._shape(first, samples.batch)
        told = "" if samples.batch is None else OTHER_LENGTHS
        held = [self._held(given, boundaries[side], side, told) for side, given in enumerate(first)]

        leaves: list[Any] = []
        for part, given in zip(parts, found, strict=True):
            if given is None or part.side is None:
                leaves.append(part.whole(rows, first[0]))
            else:
                boundary = boundaries[part.side]
                leaves.append(self._held(given, boundary, part.side, told).padded(boundary, rows, part.value))
        masks = tuple([given.mask(boundary, rows) for given, boundary in zip(held, boundaries, strict=True)])
        return Collated(
            structure.tree_of(leaves),
            masks if sides > 1 else masks[0],
            first[0].weights(rows, self._weight(samples.batch)),
        )

    def _shape(self, first: list[Ragged], batch: Batch | None) -> tuple[tuple[int, ...], int]:
        """Steps of each side, and rows: those of the batch, or of the bucket that the samples belong to."""
        if batch is not None:
            boundary = batch.boundary
            return boundary if isinstance(boundary, tuple) else (boundary,), len(batch)
        if len(first) > 1:
            raise OptionError(
                f"{NAME}: the samples come without their batch, which says what pair of lengths to pad them to. Fetch them "
                "through plan.wrap(dataset), by the batches of a seqpar.BucketSampler."
            )
        steps = boundary_of(first[0], self.plan, None)
        return (steps,), rows_of(first[0], self.plan, steps, None, UNFETCHED)

    def _held(self, given: Ragged, boundary: int, side: int, way_out: str) -> Ragged:
        plan: Any = self.plan
        cuts = plan.on_overflow == "truncate"
        if not isinstance(plan.boundaries[0], tuple):
            return held(given, boundary, plan.boundaries[-1], plan.limit if cuts else None, way_out)
        # Each side is cut to its own limit, in whichever bucket the other one puts the pair.
        limit = plan.limit[side]
        return held(
            given.cut(limit) if cuts and max(given.lengths) > limit else given, boundary, None, None, way_out
        )

    def _weight(self, batch: Batch | None) -> float:
        if self.normalise is None:
            return 1.0
        if batch is None:
            raise OptionError(
                f"{NAME}: normalise={self.normalise!r} divides by what all ranks have together, and the samples come without "
                "their batch, which knows it. Fetch them through plan.wrap(dataset), by the batches of a seqpar.BucketSampler."
            )
        total = batch.samples if self.normalise == "samples" else batch.tokens
        return batch.world_size / total if total else 0.0  # without a step there is no loss of a step


def _agreeing(parts: list[Column], found: list[Ragged | None], side: int) -> Ragged:
    """The first part of a side, once all others of it are known to have as many steps in every sample."""
    same = [(part, given) for part, given in zip(parts, found, strict=True) if part.side == side and given]
    reference, first = same[0]
    for part, given in same[1:]:
        if given.lengths != first.lengths:
            pairs = zip(given.lengths, first.lengths, strict=True)
            i, (ours, theirs) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            raise ShapeError(
                f"{NAME}: samples[{i}]{part.path} has {ours} steps and samples[{i}]{reference.path} {theirs}. All parts of "
                "a sample that have steps have equally many: say which have none with plan.collator(sequence=...), True or "
                "False for each."
            )
    return first
