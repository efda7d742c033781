"""The plans of a stream: made of the lengths read so far, and made anew when that pays or when a longer sample comes.

Used by `seqpar.buckets.stream_pass`. A new plan has a price that its predicted cost does not show: new shapes, which compilers
charge for. So it is taken only if it costs less by more than `hysteresis` on the recent lengths; and where one is needed, for a
sample longer than all boundaries, it is made of shapes that were in use already, and one new one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.batch_sizes import Batching
from seqpar.buckets.lengths import Histogram, histogram
from seqpar.buckets.plan import BucketPlan
from seqpar.errors import OptionError, SeqparError, renamed
from seqpar.plan_buckets import CURVE, plan_buckets

Array = Any
NAME = "BucketStream"

# Searching among 12,000 distinct lengths takes seconds without a compiler, among 4,096 a tenth of that.
EXACT = 4096
FINE = 256
"""Beyond, lengths are taken together in so many steps to each power of two: boundaries stay lengths that occur, and those
between two of them cost 0.4 % more at most."""
HEADROOM = 8
"""A new longest boundary is longer than the last one by this part of it at least: a stream sorted by length would have a
new shape with each group otherwise."""


class Adoption(NamedTuple):
    """A plan of a stream, since when, and why."""

    plan: BucketPlan
    epoch: int
    step: int
    """The first group that it is for."""
    read: int
    """Samples read by then."""
    why: str
    """"first", "given", "longer" (a sample was longer than all boundaries) or "cheaper"."""
    gain: float
    """Share of the cost that it was predicted to save; 0 for those that were needed anyhow."""


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What plans are made of, besides lengths."""

    rules: Batching
    n_buckets: int | None
    cost: Any
    multiple_of: int
    max_padding: float
    max_length: int | None
    on_overflow: str
    ranks: int
    buffer: int
    hysteresis: float
    max_shapes: int | None
    fixed: bool
    """No rule for batch sizes was given, only a plan: it stays."""

    @property
    def facts(self) -> tuple[Any, ...]:
        """All of this that decides which batches there are, as words and numbers that are the same in every process.

        A cost and a model of memory are functions, of which this has the type alone: where others of that type make other groups,
        `StreamState.groups` tells.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rules", "cost")}
        cost = self.cost if isinstance(self.cost, str) else type(self.cost).__qualname__
        memory = self.rules.memory and type(self.rules.memory).__qualname__
        # NumPy's numbers read differently from those that they are equal to.
        own = (self.rules.batch_size, self.rules.max_tokens, None, self.rules.multiple_of)
        rules = (number if number is None else int(number) for number in own)
        return (*given.items(), *rules, cost, memory)

    def start(self, plan: BucketPlan) -> BucketPlan:
        """A given plan with the batch sizes of the rules, checked."""
        if self.max_shapes is not None and plan.n_buckets > self.max_shapes:
            raise OptionError(
                f"{NAME}: the plan has {plan.n_buckets} boundaries, and max_shapes={self.max_shapes}. Raise that."
            )
        if self.fixed:
            return plan
        own = self.unseen(plan.boundaries)
        if plan.batch_sizes is None:
            return own
        if plan.batch_sizes != own.batch_sizes:
            raise OptionError(
                f"{NAME}: the plan has batch sizes {plan.batch_sizes}, and with {self.rules} they are {own.batch_sizes}. "
                "Give the rules that the plan was made with, or none to keep it for good."
            )
        return plan

    def limit(self, length: int, plan: BucketPlan | None) -> int:
        """How much of a sequence of this length can be served."""
        if self.fixed:
            assert plan is not None
            return min(length, plan.limit)
        step = self.multiple_of
        most = length if self.max_length is None else min(length, self.max_length)
        return min(most, self.rules.longest(step, _up(most, step)))

    def free(self, given: Histogram, whole: bool = False) -> BucketPlan:
        """The best plan for lengths, with groups that the buffer holds unless they are those of the `whole` stream."""
        most = None if self.n_buckets is not None or self.max_shapes is None else min(self.max_shapes, CURVE)
        choice = {"n_buckets": self.n_buckets, "max_buckets": most, "max_length": self.max_length}
        least = 0 if whole else self._least(int(given.lengths[-1]))
        if least <= given.lengths[0]:
            return self._plan(given, **choice)
        lifted = histogram(NAME, (np.maximum(given.lengths, least), given.counts))
        return self.of(self._plan(lifted, **choice).boundaries, given)

    def _least(self, longest: int) -> int:
        """The least boundary of which the buffer holds a group, 0 if it does not even hold one of the longest."""
        step = self.multiple_of
        low, high = 1, _up(longest, step) // step
        while low < high:
            middle = (low + high) // 2
            if self._group(middle * step) <= self.buffer:
                high = middle
            else:
                low = middle + 1
        return min(low * step, longest) if self._group(low * step) <= self.buffer else 0

    def _group(self, boundary: int) -> int:
        sizes = self.rules.sizes(np.asarray([boundary]))
        assert sizes is not None
        return int(sizes[0]) * self.ranks

    def of(self, boundaries: Sequence[int], given: Histogram) -> BucketPlan:
        """The plan of these boundaries for lengths."""
        return self._plan(given, boundaries=boundaries, max_length=self.max_length)

    def unseen(self, boundaries: Sequence[int]) -> BucketPlan:
        """The plan of these boundaries when no lengths are known: one for each of them."""
        most = boundaries[-1] if self.max_length is None else self.max_length
        return self.of(boundaries, histogram(NAME, np.minimum(boundaries, most)))

    def among(self, shapes: Iterable[int], number: int, given: Histogram) -> BucketPlan:
        """The best plan whose boundaries are among these, of which one at least holds all lengths."""
        ends = np.asarray(sorted(shapes))
        # A length costs what the first of them that holds it costs, so that their own histogram says which are best.
        counts = np.zeros(len(ends), np.int64)
        np.add.at(counts, np.searchsorted(ends, given.lengths), given.counts)
        kept = counts > 0
        chosen = self._plan(Histogram(ends[kept], counts[kept]), n_buckets=min(number, int(kept.sum())))
        return self.of(chosen.boundaries, given)

    def too_large(self, plan: BucketPlan) -> int:
        """The bucket of which a group does not fit into the buffer, -1 if all do."""
        assert plan.batch_sizes is not None
        sizes = [size * self.ranks for size in plan.batch_sizes]
        return sizes.index(max(sizes)) if max(sizes) > self.buffer else -1

    def _plan(self, given: Histogram, **choice: Any) -> BucketPlan:
        rules = self.rules
        try:
            return plan_buckets(
                given,
                cost=self.cost,
                multiple_of=self.multiple_of,
                batch_size=rules.batch_size,
                max_tokens=rules.max_tokens,
                memory=rules.memory,
                batch_multiple_of=rules.multiple_of,
                on_overflow=self.on_overflow,
                max_padding=self.max_padding,
                ranks_per_step=self.ranks,
                **choice,
            )
        except SeqparError as error:
            raise renamed(error, "plan_buckets", NAME) from error


class Plans:
    """The plan in force, those before it, and all shapes that were used."""

    def __init__(
        self, planning: Planning, start: BucketPlan | None, epoch: int = 0, shapes: Iterable[int] = ()
    ) -> None:
        self._planning = planning
        self.present = start
        self.shapes = set(shapes)
        self.history: list[Adoption] = []
        self.reviews = 0
        if start is not None:
            self.history.append(Adoption(start, epoch, 0, 0, "given", 0.0))

    def copy(self) -> "Plans":
        """The same, to go on from here again."""
        found = Plans(self._planning, None, 0, self.shapes)
        found.present, found.history, found.reviews = self.present, list(self.history), self.reviews
        return found

    def first(self, lengths: Iterable[int], whole: bool, at: tuple[int, int, int]) -> BucketPlan:
        """The plan for a full buffer, or for the `whole` of a shorter stream."""
        return self._adopt(self._planning.free(_coarse(lengths), whole), at, "first", 0.0)

    def longer(self, length: int, lengths: Iterable[int], at: tuple[int, int, int]) -> BucketPlan | None:
        """A plan that holds a longer sample too, or None if that is one shape too many."""
        planning, present = self._planning, self.present
        assert present is not None
        most = planning.max_shapes
        held = [shape for shape in self.shapes if shape >= length]
        last = min(held) if held else self._headroom(length, present.boundaries[-1])
        # Boundaries in force that no batch has had yet are shapes to be had, as far as the limit goes.
        usable = self.shapes | {last}
        if most is not None and len(usable) > most:
            return None
        if most is None or len(usable | set(present.boundaries)) <= most:
            usable |= set(present.boundaries)
        number = planning.n_buckets if planning.n_buckets is not None else present.n_buckets + 1
        given = _coarse((*lengths, length))
        return self._adopt(planning.among(usable, number, given), at, "longer", 0.0)

    def review(self, lengths: Iterable[int], longest: int, at: tuple[int, int, int]) -> BucketPlan | None:
        """A plan for recent lengths, and for the longest that waits, if it is better enough than the one in force."""
        planning, present = self._planning, self.present
        assert present is not None
        self.reviews += 1
        if not (longest or any(lengths)):
            return None
        given = _coarse((*lengths, longest))
        now = planning.of(present.boundaries, given).predicted_cost
        plan = planning.free(given)
        # One shape is kept for a sample longer than all others, which needs one.
        most = None if planning.max_shapes is None else planning.max_shapes - 1
        if most is not None and len(self.shapes.union(plan.boundaries)) > most:
            plan = self._with_few_new(most, plan, given)
        gain = 1.0 - plan.predicted_cost / now if now > 0 else 0.0
        if gain <= planning.hysteresis or planning.too_large(plan) >= 0:
            return None
        return self._adopt(plan, at, "cheaper", gain)

    def _with_few_new(self, most: int, wanted: BucketPlan, given: Histogram) -> BucketPlan:
        """A plan among the shapes that were used, and those of a wanted one that help most."""
        planning, present = self._planning, self.present
        assert present is not None
        last = present.boundaries[-1]
        usable = {shape for shape in self.shapes if shape < last} | {last}
        number = planning.n_buckets if planning.n_buckets is not None else present.n_buckets
        best = planning.among(usable, number, given)
        new = set(wanted.boundaries) - self.shapes
        while new and len(self.shapes | usable) < most:
            trials = [planning.among(usable | {shape}, number, given) for shape in sorted(new)]
            best = min(trials, key=lambda plan: plan.predicted_cost)
            added = new.intersection(best.boundaries)
            if not added:
                break
            usable |= added
            new -= added
        return best

    def _headroom(self, length: int, last: int) -> int:
        wanted = max(length, last + last // HEADROOM)
        return _up(self._planning.limit(wanted, None), self._planning.multiple_of)

    def _adopt(self, plan: BucketPlan, at: tuple[int, int, int], why: str, gain: float) -> BucketPlan:
        epoch, step, read = at
        self.present = plan
        self.history.append(Adoption(plan, epoch, step, read, why, gain))
        return plan


def check_group(planning: Planning, plan: BucketPlan) -> None:
    """A group that the buffer cannot hold would never be full."""
    bucket = planning.too_large(plan)
    if bucket >= 0:
        assert plan.batch_sizes is not None
        size = plan.batch_sizes[bucket]
        group = size * planning.ranks
        raise OptionError(
            f"{NAME}: buffer={planning.buffer} is less than a group of {group} samples, {size} of boundary "
            f"{plan.boundaries[bucket]} on each of {planning.ranks} ranks, which would never be full. "
            f"Give buffer={group} or more, four times that for batches of samples that are well mixed, or a smaller batch_size=."
        )


def _coarse(lengths: Iterable[int]) -> Histogram:
    """A histogram of which searching takes a moment."""
    found = histogram(NAME, np.fromiter(lengths, np.int64))
    if found.lengths.size <= EXACT:
        return found
    octave = np.maximum(np.frexp(found.lengths)[1] - np.frexp(FINE)[1], 0)
    step = found.lengths >> octave
    last = np.append((step[1:] != step[:-1]) | (octave[1:] != octave[:-1]), True)
    ends = np.flatnonzero(last)
    return Histogram(found.lengths[ends], np.add.reduceat(found.counts, np.concatenate([[0], ends[:-1] + 1])))


def _up(length: int, step: int) -> int:
    return max(-(-length // step), 1) * step
