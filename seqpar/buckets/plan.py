"""The result of `seqpar.plan_buckets`: boundaries, what they cost, and what else they would have cost."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.buckets.lengths import numbers
from seqpar.buckets.prices import Cost
from seqpar.buckets.rivals import Rival
from seqpar.errors import OptionError

if TYPE_CHECKING:
    from seqpar.buckets.collate import Collated, Collator
    from seqpar.buckets.pack_choice import PackChoice
    from seqpar.buckets.samples import BatchedDataset

Array = Any


@dataclass(frozen=True, kw_only=True, repr=False)
class BucketPlan:
    """Boundaries of buckets for sequences of different lengths: a sequence is padded to the first one that holds it.

    Prints as a table; `plot()` draws it, `save` and `load` keep it as JSON. `seqpar.BucketSampler` makes batches of it.
    """

    boundaries: tuple[int, ...]
    """What the sequences of each bucket are padded to, rising."""
    counts: tuple[int, ...]
    """Sequences in each bucket."""
    tokens: tuple[int, ...]
    """Steps of those sequences, without padding."""
    batch_sizes: tuple[int, ...] | None
    """Sequences in a batch of each bucket on one rank; None if no rule was given."""
    prices: tuple[float, ...]
    """What one sequence costs in each bucket: its padded length, or its share of the time of a batch."""
    cost: Cost | None
    """What was minimised: "padding" or the time of a batch as a function of (length, batch). None if it was a function and
    the plan comes from a file."""
    shape_price: float
    predicted_cost: float
    """Cost of all sequences, with batches never ragged, and of all shapes: what was minimised, unless `whole_batches`."""
    exact_cost: float | None
    """The same with whole batches, in groups of `ranks_per_step`; None without batch sizes."""
    curve: tuple[float, ...]
    """`curve[q - 1]` is the least cost that q buckets reach."""
    rivals: dict[str, Rival]
    """The same number of buckets chosen in other ways: uniform, quantile, equal_duration; and powers_of_two, however many.
    For boundaries that were given, the optimum as well. Of pairs: one_dimension and equal_mass, and the grid if it was beaten."""
    limit: int
    """The longest sequence that is served whole: the last boundary, or `max_length`."""
    ranks_per_step: int = 1
    multiple_of: int = 1
    on_overflow: str = "error"
    truncated: int = 0
    """Sequences that were longer than the last boundary and are cut."""
    dropped: int = 0
    """Sequences that were longer than the last boundary and are left out."""
    whole_batches: bool = False
    """Was `exact_cost` minimised? Then the curve and the rivals are about that."""
    histogram: tuple[tuple[int, int], ...] = ()
    """Up to which length how many sequences, in bins: to draw it."""
    notes: tuple[str, ...] = ()
    """What was done that had not been asked for in so many words."""
    method: str = field(default="", compare=False)
    """Kernel that found the boundaries."""

    @property
    def n_buckets(self) -> int:
        return len(self.boundaries)

    @property
    def samples(self) -> int:
        return sum(self.counts)

    @property
    def padding(self) -> float:
        """Share of the padded steps that no sequence has: 1 - real/padded."""
        padded = sum(n * boundary for n, boundary in zip(self.counts, self.boundaries, strict=True))
        return 1.0 - sum(self.tokens) / padded

    @property
    def gap(self) -> float | None:
        """By how much whole batches cost more than predicted, as a fraction; None without batch sizes."""
        if self.exact_cost is None or not self.predicted_cost:
            return None
        return self.exact_cost / self.predicted_cost - 1.0

    @property
    def objective(self) -> float:
        """The cost that was minimised."""
        return self.exact_cost if self.whole_batches and self.exact_cost is not None else self.predicted_cost

    @cached_property
    def key(self) -> int:
        """A number of 63 bits for what decides which batches there are; it does not depend on platform or process."""
        facts = json.dumps([self.boundaries, self.batch_sizes, self.limit, self.on_overflow])
        return int.from_bytes(hashlib.blake2b(facts.encode(), digest_size=8).digest(), "little") >> 1

    def bucket_of(self, lengths: Any) -> Array:
        """The bucket of each length, as integers; -1 for those that are dropped."""
        given = numbers("BucketPlan.bucket_of", "lengths", lengths)
        found: Array = np.searchsorted(np.asarray(self.boundaries), given)
        beyond = given > self.limit
        if beyond.any():
            if self.on_overflow == "error":
                i = int(np.argmax(beyond))
                raise OptionError(
                    f"BucketPlan.bucket_of: lengths[{i}]={int(given[i])} is longer than the plan allows, {self.limit}. "
                    'Plan with that length, or with max_length= and on_overflow="truncate" or "drop".'
                )
            found[beyond] = self.n_buckets - 1 if self.on_overflow == "truncate" else -1
        return found

    def next_bucket(self, bucket: int) -> int:
        """The next longer bucket, -1 behind the longest."""
        return bucket + 1 if bucket + 1 < self.n_buckets else -1

    def wrap(self, dataset: Any) -> "BatchedDataset":
        """A dataset whose batches hold fillers and know their bucket: for a data loader, together with `collate`.

        `dataset` is map-style, or a list. The result fetches for `__getitems__(batch)` the real samples of a `Batch`, together if
        the dataset has `__getitems__`, and gives None for fillers.

        Examples
        --------
        >>> import numpy as np, seqpar
        >>> strokes = [np.full(length, 1.0) for length in (2, 4, 3, 7)]
        >>> lengths = [len(stroke) for stroke in strokes]
        >>> plan = seqpar.plan_buckets(lengths, 2, batch_size=2)
        >>> data = plan.wrap(strokes)
        >>> for batch in seqpar.BucketSampler(plan, lengths, seed=0, shuffle=False):
        ...     padded, mask, weights = plan.collate(data.__getitems__(batch))
        ...     print(padded.shape, mask.sum(), weights)
        (2, 4) 6 [1. 1.]
        (2, 4) 3 [1. 0.]
        (2, 7) 7 [1. 0.]

        PyTorch does the same by itself::

            loader = torch.utils.data.DataLoader(
                plan.wrap(dataset), batch_sampler=sampler, collate_fn=plan.collate, num_workers=4
            )
        """
        from seqpar.buckets.collate import wrap

        return wrap(self, dataset)

    def collate(self, samples: Any) -> "Collated":
        """Samples of one batch as (padded, mask, weights), in the shape of their bucket.

        Samples are arrays ``(length, ...)`` of any framework, or tuples, named tuples and dicts of such. Parts with at least one
        axis are sequences, equally long within a sample; numbers are stacked, and anything else is listed. Fillers have
        weight 0. Where that is not what the samples are, `collator` takes choices.
        """
        from seqpar.buckets.collate import collate

        return collate(self, samples)

    def collator(self, sequence: Any = None, value: Any = 0, normalise: str | None = None) -> "Collator":
        """`collate` with choices, as a function of the samples.

        Parameters
        ----------
        sequence
            Which parts of a sample have steps: True or False for each, in the containers of a sample, or one for all below. Parts
            of a dict that are left out are judged by the rule. For pairs of lengths: "input", "output" or False.
        value
            What padding and fillers are filled with: one number, or likewise one for each part.
        normalise
            ``"samples"`` or ``"tokens"``: the weight of a sample is `world_size / total`, with the samples or steps of all
            batches in its group. Then ``sum(weights * losses)`` for losses of samples, or
            ``sum(weights[:, None] * where(mask, losses, 0))`` for losses of steps, added up over the batches that a process has
            of a group, has the global mean as its mean over processes, which `DistributedDataParallel` takes.

        Examples
        --------
        >>> import numpy as np, seqpar
        >>> plan = seqpar.plan_buckets([2, 3], 1, batch_size=3)
        >>> collate = plan.collator(sequence={"pen": False}, value={"letters": -1})
        >>> samples = [{"letters": np.arange(n), "pen": np.ones(2), "writer": n} for n in (2, 3)]
        >>> padded, mask, weights = collate(samples)
        >>> padded["letters"]
        array([[ 0,  1, -1],
               [ 0,  1,  2],
               [-1, -1, -1]])
        >>> padded["pen"].shape, padded["writer"], weights
        ((3, 2), array([2, 3, 0]), array([1., 1., 0.], dtype=float32))
        """
        from seqpar.buckets.collate import collator

        return collator(self, sequence, value, normalise)

    def bucket_or_pack(
        self,
        cost: Cost | None = None,
        *,
        capacity: int | None = None,
        rows: int | None = None,
        packed: Cost | None = None,
        lengths: Any = None,
    ) -> "PackChoice":
        """Whether these buckets or sequences laid end to end (`seqpar.pack_batch`) cost less.

        Parameters
        ----------
        cost
            What a batch costs, as in `plan_buckets`; by default what the plan was made for. Where one of them is "padding" and
            the other a time, `shape_price`, in the unit of the plan's own, is left out.
        capacity
            Steps of a packed row; by default the longest boundary.
        rows
            Rows of a packed batch; by default the plan's batch size at the longest boundary.
        packed
            What a packed batch costs, where that was measured by itself; by default what a padded one of its shape does.
        lengths
            The lengths that the plan was made for. Without them the number of rows is estimated from the mean in each bucket.

        Examples
        --------
        >>> import seqpar
        >>> lengths = [3, 5, 4, 8, 4]
        >>> plan = seqpar.plan_buckets(lengths, 2)
        >>> print(plan.bucket_or_pack(lengths=lengths))
        Pack: an epoch takes 24 steps packed in rows of 8 steps (0.0 % padding), against 28 steps in buckets (14.3 % padding);
        packing leaves less padding.
        """
        from seqpar.buckets.pack_choice import bucket_or_pack

        return bucket_or_pack(self, cost, capacity=capacity, rows=rows, packed=packed, lengths=lengths)

    def __repr__(self) -> str:
        sizes = "" if self.batch_sizes is None else f", batch_sizes={_few(self.batch_sizes)}"
        return f"{type(self).__name__}({_few(self.boundaries)}{sizes}, padding={self.padding:.2%})"

    def __str__(self) -> str:
        from seqpar.buckets.plan_table import table

        return table(self)

    def plot(self, path: str | Path | None = None) -> Any:
        """Histogram with the boundaries, and the curve of costs, as a figure of matplotlib; written to `path` if given."""
        from seqpar.buckets.plan_plot import plot

        return plot(self, path)

    def to_json(self) -> str:
        from seqpar.buckets.plan_json import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "BucketPlan":
        from seqpar.buckets.plan_json import from_json

        return from_json(text)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""
        from seqpar.buckets.plan_json import save

        save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "BucketPlan":
        """The plan that `save` wrote."""
        from seqpar.buckets.plan_json import load

        return load(path)


def _few(numbers: tuple[Any, ...]) -> str:
    words = [str(number) for number in numbers]
    return f"({', '.join(words if len(words) <= 8 else [*words[:4], '...', *words[-2:]])})"
