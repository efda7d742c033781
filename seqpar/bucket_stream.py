"""`seqpar.BucketStream`: batches of one shape from samples that come one by one, of lengths that nobody knows beforehand."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from seqpar.buckets.batch import FILLER, Batch
from seqpar.buckets.options import count, one_of, places
from seqpar.buckets.permutation import key_of
from seqpar.buckets.stream_batch import StreamBatch, collate, collator
from seqpar.buckets.stream_options import read_planning
from seqpar.buckets.stream_pass import Pass, StreamGroup
from seqpar.buckets.stream_plans import NAME, Adoption, Plans
from seqpar.buckets.stream_samples import cut_sequence, default_length
from seqpar.buckets.stream_state import StreamState
from seqpar.dispatch.frameworks import loaded_bindings
from seqpar.errors import OptionError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan
    from seqpar.buckets.stream_metrics import StreamMetrics


class BucketStream:
    """Batches of samples of about one length from an iterable, planned while it is read.

    Iterating gives `StreamBatch` after `StreamBatch`: lists of samples, None for a filler, whose `batch` is a `seqpar.Batch` with
    the samples' numbers in the stream and what a training step has to know. `collate` makes arrays of them. It reads
    `buffer` samples ahead, plans (`seqpar.plan_buckets`), and gives out a *group* whenever the buffer is full: what all
    ranks do for one step of the optimiser, `ranks_per_step` batches of one shape. Each sample comes out exactly once.

    Parameters
    ----------
    iterable
        Of samples that are cheap to hold and to read twice, such as keys, paths or sequences of tokens: each rank reads all of
        them, and resuming reads those that were read before.
    length
        A function from a sample to its number of steps. By default ``shape[0]`` of an array and `len` of anything else but
        tuples and mappings, where it cannot be told which part has the steps.
    buffer
        The most samples that are held at a time. Boundaries so short that a group of them has more are not chosen, and if there
        is no other one, that is an error. With less than the groups of all buckets together, samples ride in longer buckets
        now and then (`metrics().promoted`).
    n_buckets, cost, multiple_of, max_padding, max_length, batch_size, max_tokens, memory, batch_multiple_of, on_overflow
        As for `seqpar.plan_buckets`. A rule for batch sizes is needed, or a `plan` with batch sizes, which then stays.
    cut
        ``cut(sample, length)`` shortens a sample under ``on_overflow="truncate"``: ``sample[:length]`` if `length` is not given.
    replan_every, hysteresis
        Every `replan_every` samples (`buffer`, by default) a plan for the last ten buffers of lengths is made, and taken if its
        predicted cost is lower by more than this share. New shapes cost a compilation.
    max_shapes
        The most different boundaries that batches ever have. Then plans choose among them, and a sample longer than all of them
        is an overflow. By default there is no limit: each new longest sample may bring one, at least an eighth longer.
    plan
        The plan to begin with, rather than one for the first buffer.
    seed, rank, world_size, ranks_per_step, remainder
        As for `seqpar.BucketSampler`. Every rank reads the same iterable, with the same `cost` and `memory`, and takes its own
        batches of each group. What is measured differs from rank to rank: measure on one, and send what `to_json` gives. Where
        ``state_dict()["groups"]``, a checksum of the groups given out, differs between ranks, one of these does; the iterable,
        if ``["lengths"]``, a checksum of the lengths read, differs for the same ``["read"]``.
    workers
        In a data loader with several worker processes each of them has a copy of the stream. "error" refuses to give everything
        out several times. "share": each reads the whole of the iterable and gives out its share, so that batches come in
        the same order as without workers. The iterable must not be one that gives each worker samples of its own.

    Attributes
    ----------
    plan
        The plan in force, None before the first one.
    plans
        All plans: since which step, and why.
    epoch, step
        Where the stream stands: `step` batches of the pass were given out over all ranks, as `given` of a `Batch` counts. Its
        `step` is another number: that of its group.

    Notes
    -----
    *Order.* A bucket is drawn at random among full groups, and its samples among those that wait. Which ones follows from the
    seed, the epoch and the lengths alone. A sample waits for about nine buffers at most, then its group is completed with
    shorter samples, or it rides in a longer bucket. Fillers come at the end of the stream only.

    *PyTorch.* ``class Streamed(seqpar.BucketStream, torch.utils.data.IterableDataset): pass`` is all that a data loader asks for:
    ``DataLoader(Streamed(samples, ...), batch_size=None, collate_fn=seqpar.BucketStream.collate)``. Worker processes do not tell
    the stream how far they came: call `set_epoch` before each epoch.

    *Passes.* ``for`` goes on where the stream stands: behind a `break`, or an error of the iterable, nothing is lost or comes
    twice. Where an iterator ends with its error, as a generator does, a new `iter(iterable)` is read up to here; if the iterable
    is that iterator itself, what it gave before is all there is. Behind the end of a pass the next one begins with a
    new `iter(iterable)`, the next epoch, and the plan in force. `set_epoch` leaves a pass under way.

    *Resuming.* `load_state_dict` makes the next iteration read the iterable up to where the state was saved, only lengths being
    looked at, and goes on identically, with any world size that divides `ranks_per_step`; a stream whose lengths differ is
    refused, and so is a cost or memory that makes other groups. Data loaders draw batches ahead of the training: save
    ``batch.state`` of the last batch that was trained on.

    Examples
    --------
    >>> import seqpar
    >>> words = "a few words of different lengths that come one by one".split()
    >>> stream = seqpar.BucketStream(words, n_buckets=2, batch_size=3, seed=0)
    >>> for samples in stream:
    ...     print(samples, samples.batch.boundary)
    ['lengths', 'words', 'different'] 9
    ['that', 'one', 'few'] 4
    ['of', 'one', 'by'] 4
    ['come', 'a', None] 4
    """

    def __init__(
        self,
        iterable: Iterable[Any],
        *,
        length: Callable[[Any], Any] | None = None,
        n_buckets: int | None = None,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        memory: Any = None,
        batch_multiple_of: int = 1,
        cost: Any = "padding",
        multiple_of: int = 1,
        max_padding: float = 0.1,
        max_length: int | None = None,
        on_overflow: str | None = None,
        cut: Callable[[Any, int], Any] | None = None,
        buffer: int = 10_000,
        replan_every: int | None = None,
        hysteresis: float = 0.02,
        max_shapes: int | None = None,
        plan: "BucketPlan | None" = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        ranks_per_step: int | None = None,
        remainder: str = "fill",
        workers: str = "error",
    ) -> None:
        if isinstance(iterable, (str, bytes)) or not hasattr(iterable, "__iter__"):
            raise OptionError(f"{NAME}: {type(iterable).__name__} is no iterable of samples. Give one.")
        one_of(NAME, "remainder", remainder, ("fill", "promote"))
        one_of(NAME, "workers", workers, ("error", "share"))
        self.iterable = iterable
        self.seed = count(NAME, "seed", seed, least=0, most=math.inf)
        self.rank, self.world_size, self.ranks_per_step = places(NAME, rank, world_size, ranks_per_step)
        self._planning = read_planning(
            plan, self.ranks_per_step, n_buckets=n_buckets, cost=cost, multiple_of=multiple_of, max_padding=max_padding,
            max_length=max_length, batch_size=batch_size, max_tokens=max_tokens, memory=memory,
            batch_multiple_of=batch_multiple_of, on_overflow=on_overflow, buffer=buffer, hysteresis=hysteresis,
            max_shapes=max_shapes,
        )  # fmt: skip
        if self._planning.on_overflow == "truncate" and length is not None and cut is None:
            raise OptionError(
                f"{NAME}: on_overflow='truncate' with a length= of your own does not say how a sample is cut. "
                "Give cut=, a function (sample, length) -> sample."
            )
        self._length = default_length if length is None else length
        self._cut = cut_sequence if cut is None else cut
        self._workers = workers
        self._promote = remainder == "promote"
        self._replan_every = count(NAME, "replan_every", buffer if replan_every is None else replan_every, 1)
        self._given = None if plan is None else self._planning.start(plan)
        key = None if self._given is None else self._given.key
        self._fingerprint = key_of(self._planning.facts, self._replan_every, remainder, key) >> 1
        self._plans = Plans(self._planning, self._given)
        self._pass: Pass | None = None
        self._in_turns = False
        self._leave(0)

    @property
    def plan(self) -> "BucketPlan | None":
        """The plan in force, None before the first one."""
        return self._plans.present

    @property
    def plans(self) -> tuple[Adoption, ...]:
        """All plans since the stream was made or its state loaded: since which step, and why."""
        return tuple(self._plans.history)

    def __iter__(self) -> Iterator[StreamBatch]:
        worker, workers = self._share()
        if not self._under_way or self._cut_short():
            self._begin()
        running, origin = self._pass, self._state.origin
        while self._under_way and self._pass is running:
            batch = self._next()
            if batch is None:
                self._leave(self.epoch + 1)
            elif ((self.step - origin) // self.world_size - 1) % workers == worker:
                yield batch
            # Its samples are not to be held while the buffer fills again.
            del batch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, whose order is another one; nothing, if it is the one where the stream stands."""
        epoch = count(NAME + ".set_epoch", "epoch", epoch, least=0)
        if epoch != self.epoch:
            self._leave(epoch)

    collate = staticmethod(collate)

    @staticmethod
    def collator(**options: Any) -> Callable[[Any], Any]:
        """`collate` with choices: those of `BucketPlan.collator`."""
        return collator(options)

    def metrics(self) -> "StreamMetrics":
        """What the batches of the present or last pass are like so far: padding, fillers, how mixed they are, shapes, plans."""
        from seqpar.buckets.stream_metrics import Counts, stream_metrics

        found, plans = self._pass, self._plans
        return stream_metrics(
            Counts() if found is None else found.counts,
            self.epoch if found is None else found.epoch,
            0 if found is None else found.read,
            len(plans.shapes),
            len(plans.history),
            plans.reviews,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: numbers, and two short lists of them."""
        return self._standing(self._in_turns).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where another stream stood; the next iteration reads the iterable from its start up to there."""
        name = NAME + ".load_state_dict"
        read = StreamState.from_dict(name, state)
        read.check(name, self._fingerprint, self.seed, self.world_size, self.ranks_per_step)
        start = None
        if read.start:
            own = self._given is not None and self._given.boundaries == read.start
            start = self._given if own else self._planning.unseen(read.start)
        self._plans = Plans(self._planning, start, read.epoch, read.shapes)
        self._pass = None
        self._leave(read.epoch)
        self.step, self._state = read.step, read

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which goes on from here by reading the iterable up to here."""
        state = self._standing(self._in_turns)
        left = {"_pass": None, "_group": None, "_under_way": False, "_plans": self._at_start}
        return {**self.__dict__, **left, "_state": state}

    def _standing(self, in_turns: bool) -> StreamState:
        return self._state if in_turns else self._state._replace(origin=self.step)

    def _leave(self, epoch: int) -> None:
        """Stand at the start of an epoch, the plan being that in force."""
        self.epoch, self.step = epoch, 0
        self._group: StreamGroup | None = None
        self._under_way = False
        # What is read again begins with these again.
        self._at_start = self._plans
        start = self._plans.present
        self._state = StreamState(
            plan=self._fingerprint,
            seed=self.seed,
            epoch=epoch,
            step=0,
            read=0,
            lengths=0,
            groups=0,
            start=() if start is None else start.boundaries,
            shapes=tuple(sorted(self._plans.shapes)),
            origin=0,
        )

    def _begin(self) -> None:
        """Begin a pass, and go to where the state stands in it."""
        state, plans = self._state, self._at_start.copy()
        found = Pass(
            iter(self.iterable),
            self._length,
            self._cut,
            self._planning,
            plans,
            seed=self.seed,
            epoch=self.epoch,
            replan_every=self._replan_every,
            promote=self._promote,
        )
        group, groups = None, -(-state.step // self.ranks_per_step)
        for _ in range(groups):
            group = found.group()
            if group is None:
                break
        if groups:
            state.compare(NAME, found.read, found.checksum, found.groups, ended=group is None)
        self._pass, self._plans, self._group, self._under_way = found, plans, group, True

    def _cut_short(self) -> bool:
        """Has the iterable to be read again up to here? An iterator that is its own iterable cannot be: it goes on, or ends."""
        found = self._pass
        return found is not None and found.iterator is not self.iterable and found.cut_short()

    def _next(self) -> StreamBatch | None:
        """The next batch of this rank, or None at the end of the pass."""
        inside = self.step % self.ranks_per_step
        assert self._pass is not None
        if not inside:
            # Nothing of the last group is held while the buffer fills.
            self._group = None
            self._group = self._pass.group()
        group = self._group
        if group is None:
            return None
        # Dealt out like cards: shares of a group that is not full differ by one at most.
        own = group.members[inside + self.rank :: self.ranks_per_step]
        empty = group.size - len(own)
        step = self.step // self.ranks_per_step
        self.step += self.world_size
        self._state = self._state._replace(
            step=self.step, read=self._pass.read, lengths=self._pass.checksum, groups=self._pass.groups
        )
        batch = Batch(
            [one.number for one in own] + [FILLER] * empty,
            bucket=group.bucket,
            boundary=group.plan.boundaries[group.bucket],
            epoch=self.epoch,
            step=step,
            samples=len(group.members),
            tokens=group.tokens,
            ranks_per_step=self.ranks_per_step,
            world_size=self.world_size,
            last=self.step % self.ranks_per_step == 0,
            given=self.step,
        )
        samples = [one.sample for one in own] + [None] * empty
        template = None if own else group.members[0].sample
        return StreamBatch(samples, batch, template, self._standing(False).to_dict())

    def _share(self) -> tuple[int, int]:
        """Which of how many copies of the stream this is, in the workers of a data loader."""
        for binding in loaded_bindings():
            found = binding.loading()
            if found is not None and found[1] > 1:
                if self._workers == "error":
                    raise OptionError(
                        f"{NAME}: {found[1]} workers of a data loader would each give out all samples. Say num_workers=1 "
                        'or 0, or workers="share", if the iterable gives the same samples in each of them.'
                    )
                self._in_turns = True
                return found
        return 0, 1
