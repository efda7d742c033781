"""Samples that wait in the buckets of a stream, and which of them make the next group.

Used by `seqpar.buckets.stream_pass`. A group is what all ranks do at one step: so many samples of one bucket, drawn at random
from those that wait. Among buckets with a full group one is drawn for each full group it has, which keeps every bucket's
share of the buffer at its share of the stream. Where no bucket has a full group, shorter samples ride along in a longer
one: their places would hold fillers otherwise, so that this costs less than nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

PATIENCE = 8
"""Samples that have waited for so many times the buffer go first: of a common length one in 3,000 does, e**-8."""


class Waiting(NamedTuple):
    """A sample that has been read."""

    number: int
    """Samples read before it."""
    length: int
    sample: Any


class Group(NamedTuple):
    """Samples of one step over all ranks."""

    bucket: int
    members: list[Waiting]
    promoted: int
    """How many of them belong to shorter buckets."""


class Queues:
    """One queue for each bucket; before `arrange`, a single one for everything."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._boundaries: Sequence[float] = (float("inf"),)
        self._groups: Sequence[int] = (1,)
        self._prices: Sequence[float] = (1.0,)
        self._queues: list[list[Waiting]] = [[]]
        self._overdue: list[int] = []
        self._since = 0
        self.held = 0

    def arrange(self, boundaries: Sequence[int], groups: Sequence[int], prices: Sequence[float]) -> None:
        """Put everything into the buckets of a new plan: boundaries, samples in a group, the price of a place."""
        waiting = [one for queue in self._queues for one in queue]
        # The order in a queue is that of reading: the old buckets leave no trace in it.
        waiting.sort(key=lambda one: one.number)
        self._boundaries, self._groups, self._prices = boundaries, groups, prices
        self._queues = [[] for _ in boundaries]
        self._overdue = []
        self.held = 0
        for one in waiting:
            self.add(one)

    def add(self, one: Waiting) -> None:
        self._queues[bisect_left(self._boundaries, one.length)].append(one)
        self.held += 1

    @property
    def longest(self) -> int:
        """The longest sample that waits."""
        return max((one.length for queue in self._queues for one in queue), default=0)

    def look_for_overdue(self, since: int) -> None:
        """Buckets with samples older than number `since` come next."""
        self._since = since
        self._overdue = [b for b, queue in enumerate(self._queues) if _oldest(queue) < since]

    def group(self) -> Group:
        """A full group. The buffer holds as many samples as the largest one has, so that there always is one."""
        while self._overdue:
            bucket = self._overdue[0]
            if self._completed(bucket) is not None:
                return self._taken(bucket, self._old(bucket))
            # Too few of them, and no shorter ones: they ride in the next longer bucket.
            self._overdue = sorted({bucket + 1, *self._overdue[1:]})
            self._queues[bucket + 1] += self._old(bucket, len(self._queues[bucket]))
        bucket = self._full_bucket()
        if bucket < 0:
            waste = {b: w for b in range(len(self._queues)) if (w := self._completed(b)) is not None}
            bucket = min(waste, key=lambda b: (waste[b], b))
        return self._taken(bucket, [])

    def last_group(self, promote: bool) -> Group:
        """At the end of the stream: a full group as long as there is one, then what is left, by bucket or promoted."""
        bucket = self._full_bucket()
        if bucket >= 0:
            return self._taken(bucket, [])
        left = [b for b, queue in enumerate(self._queues) if queue]
        if not promote:
            return self._rest(left[int(self._random() * len(left))])
        # As a sampler with all lengths does: what is beyond the last full group rides in the next longer bucket.
        bucket = left[0]
        while bucket + 1 < len(self._queues):
            self._queues[bucket + 1] += self._queues[bucket]
            self._queues[bucket] = []
            bucket += 1
            if len(self._queues[bucket]) >= self._groups[bucket]:
                return self._taken(bucket, [])
        return self._rest(bucket)

    def _full_bucket(self) -> int:
        """Drawn among all full groups, -1 if there is none."""
        full = [len(queue) // size for queue, size in zip(self._queues, self._groups, strict=True)]
        drawn = int(self._random() * sum(full))
        for bucket, number in enumerate(full):
            if drawn < number:
                return bucket
            drawn -= number
        return -1

    def _completed(self, bucket: int) -> float | None:
        """What completing a group with shorter samples wastes, as a share of its cost; None if there are too few."""
        missing, waste = self._groups[bucket] - len(self._queues[bucket]), 0.0
        price = self._prices[bucket]
        for shorter in range(bucket - 1, -1, -1):
            if missing <= 0:
                break
            riders = min(missing, len(self._queues[shorter]))
            waste += riders * (price - self._prices[shorter])
            missing -= riders
        return None if missing > 0 else waste / (self._groups[bucket] * price) if price else 0.0

    def _old(self, bucket: int, most: int | None = None) -> list[Waiting]:
        """Take the overdue samples out of a queue, as many as a group has, the oldest ones."""
        queue = self._queues[bucket]
        queue.sort(key=lambda one: one.number)
        old = bisect_left(queue, self._since, key=lambda one: one.number)
        taken = min(old, self._groups[bucket] if most is None else most)
        self._queues[bucket] = queue[taken:]
        if taken == old and most is None:
            self._overdue.remove(bucket)
        return queue[:taken]

    def _taken(self, bucket: int, members: list[Waiting]) -> Group:
        """A full group with these members, the rest drawn from the bucket and, where it has too few, from shorter ones."""
        size, source = self._groups[bucket], bucket
        while len(members) < size:
            members += self._drawn(source, size - len(members))
            source -= 1
        return self._counted(bucket, members)

    def _rest(self, bucket: int) -> Group:
        return self._counted(bucket, self._drawn(bucket, len(self._queues[bucket])))

    def _counted(self, bucket: int, members: list[Waiting]) -> Group:
        self.held -= len(members)
        shorter = self._boundaries[bucket - 1] if bucket else -1
        return Group(bucket, members, sum(one.length <= shorter for one in members))

    def _drawn(self, bucket: int, most: int) -> list[Waiting]:
        queue, random = self._queues[bucket], self._random
        found = []
        for _ in range(min(most, len(queue))):
            i = int(random() * len(queue))
            queue[i], queue[-1] = queue[-1], queue[i]
            found.append(queue.pop())
        return found


def _oldest(queue: list[Waiting]) -> float:
    return min((one.number for one in queue), default=float("inf"))
