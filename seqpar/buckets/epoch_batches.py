"""An epoch of a `seqpar.BucketSampler` as a sequence, for loaders that ask for batches by their number."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from seqpar.buckets.batch import Batch


class EpochBatches(Sequence[Batch]):
    """The batches of one rank in one epoch, each worked out when it is asked for."""

    def __init__(self, batch_of: Callable[[int], Batch], count: int) -> None:
        self._batch_of = batch_of
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self._batch_of(i) for i in range(*number.indices(self._count))]
        i = operator.index(number)
        if not -self._count <= i < self._count:
            raise IndexError(f"batch {i} of an epoch of {self._count}")
        return self._batch_of(i % self._count)
