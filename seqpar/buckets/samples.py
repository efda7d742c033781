"""`BucketPlan.wrap`: a dataset that is asked for a `Batch` and answers with `Samples`, which know what they are a batch of.

PyTorch's DataLoader hands what its batch sampler yields to `__getitems__`, in a worker too; every other loop can do the same.
"""

from collections.abc import Iterable
from typing import Any

from seqpar.buckets.batch import FILLER, Batch
from seqpar.errors import ArrayTypeError, OptionError


class Samples(list[Any]):
    """The samples of one batch, None for a filler."""

    batch: Batch | None
    """What they are a batch of; None if they were asked for by a plain list of indices."""
    template: Any
    """A sample of the dataset, for batches of fillers alone: they are to have the same shape as all others."""

    def __init__(self, samples: Iterable[Any], batch: Batch | None = None, template: Any = None) -> None:
        super().__init__(samples)
        self.batch = batch
        self.template = template

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.batch, self.template)


class BatchedDataset:
    """A map-style dataset behind which -1 is a filler, and whose batches keep the facts of the `Batch` they were asked for by."""

    def __init__(self, dataset: Any) -> None:
        for needed in ("__len__", "__getitem__"):
            if not hasattr(dataset, needed):
                raise OptionError(
                    f"BucketPlan.wrap: {type(dataset).__name__} has no {needed}, so its samples cannot be fetched by index. Give "
                    "a map-style dataset or a list; for a stream of samples there is seqpar.BucketStream."
                )
        self.dataset = dataset
        self._template: Any = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample, or None for the index of a filler."""
        if isinstance(index, Batch):
            raise OptionError(
                "BucketPlan.wrap: a Batch was given where one sample is asked for. A data loader takes the sampler as "
                "batch_sampler=, not as sampler=; a loop of your own calls dataset.__getitems__(batch)."
            )
        if index == FILLER:
            return None
        self._check([index])
        return self._there([index], [self.dataset[index]])[0]

    def __getitems__(self, batch: Iterable[int]) -> Samples:
        """The samples of a batch, fetched together where the dataset can."""
        wanted = list(batch)
        real = [index for index in wanted if index != FILLER]
        self._check(real)
        together = getattr(self.dataset, "__getitems__", None)
        fetched = list(together(real)) if together and real else [self.dataset[index] for index in real]
        if len(fetched) != len(real):
            raise OptionError(
                f"BucketPlan.wrap: {type(self.dataset).__name__}.__getitems__ gave {len(fetched)} samples for {len(real)} "
                "indices. Give a dataset that returns one for each."
            )
        self._there(real, fetched)
        if not real and self._template is None and len(self.dataset):
            self._template = self.dataset[0]
        each = iter(fetched)
        return Samples(
            (None if index == FILLER else next(each) for index in wanted),
            batch if isinstance(batch, Batch) else None,
            None if real else self._template,
        )

    def _there(self, indices: list[int], fetched: list[Any]) -> list[Any]:
        """The samples, none of which is None: as a filler it would be lost without a word."""
        missing = next(
            (index for index, sample in zip(indices, fetched, strict=True) if sample is None), None
        )
        if missing is not None:
            raise ArrayTypeError(
                f"BucketPlan.wrap: sample {missing} of {type(self.dataset).__name__} is None, which stands for a filler. "
                "Leave it out of the dataset and of the lengths, or give a sample without steps."
            )
        return fetched

    def _check(self, indices: list[int]) -> None:
        below = next((index for index in indices if index < 0), None)
        if below is not None:
            raise OptionError(
                f"BucketPlan.wrap: {below} is no index of a sample; -1 alone stands for a filler. Give 0 or more."
            )
