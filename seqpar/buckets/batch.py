"""One batch of a plan: the indices of its samples, and what a training step has to know of it."""

from collections.abc import Iterable
from functools import total_ordering
from typing import Any, cast

import numpy as np

from seqpar.errors import OptionError


@total_ordering
class Filler:
    """-1 in all but one thing: nothing can be indexed by it.

    With the number itself a dataset that was not wrapped would give its last sample, once for each filler and without a word.
    """

    __slots__ = ()

    def __index__(self) -> int:
        raise OptionError(
            "Batch: a filler (-1) was used as an index, and no sample stands in its place. Fetch samples through "
            "plan.wrap(dataset), which is to be the outermost dataset, or take batch.real, the indices without fillers."
        )

    def __int__(self) -> int:
        return -1

    def __repr__(self) -> str:
        return "-1"

    def __eq__(self, other: object) -> Any:
        return other == -1

    def __hash__(self) -> int:
        return hash(-1)

    def __lt__(self, other: Any) -> Any:
        return other > -1

    def __reduce__(self) -> str:
        return "FILLER"  # there is one of it in each process


FILLER = cast(int, Filler())
"""Index of a place in a batch that no sample fills: it is padded whole, and its weight is zero."""


class Batch(list[int]):
    """Indices of samples, as a list, with -1, a filler, where there is none. It keeps its facts when it is pickled for a worker.

    Fillers equal -1, and are -1 in ``np.asarray(batch)``. As an index for a list, an array or a dataset they are an error.
    """

    bucket: int
    """Number of the bucket."""
    boundary: Any
    """What its samples are padded to: a length, or a pair of them."""
    epoch: int
    step: int
    """Number of its group in the epoch: the batches that one step of the optimiser sees, one or more for each rank. The `step` of
    a sampler or a stream, and of their states, counts batches, as `given` does."""
    samples: int
    """Samples in the whole group, over all ranks: what a mean over samples divides by."""
    tokens: int
    """Steps of those samples, without padding: what a mean over steps divides by."""
    ranks_per_step: int
    """Batches in a group."""
    world_size: int
    """Processes that share the group: each has `ranks_per_step / world_size` batches of it."""
    last: bool
    """Is it the last one of its group on this rank, so that the optimiser takes its step behind it?"""
    given: int
    """Batches of its epoch given out over all ranks once it is: where `BucketSampler.state_after` goes on."""

    def __init__(
        self,
        indices: Iterable[int],
        *,
        bucket: int,
        boundary: Any,
        epoch: int = 0,
        step: int = 0,
        samples: int,
        tokens: int,
        ranks_per_step: int = 1,
        world_size: int = 1,
        last: bool = True,
        given: int = 0,
    ) -> None:
        super().__init__(indices)
        self.bucket = bucket
        self.boundary = boundary
        self.epoch = epoch
        self.step = step
        self.samples = samples
        self.tokens = tokens
        self.ranks_per_step = ranks_per_step
        self.world_size = world_size
        self.last = last
        self.given = given

    @property
    def real(self) -> list[int]:
        """Its samples, without fillers."""
        return [index for index in self if index != FILLER]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Indices as an array of integers, with -1 for fillers."""
        return np.array([int(index) for index in self], np.int64 if dtype is None else dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), list(self), self.__dict__)


def _again(kind: type[Batch], indices: list[int], facts: dict[str, Any]) -> Batch:
    # Not by `kind(indices, **facts)`: users add facts of their own.
    batch = kind.__new__(kind)
    batch.extend(indices)
    vars(batch).update(facts)
    return batch
