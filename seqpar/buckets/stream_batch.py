"""One batch of a stream: the samples themselves, what a training step has to know of them, and where to go on behind it."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from seqpar.buckets.batch import Batch
from seqpar.buckets.samples import Samples
from seqpar.errors import ArrayTypeError
from seqpar.plan_buckets import plan_buckets

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan


class StreamBatch(Samples):
    """Samples, as a list, with None in the places that no sample fills; `batch` has the facts, and is the samples' numbers."""

    batch: Batch
    state: dict[str, Any]
    """What `BucketStream.load_state_dict` takes to go on behind this batch, whichever process made it."""

    def __init__(self, samples: Iterable[Any], batch: Batch, template: Any, state: dict[str, Any]) -> None:
        super().__init__(samples, batch, template)
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.batch, self.template, self.state)


def collate(samples: Any, **options: Any) -> Any:
    """`BucketPlan.collate` for a batch that knows its boundary, whichever plan it comes from."""
    if not isinstance(samples, StreamBatch):
        raise ArrayTypeError(
            f"BucketStream.collate: {type(samples).__name__} is not a batch of a BucketStream. Give what iterating it gives; "
            "in a DataLoader say batch_size=None."
        )
    return _plan_of(samples.batch.boundary).collator(**options)(samples)


def collator(options: dict[str, Any]) -> Callable[[Any], Any]:
    """`collate` with choices, for other processes too."""
    return partial(collate, **options)


@lru_cache(maxsize=256)
def _plan_of(boundary: int) -> "BucketPlan":
    return plan_buckets([boundary], boundaries=[boundary])
