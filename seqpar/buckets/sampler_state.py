"""The state of a `seqpar.BucketSampler`: four integers, and what is said when they belong to another sampler."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.options import count
from seqpar.buckets.permutation import key_of
from seqpar.errors import OptionError

Array = Any

# Three parts of 21 bits make 63, which is an int64 wherever a checkpoint puts it.
_BITS = 21
_MASK = (1 << _BITS) - 1
_PARTS = {
    "the plan (its boundaries, batch sizes or limit)": "Load the plan that the state was saved with",
    "the data (the buckets of its lengths)": "Give the lengths of the same samples in the same order",
    "the options (ranks_per_step, remainder, randomness, shuffle or longest_first)": (
        "Build the sampler with those of the saved one; ranks_per_step is its world size unless given"
    ),
}


def fingerprint(plan: int, buckets: Array, options: tuple[Any, ...]) -> int:
    """What decides the order of the batches, as one number whose parts tell which of it differs."""
    data = hashlib.blake2b(np.ascontiguousarray(buckets, "<i4").data, digest_size=8).hexdigest()
    number = 0
    for part in (plan, data, options):
        number = number << _BITS | key_of(part) & _MASK
    return number


class State(NamedTuple):
    """A state that was given to load."""

    name: str
    plan: int
    seed: int
    epoch: int
    step: int

    @classmethod
    def read(cls, name: str, given: Any) -> "State":
        wanted = cls._fields[1:]
        if not isinstance(given, Mapping) or set(given) != set(wanted):
            has = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise OptionError(
                f"{name}: the state has {has}, not {', '.join(wanted)}. Give what state_dict() returned."
            )
        return cls(name, *(count(name, key, given[key], least=0, most=math.inf) for key in wanted))

    def check(self, expected: int, seed: int, batches: int) -> None:
        """Refuse a state that would go on with other batches than those of the sampler that saved it."""
        shifts = range(_BITS * (len(_PARTS) - 1), -1, -_BITS)
        different = [
            (part, way_out)
            for shift, (part, way_out) in zip(shifts, _PARTS.items(), strict=True)
            if (self.plan ^ expected) >> shift & _MASK
        ]
        if different or self.plan != expected:
            parts = " and ".join(part for part, _ in different)
            raise OptionError(
                f"{self.name}: the state belongs to other batches, for {parts} differ. "
                + ". ".join(way_out for _, way_out in different)
                + "."
            )
        if self.seed != seed:
            raise OptionError(
                f"{self.name}: the state was saved with seed={self.seed}, and this sampler has seed={seed}. "
                f"Build it with seed={self.seed}."
            )
        if self.step > batches:
            raise OptionError(
                f"{self.name}: step={self.step} is beyond the end of an epoch of {batches} batches. "
                "Give what state_dict() returned."
            )
