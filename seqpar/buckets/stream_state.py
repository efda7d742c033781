"""The state of a `seqpar.BucketStream`: where it stands, and by what the same stream is known again."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from seqpar.buckets.options import count
from seqpar.errors import OptionError


class StreamState(NamedTuple):
    """Numbers, as `BucketStream.state_dict` gives them."""

    plan: int
    """Of all options that decide the order."""
    seed: int
    epoch: int
    step: int
    """Batches given out over all ranks."""
    read: int
    """Samples read for them."""
    lengths: int
    """Checksum of their lengths."""
    groups: int
    """Checksum of the groups that were made of them."""
    start: tuple[int, ...]
    """Boundaries in force when the pass began, none in the first one."""
    shapes: tuple[int, ...]
    """Boundaries that batches had had by then."""
    origin: int
    """Where the workers of a data loader began to take turns."""

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "start": list(self.start), "shapes": list(self.shapes)}

    @classmethod
    def from_dict(cls, name: str, given: Any) -> "StreamState":
        if not isinstance(given, Mapping) or set(given) != set(cls._fields):
            has = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise OptionError(
                f"{name}: the state has {has}, not {', '.join(cls._fields)}. Give what state_dict() returned."
            )
        found: dict[str, Any] = {
            what: tuple(count(name, what, each) for each in given[what])
            if what in ("start", "shapes")
            else count(name, what, given[what], least=0, most=math.inf)
            for what in cls._fields
        }
        return cls(**found)

    def check(self, name: str, plan: int, seed: int, world_size: int, ranks: int) -> None:
        """Refuse a state with which this stream would go on differently."""
        if self.plan != plan:
            raise OptionError(
                f"{name}: the state belongs to a stream with other options (batch sizes, buckets, buffer, ranks_per_step, "
                "plan, ...). Build the stream with those of the saved one; ranks_per_step is its world size unless given."
            )
        if self.seed != seed:
            raise OptionError(
                f"{name}: the state was saved with seed={self.seed}, and this stream has seed={seed}. "
                f"Build it with seed={self.seed}."
            )
        group, inside = divmod(self.step, ranks)
        if inside % world_size:
            raise OptionError(
                f"{name}: the state stands inside a group, behind {inside} of its {ranks} batches, which {world_size} ranks "
                f"cannot go on from together. Resume with a world size that divides {inside}."
            )

    def compare(self, name: str, read: int, lengths: int, groups: int, ended: bool) -> None:
        """Refuse other lengths, and other groups of the same ones, when the iterable was read again."""
        if ended:
            raise OptionError(
                f"{name}: the iterable ended after {read} samples, and the state was saved after {self.read}. "
                "Give the same samples, and the cost and memory of the saved stream."
            )
        if read == self.read and lengths != self.lengths:
            raise OptionError(
                f"{name}: read again, the first {read} samples have other lengths than those of the saved stream. "
                "Give the same samples in the same order."
            )
        if (read, groups) != (self.read, self.groups):
            raise OptionError(
                f"{name}: read again, the first {read} samples make other groups than those of the saved stream, for which "
                f"{self.read} had been read: their lengths, cost= or memory= are others. Give the same samples, and the cost and "
                "memory of the saved stream; what is measured anew is not the same."
            )
