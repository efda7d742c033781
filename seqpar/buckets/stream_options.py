"""Checks of the options of `seqpar.BucketStream` that say what its plans are made of."""

from typing import TYPE_CHECKING, Any

from seqpar.buckets.batch_sizes import batching
from seqpar.buckets.options import count, fraction, one_of
from seqpar.buckets.prices import read_cost
from seqpar.buckets.stream_plans import NAME, Planning
from seqpar.errors import OptionError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan


def read_planning(
    plan: "BucketPlan | None", ranks: int, *, n_buckets: Any, cost: Any, multiple_of: Any, max_padding: Any,
    max_length: Any, batch_size: Any, max_tokens: Any, memory: Any, batch_multiple_of: Any, on_overflow: Any,
    buffer: Any, hysteresis: Any, max_shapes: Any,
) -> Planning:  # fmt: skip
    """What plans are made of, for a stream that begins with `plan`."""
    rules = batching(NAME, batch_size, max_tokens, memory, batch_multiple_of)
    fixed = batch_size is None and max_tokens is None and memory is None
    if fixed and (plan is None or plan.batch_sizes is None):
        raise OptionError(
            f"{NAME}: no rule says how large a batch is. Give batch_size=, max_tokens= or memory=, "
            "or a plan= with batch sizes."
        )
    if plan is not None and isinstance(plan.boundaries[0], tuple):
        raise OptionError(f"{NAME}: plan has pairs of lengths as boundaries. Give one of single lengths.")
    if on_overflow is None:
        on_overflow = plan.on_overflow if fixed and plan is not None else "error"
    one_of(NAME, "on_overflow", on_overflow, ("error", "truncate", "drop"))
    buckets, length, shapes = (
        None if given is None else count(NAME, what, given)
        for what, given in (("n_buckets", n_buckets), ("max_length", max_length), ("max_shapes", max_shapes))
    )
    if buckets is not None and shapes is not None and buckets > shapes:
        raise OptionError(f"{NAME}: n_buckets={buckets} are more than max_shapes={shapes}. Raise max_shapes.")
    return Planning(
        rules=rules,
        n_buckets=buckets,
        cost=read_cost(NAME, cost),
        multiple_of=count(NAME, "multiple_of", multiple_of),
        max_padding=fraction(NAME, "max_padding", max_padding),
        max_length=length,
        on_overflow=on_overflow,
        ranks=ranks,
        buffer=count(NAME, "buffer", buffer),
        hysteresis=fraction(NAME, "hysteresis", hysteresis),
        max_shapes=shapes,
        fixed=fixed,
    )
