"""One pass through the iterable of a stream: reading ahead, planning, and one group of samples after the other.

Used by `seqpar.BucketStream`. All that happens here follows from the options, the seed and the lengths that come, never from the
rank, so that every rank finds the same groups, and reading again finds them again.
"""

import operator
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from seqpar.buckets.plan import BucketPlan
from seqpar.buckets.stream_metrics import Counts
from seqpar.buckets.stream_plans import NAME, Planning, Plans, check_group
from seqpar.buckets.stream_queues import PATIENCE, Queues, Waiting
from seqpar.errors import ArrayTypeError, DtypeError, OptionError

RECENT = 10
"""Plans are made from this many times the buffer of lengths, the last ones that were read."""


class StreamGroup(NamedTuple):
    """What all ranks do at one step."""

    plan: BucketPlan
    bucket: int
    members: list[Waiting]
    size: int
    """Places in the batch of one rank."""
    tokens: int


class Pass:
    """The state between two groups.

    After an error about a sample `group` can be called again. After one of the iterable it can unless the pass was `cut_short`.
    """

    def __init__(
        self,
        iterator: Iterator[Any],
        length: Callable[[Any], Any],
        cut: Callable[[Any, int], Any],
        planning: Planning,
        plans: Plans,
        *,
        seed: int,
        epoch: int,
        replan_every: int,
        promote: bool,
    ) -> None:
        self.iterator = iterator
        self._length = length
        self._cut = cut
        self._planning = planning
        self._plans = plans
        self.epoch = epoch
        self._replan_every = replan_every
        self._promote = promote
        # Only `random()` is promised to give the same numbers with every version of Python.
        self._queues = Queues(Random((seed << 32) + epoch).random)
        self._recent: deque[int] = deque(maxlen=RECENT * planning.buffer)
        # At most one: its length could not be told, or it was asked for by `cut_short`.
        self._unread: list[Any] = []
        self._failed = False
        self._ended = False
        self._longest = -1
        self._reviewed = 0
        self._looked = 0
        self.counts = Counts()
        self.read = 0
        """Samples taken from the iterable."""
        self.checksum = 0
        """Of their lengths."""
        self.groups = 0
        """Checksum of the groups given out: their boundaries and the numbers of their samples."""
        if plans.present is not None:
            self._arrange(plans.present)

    def group(self) -> StreamGroup | None:
        """The next group, or None at the end."""
        self._fill()
        if self._ended and not self._queues.held and not self.counts.groups:
            raise OptionError(
                f'{NAME}: all {self.read} samples were dropped. Raise the limit, or say on_overflow="truncate".'
                if self.read
                else f"{NAME}: the iterable gave no sample. Give one that begins anew each time, not one that is used up."
            )
        if self._plans.present is None:
            self._reviewed = self.read
            self._arrange(self._plans.first(self._recent, self._ended, self._at))
        elif not self._planning.fixed and self.read - self._reviewed >= self._replan_every:
            self._reviewed = self.read
            found = self._plans.review(self._recent, self._queues.longest, self._at)
            if found is not None:
                self._arrange(found)
        if not self._queues.held:
            return None
        if self._ended:
            found_group = self._queues.last_group(self._promote)
        else:
            assert self._plans.present is not None
            check_group(self._planning, self._plans.present)
            if self.read - self._looked >= self._planning.buffer:
                self._looked = self.read
                self._queues.look_for_overdue(self.read - PATIENCE * self._planning.buffer)
            found_group = self._queues.group()
        return self._counted(*found_group)

    def cut_short(self) -> bool:
        """Did the iterator end with its last error, as generators do? Then what it had still to give does not come."""
        if self._failed:
            try:
                self._unread.append(next(self.iterator))
            except StopIteration:
                return True
            self._failed = False
        return False

    @property
    def _at(self) -> tuple[int, int, int]:
        return self.epoch, self.counts.groups, self.read

    def _fill(self) -> None:
        buffer, queues, length_of, unread = self._planning.buffer, self._queues, self._length, self._unread
        while queues.held < buffer and not self._ended:
            try:
                sample = unread.pop() if unread else next(self.iterator)
            except StopIteration:
                self._ended = True
                break
            except BaseException:
                self._failed = True
                raise
            cut = None
            try:
                if sample is None:
                    raise ArrayTypeError(
                        f"{NAME}: sample {self.read} is None, which stands for a filler. Leave it out."
                    )
                length = length_of(sample)
                if type(length) is not int or length < 0:
                    length = self._whole(length)
                served = length if length <= self._longest else self._admitted(length)
                if 0 <= served < length:
                    cut = self._cut(sample, served)
                    if cut is None:
                        raise ArrayTypeError(
                            f"{NAME}: cut= gave None for sample {self.read}, which stands for a filler. Give one that returns "
                            "the sample, cut."
                        )
                    sample = cut
                    self.counts.truncated += 1
            except BaseException:
                unread.append(sample)
                raise
            self.checksum = zlib.crc32(length.to_bytes(8, "little"), self.checksum)
            if served < 0:
                self.counts.dropped += 1
            else:
                self._recent.append(served)
                queues.add(Waiting(self.read, served, sample))
            self.read += 1
            # Otherwise the last sample would be held here as well.
            del sample, cut
        self.counts.peak = max(self.counts.peak, queues.held)

    def _whole(self, length: Any) -> int:
        """A length that is no plain whole number, checked."""
        try:
            number = -1 if isinstance(length, bool) else operator.index(length)
        except TypeError:
            raise DtypeError(
                f"{NAME}: the length of sample {self.read} is {length!r}, which is no whole number of steps. "
                "Give a length= that returns integers."
            ) from None
        if number < 0:
            raise OptionError(
                f"{NAME}: the length of sample {self.read} is {length!r}. Give a length= that returns numbers of zero or more."
            )
        return number

    def _admitted(self, length: int) -> int:
        """How much of a sample longer than all before is served, under a new plan if need be; -1 if it is left out."""
        planning, plans = self._planning, self._plans
        most = planning.limit(length, plans.present)
        if most < length:
            why = f"the plan serves at most {most}"
            if not planning.fixed:
                limits = [] if planning.max_length is None else [f"max_length={planning.max_length}"]
                why = f"with {', '.join([*limits, str(planning.rules)])} at most {most} fit"
            most = self._overflow(length, most, why)
            if most <= self._longest:
                return most
        if plans.present is None:
            self._longest = most
            return most
        found = plans.longer(most, self._recent, self._at)
        if found is None:
            why = f"one more shape would exceed max_shapes={planning.max_shapes}"
            return self._overflow(length, self._longest, why)
        self._arrange(found)
        return most

    def _overflow(self, length: int, most: int, why: str) -> int:
        policy = self._planning.on_overflow
        if policy == "error" or most < 1:
            raise OptionError(
                f"{NAME}: sample {self.read} has {length} steps, and {why}. Raise that"
                + ("." if policy != "error" else ', or say on_overflow="truncate" or "drop".')
            )
        return most if policy == "truncate" else -1

    def _arrange(self, plan: BucketPlan) -> None:
        assert plan.batch_sizes is not None
        ranks = self._planning.ranks
        self._queues.arrange(plan.boundaries, [size * ranks for size in plan.batch_sizes], plan.prices)
        self._longest = self._planning.limit(plan.limit, plan)

    def _counted(self, bucket: int, members: list[Waiting], promoted: int) -> StreamGroup:
        plan, counts = self._plans.present, self.counts
        assert plan is not None and plan.batch_sizes is not None
        boundary, size = plan.boundaries[bucket], plan.batch_sizes[bucket]
        lengths = [one.length for one in members]
        tokens = counts.group(boundary, size * self._planning.ranks, lengths, promoted)
        counts.longest_wait = max(counts.longest_wait, self.read - 1 - min(one.number for one in members))
        self._plans.shapes.add(boundary)
        self.groups = zlib.crc32(repr((boundary, [one.number for one in members])).encode(), self.groups)
        return StreamGroup(plan, bucket, members, size, tokens)
