"""`seqpar.BucketSampler`: batches of a bucket plan for every rank, in an order that needs no memory of what went before."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.buckets.batch import FILLER, Batch
from seqpar.buckets.lengths import is_histogram, on_host, whole
from seqpar.buckets.options import count, fraction, one_of, places
from seqpar.buckets.order import Groups, Order
from seqpar.buckets.permutation import key_of
from seqpar.buckets.remainders import Layout, lay_out
from seqpar.buckets.sampler_state import State, fingerprint
from seqpar.errors import ArrayTypeError, OptionError, SeqparError, ShapeError, renamed
from seqpar.validation import flag

if TYPE_CHECKING:
    from seqpar.buckets.metrics import SamplerMetrics
    from seqpar.buckets.plan import BucketPlan

Array = Any
NAME = "BucketSampler"

# Groups are worked out in blocks of about this many samples: 16 groups of 8 x 32 cost a third of 16 times one group.
BLOCK = 4096


class BucketSampler:
    """Batches of samples of about one length, the same shape on all ranks at each step, each sample once in an epoch.

    Iterating gives `seqpar.Batch` after `Batch` (lists of indices into the data set) until the epoch ends. A *group* is what all
    ranks do for one step of the optimiser: `ranks_per_step` batches of one bucket. Where samples are missing in the last group
    of a bucket there stands the index -1, a filler: `plan.wrap(dataset)` and `plan.collate` turn it into a row of weight
    zero. A data set that was not wrapped cannot be indexed by it, so that no sample is taken for one; ``batch.real`` has none.

    Parameters
    ----------
    plan
        A `BucketPlan` with batch sizes, the same one on all ranks. What is measured (`measure_cost`, `fit_memory`) differs from
        rank to rank, and so would plans made of it: plan on one rank and send `plan.to_json()` to the others
        (``torch.distributed.broadcast_object_list``), or load one file everywhere.
    lengths
        Length of each sample of the data set, in its order.
    seed
        Any whole number of zero or more. The order follows from the plan, the seed and the epoch alone.
    rank, world_size
        Which of how many processes this one is.
    ranks_per_step
        Batches in a group: `world_size` if not given. Each rank does ``ranks_per_step / world_size`` of them, one after the
        other. A run with the same `ranks_per_step` can go on with another world size that divides it.
    shuffle
        False: groups in the order of the buckets, samples in the order of the data set.
    remainder
        What becomes of the samples that do not fill a group. "fill": fillers, dealt out so that the ranks' shares of real
        samples differ by one at most. "promote": the samples ride in the next longer bucket, others in each epoch, and the
        longest bucket has fillers. "auto": whichever costs less by the prices of the plan.
    randomness
        Share of the samples, from 0 to 1, that ride in any bucket that holds them, others in each epoch: 0 pads least, 1
        makes batches as mixed as buckets allow. `metrics` tells the price.
    longest_first
        Begin epoch 0 with a group of the longest bucket, so that memory runs out at once or not at all.

    Attributes
    ----------
    epoch, step
        Where the sampler stands: `step` batches of the epoch were given out over all ranks, as `given` of a `Batch` counts. Its
        `step` is another number: that of its group.
    steps
        Groups in an epoch.
    dropped
        Samples left out because the plan says ``on_overflow="drop"``; `len(sampler)` batches on each rank hold all others.

    Notes
    -----
    *Epochs.* Each `iter` begins where the sampler stands, and after the last batch of an epoch it stands at the start of the
    next one: ``for batch in sampler`` in a loop goes through epoch after epoch. `set_epoch` goes to the start of another
    epoch, and is nothing for the one where the sampler stands, so that it may be called after `load_state_dict`. A resumed
    training counts its epochs from `sampler.epoch`.

    *Resuming* costs the same at any step. Workers of a data loader draw batches ahead of the training, and so does
    `state_dict`: save `state_after(batch)` of the last batch that was trained on, or `state_at(epoch, batches)`. torchdata's
    `StatefulDataLoader` keeps count itself.

    *Other loaders.* ``DataLoader(plan.wrap(dataset), batch_sampler=sampler, collate_fn=plan.collate)`` in PyTorch;
    ``dataset[batch.real]`` with Hugging Face; ``grain.MapDataset.source(sampler.batches(epoch))``, a sequence of the epoch's
    batches with random access, with Grain.

    Examples
    --------
    >>> import seqpar
    >>> lengths = [3, 9, 4, 2, 8, 4, 3]
    >>> plan = seqpar.plan_buckets(lengths, 2, batch_size=2)
    >>> sampler = seqpar.BucketSampler(plan, lengths, seed=0)
    >>> for batch in sampler:
    ...     print(batch, batch.boundary)
    [1, 4] 9
    [6, 2] 4
    [5, 3] 4
    [0, -1] 4
    >>> state = sampler.state_after(batch)
    >>> state["epoch"], state["step"]
    (1, 0)
    """

    def __init__(
        self,
        plan: "BucketPlan",
        lengths: Any,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        ranks_per_step: int | None = None,
        shuffle: bool = True,
        remainder: str = "fill",
        randomness: float = 0.0,
        longest_first: bool = False,
    ) -> None:
        self.plan = plan
        self.seed = count(NAME, "seed", seed, least=0, most=math.inf)
        self.rank, self.world_size, self.ranks_per_step = places(NAME, rank, world_size, ranks_per_step)
        shuffle = flag(NAME, "shuffle", shuffle)
        longest_first = flag(NAME, "longest_first", longest_first)
        randomness = fraction(NAME, "randomness", randomness)
        one_of(NAME, "remainder", remainder, ("fill", "promote", "auto"))
        if randomness and not shuffle:
            raise OptionError(
                f"{NAME}: randomness={randomness} with shuffle=False. Leave one of them at its default."
            )
        if not hasattr(plan, "batch_sizes"):
            raise ArrayTypeError(
                f"{NAME}: plan is a {type(plan).__name__}, not a BucketPlan. Give BucketSampler(plan_buckets(lengths, ...), "
                "lengths, seed=...)."
            )
        if plan.batch_sizes is None:
            raise OptionError(
                f"{NAME}: the plan has no batch sizes. Plan with a rule for them: "
                "plan_buckets(lengths, batch_size=32), max_tokens=16384 or memory=fit_memory(...)."
            )

        given = _read(lengths)
        buckets = _buckets(plan, given)
        self.dropped = int((buckets < 0).sum())
        if self.dropped == len(given):
            raise OptionError(
                f"{NAME}: all {len(given)} samples are longer than the plan allows, and it drops those. Plan with their lengths."
            )
        bounds = np.asarray(plan.boundaries)
        # What is cut is cut to the limit, which may be less than the last boundary.
        served = np.minimum(np.minimum(given, plan.limit), bounds[buckets])
        self._lengths = served.reshape(len(given), -1).sum(1)
        self._capacity = [size * self.ranks_per_step for size in plan.batch_sizes]
        layout, self.remainder = self._laid_out(buckets, remainder, randomness)
        longest = max((b for b, n in enumerate(layout.groups) if n), key=lambda b: int(bounds[b].sum()))
        self._order = Order(
            layout,
            # The narrowest integers sort fastest, by their bytes. Dropped ones, below all others, come first.
            np.argsort(buckets.astype(np.min_scalar_type(-plan.n_buckets)), kind="stable")[self.dropped :],
            key=key_of(plan.key, self.seed),
            shuffle=shuffle,
            first_of=longest if longest_first else None,
        )
        self.steps = self._order.steps
        options = (self.ranks_per_step, self.remainder, randomness, shuffle, longest_first)
        self._fingerprint = fingerprint(plan.key, buckets, options)
        self.epoch = 0
        self.step = 0
        self._block: tuple[int, int, Groups, list[int]] | None = None

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch."""
        return self.steps * (self.ranks_per_step // self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        while self.epoch == epoch:
            batch = self._batch(epoch, self.step)
            # It counts as given before it is, so that a state saved in the body of the loop goes on behind it.
            self._stand(epoch, batch.given)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; nothing, if it is the one where the sampler stands."""
        epoch = count(NAME + ".set_epoch", "epoch", epoch, least=0)
        if epoch != self.epoch:
            self._stand(epoch, 0)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """All batches of this rank in an epoch, worked out when they are asked for; the sampler stays where it stands."""
        from seqpar.buckets.epoch_batches import EpochBatches

        epoch = count(NAME + ".batches", "epoch", epoch, least=0)
        return EpochBatches(partial(self._numbered, epoch), len(self))

    def metrics(self, epoch: int = 0) -> "SamplerMetrics":
        """What the batches of an epoch are like: padding, fillers, how mixed they are. Goes through all of its samples."""
        from seqpar.buckets.metrics import sampler_metrics

        epoch = count(NAME + ".metrics", "epoch", epoch, least=0)
        return sampler_metrics(self._order, self.plan, self._capacity, self._lengths, epoch)

    def state_dict(self) -> dict[str, int]:
        """Where the sampler stands, in four integers: "plan", "seed", "epoch", and "step", batches over all ranks."""
        return self._state(self.epoch, self.step)

    def state_after(self, batch: Any) -> dict[str, int]:
        """The state to resume from once training is done with a batch, or with the samples that a wrapped data set made of it."""
        done = getattr(batch, "batch", batch)
        if not isinstance(done, Batch):
            raise OptionError(
                f"{NAME}.state_after: {type(batch).__name__} is not a batch of a sampler. Give the Batch itself, or count "
                "batches and call state_at(epoch, batches)."
            )
        return self._state(done.epoch, done.given)

    def state_at(self, epoch: int, batches: int) -> dict[str, int]:
        """The state in which this rank has done so many batches of an epoch."""
        epoch = count(NAME + ".state_at", "epoch", epoch, least=0)
        done = count(NAME + ".state_at", "batches", batches, least=0)
        if done > len(self):
            raise OptionError(f"{NAME}.state_at: batches={batches} of an epoch of {len(self)}. Give fewer.")
        return self._state(epoch, done * self.world_size)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where another sampler stood, of any world size that divides `ranks_per_step`."""
        read = State.read(NAME + ".load_state_dict", state)
        read.check(self._fingerprint, self.seed, self.steps * self.ranks_per_step)
        if read.step % self.world_size:
            group, inside = divmod(read.step, self.ranks_per_step)
            raise OptionError(
                f"{NAME}.load_state_dict: the state stands inside a group, behind {inside} of its {self.ranks_per_step} batches, "
                f"which {self.world_size} ranks cannot go on from together. Resume with a world size that divides {inside}, "
                f"or from the end of a group: step={group * self.ranks_per_step}."
            )
        self._stand(read.epoch, read.step)

    def _state(self, epoch: int, step: int) -> dict[str, int]:
        if step == self.steps * self.ranks_per_step:
            epoch, step = epoch + 1, 0
        return {"plan": self._fingerprint, "seed": self.seed, "epoch": epoch, "step": step}

    def _stand(self, epoch: int, step: int) -> None:
        state = self._state(epoch, step)
        self.epoch, self.step = state["epoch"], state["step"]

    def _numbered(self, epoch: int, number: int) -> Batch:
        return self._batch(epoch, number * self.world_size)

    def _batch(self, epoch: int, step: int) -> Batch:
        """The batch of this rank when so many batches were given out."""
        group, inside = divmod(step, self.ranks_per_step)
        first, groups, tokens = self._block_with(epoch, group)
        i = group - first
        bucket = int(groups.buckets[i])
        start, end = int(groups.starts[i]), int(groups.starts[i + 1])
        # Dealt out like cards: shares of a group that is not full differ by one at most.
        own = groups.samples[start + inside + self.rank : end : self.ranks_per_step].tolist()
        assert self.plan.batch_sizes is not None
        own += [FILLER] * (self.plan.batch_sizes[bucket] - len(own))
        given = step + self.world_size
        return Batch(
            own,
            bucket=bucket,
            boundary=self.plan.boundaries[bucket],
            epoch=epoch,
            step=group,
            samples=end - start,
            tokens=tokens[i],
            ranks_per_step=self.ranks_per_step,
            world_size=self.world_size,
            last=given % self.ranks_per_step == 0,
            given=given,
        )

    def _block_with(self, epoch: int, group: int) -> tuple[int, Groups, list[int]]:
        """Some groups of which this is one: the first one's number, the groups, and the tokens of each."""
        block = self._block
        if block is None or block[0] != epoch or not block[1] <= group < block[1] + len(block[3]):
            count = min(max(1, BLOCK // max(self._capacity)), self.steps - group)
            groups = self._order.groups(epoch, group, count)
            tokens = np.add.reduceat(self._lengths[groups.samples], groups.starts[:-1]).tolist()
            self._block = block = epoch, group, groups, tokens
        return block[1:]

    def _laid_out(self, buckets: Array, remainder: str, randomness: float) -> tuple[Layout, str]:
        bounds = np.asarray(self.plan.boundaries).reshape(self.plan.n_buckets, -1)
        counts = np.bincount(buckets[buckets >= 0], minlength=self.plan.n_buckets).tolist()

        def layout(promote: bool) -> Layout:
            return lay_out(
                counts,
                self._capacity,
                next_bucket=self.plan.next_bucket,
                rising=np.argsort(bounds.sum(1), kind="stable").tolist(),
                holders=lambda b: np.flatnonzero((bounds >= bounds[b]).all(1)).tolist(),
                promote=promote,
                randomness=randomness,
            )

        if remainder != "auto":
            return layout(remainder == "promote"), remainder
        filled, promoted = layout(False), layout(True)
        if promoted.cost(self.plan.prices) < filled.cost(self.plan.prices):
            return promoted, "promote"
        return filled, "fill"


def _read(lengths: Any) -> Array:
    """Lengths of samples as whole numbers: (N,), or (N, 2) for pairs."""
    if is_histogram(lengths):
        raise OptionError(
            f"{NAME}: lengths is a histogram, which does not say how long each sample is. Give the length of each one."
        )
    values = on_host(NAME, "lengths", lengths)
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 2):
        raise ShapeError(
            f"{NAME}: lengths.shape={values.shape}. Give one number per sample, or a pair of them: (N,) or (N, 2)."
        )
    if not len(values):
        raise OptionError(f"{NAME}: lengths is empty. Give the length of at least one sample.")
    return whole(NAME, "lengths", values)


def _buckets(plan: "BucketPlan", lengths: Array) -> Array:
    try:
        return np.asarray(plan.bucket_of(lengths))
    except SeqparError as error:
        raise renamed(error, "BucketPlan.bucket_of", NAME) from error
