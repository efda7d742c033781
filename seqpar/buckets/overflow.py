"""Sequences that are too long for a batch or for the boundaries given: refused, cut or left out, and counted."""

from typing import Any

import numpy as np

from seqpar.buckets.batch_sizes import Batching
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import Histogram, histogram
from seqpar.buckets.options import count
from seqpar.errors import OptionError

Array = Any


def own_boundaries(boundaries: Any, number: int | None, step: int) -> Array:
    if np.ndim(boundaries) != 1:
        raise OptionError(f"{NAME}: boundaries={boundaries!r} is not a list of lengths. Give one.")
    if len(boundaries) == 0:
        raise OptionError(f"{NAME}: boundaries={boundaries!r} has no length. Give at least one.")
    given = [count(NAME, f"boundaries[{i}]", b) for i, b in enumerate(boundaries)]
    if any(b >= c for b, c in zip(given, given[1:], strict=False)):
        raise OptionError(
            f"{NAME}: boundaries={boundaries!r} do not rise. Give each length once, the longest last."
        )
    odd = [b for b in given if b % step]
    if odd:
        raise OptionError(
            f"{NAME}: boundaries has {odd[0]}, which is not a multiple of multiple_of={step}. Give {-(-odd[0] // step) * step}."
        )
    if number is not None and number != len(given):
        raise OptionError(
            f"{NAME}: n_buckets={number} and {len(given)} boundaries were given. Leave one of them out."
        )
    return np.asarray(given, np.int64)


def fitting(
    given: Histogram, rules: Batching, step: int, cap: int | None, on_overflow: str, own: Array | None
) -> tuple[Histogram, dict[str, Any]]:
    """The lengths that can be served, the longer ones cut or left out if that was asked for; and how many those are."""
    longest = int(given.lengths[-1])
    if own is None:
        last = -(-longest // step) * step
        fits = rules.longest(step, last)
        limit, why = (fits, str(rules)) if fits < last else (longest, "")
    else:
        limit = _all_fit(rules, own)
        why = f"the last boundary, {limit}," if limit < longest else ""
    if cap is not None and cap < limit:
        limit, why = cap, f"max_length={cap}"
    over = int(given.counts[given.lengths > limit].sum())
    if not over:
        return given, {}
    if limit < 1:
        raise OptionError(
            f"{NAME}: no batch holds a single sequence: {rules}, with boundaries of at least {step}. Raise the budget."
        )
    if on_overflow == "error":
        raise OptionError(
            f"{NAME}: the longest sequence has {longest} steps, and with {why} at most {limit} fit ({over} of {given.samples} "
            'sequences have more). Raise that, or say on_overflow="truncate" or "drop".'
        )
    fit = given.lengths <= limit
    if on_overflow == "drop":
        kept = Histogram(given.lengths[fit], given.counts[fit])
        if not kept.samples or int(kept.lengths[-1]) == 0:
            raise OptionError(
                f"{NAME}: all {given.samples} sequences are longer than {limit} and would be dropped. Raise the limit, or "
                'say on_overflow="truncate".'
            )
        return kept, {
            "dropped": over,
            "notes": (f"sequences longer than {limit} are dropped: {over} of {given.samples}",),
        }
    cut = histogram(NAME, (np.minimum(given.lengths, limit), given.counts))
    lost = given.tokens - cut.tokens
    note = f"sequences longer than {limit} are cut: {over} of {given.samples}, by {lost} steps in all"
    return cut, {"truncated": over, "notes": (note,)}


def _all_fit(rules: Batching, own: Array) -> int:
    sizes = rules.sizes(own)
    if sizes is not None and not sizes.all():
        wrong = int(own[np.flatnonzero(sizes == 0)[0]])
        raise OptionError(
            f"{NAME}: not a single sequence of boundary {wrong} fits into a batch with {rules}. Raise that."
        )
    return int(own[-1])
