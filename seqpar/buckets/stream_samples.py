"""How long a sample of a stream is, and how it is cut, where the user does not say: arrays and sequences."""

from collections.abc import Mapping
from typing import Any

from seqpar.buckets.stream_plans import NAME
from seqpar.errors import ArrayTypeError


def default_length(sample: Any) -> int:
    """Steps of an array along its first axis, or items of a sequence."""
    shape = getattr(sample, "shape", None)
    if shape is not None and len(shape):
        steps: int = shape[0]
        return steps
    # The length of a pair is 2, whatever is in it.
    if isinstance(sample, (tuple, Mapping)) or not hasattr(sample, "__len__"):
        raise ArrayTypeError(
            f"{NAME}: a sample is a {type(sample).__name__}, which does not say how many steps it has. "
            "Give length=, a function from a sample to its number of steps."
        )
    return len(sample)


def cut_sequence(sample: Any, length: int) -> Any:
    """The first steps of an array or a sequence."""
    return sample[:length]
