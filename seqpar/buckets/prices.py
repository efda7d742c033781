"""What a sample costs in a bucket that ends at a boundary: its padded length, or its share of the measured time of a step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from seqpar.errors import ArrayTypeError, OptionError

Array = Any
Cost = str | Callable[[int, int], float]
PADDING = "padding"


class Groups(NamedTuple):
    """Lengths that cost the same in a bucket of their own: each is padded to `ends`, which no longer boundary undercuts."""

    ends: Array
    """Positions of the boundaries among all of them."""
    prices: Array
    """Rising strictly."""
    before: Array
    """Samples before each group, and behind the last."""


def read_cost(name: str, cost: Any) -> Cost:
    """`cost=` as "padding" or a function of (length, batch)."""
    if isinstance(cost, Mapping):
        from seqpar.buckets.cost_table import CostTable

        return CostTable.from_mapping(cost)
    if isinstance(cost, str):
        if cost != PADDING:
            raise OptionError(
                f"{name}: cost={cost!r} is not 'padding'. For anything else give a function (length, batch) -> time of a step, "
                "what seqpar.measure_cost returns, or a mapping {(length, batch): time}."
            )
        return cost
    if not callable(cost):
        raise ArrayTypeError(
            f"{name}: cost={cost!r} is neither 'padding' nor a function. Give a function (length, batch) -> time of a step, "
            "what seqpar.measure_cost returns, or a mapping {(length, batch): time}."
        )
    return cost  # type: ignore[no-any-return]


def prices(name: str, cost: Cost, boundaries: Array, sizes: Array | None) -> Array:
    """The cost of one sample at each boundary, in batches of those sizes."""
    if isinstance(cost, str):
        return boundaries.astype(np.float64)
    if sizes is None:
        raise OptionError(
            f"{name}: cost={cost!r} is the time of a batch, and no rule says how large one is. "
            "Give batch_size=, max_tokens= or memory=."
        )
    times = getattr(cost, "times", None)
    if times is not None:
        found = _times(name, times(boundaries, sizes), len(boundaries))
    else:
        found = np.asarray(
            [cost_of(name, cost, length=int(b), batch=int(n)) for b, n in zip(boundaries, sizes, strict=True)]
        )
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if wrong.size:
        i = int(wrong[0])
        raise OptionError(
            f"{name}: cost(length={int(boundaries[i])}, batch={int(sizes[i])}) is {found[i]}. "
            "A cost is a finite number of zero or more for every length and batch size in question."
        )
    return found / sizes


def cost_of(name: str, cost: Callable[..., Any], **size: int) -> float:
    """What a function of the user's returns for one size, as a number."""

    def called() -> str:
        return f"cost({', '.join(f'{what}={n}' for what, n in size.items())})"

    try:
        found = cost(*size.values())
    except Exception as error:
        error.add_note(f"{name}: in {called()}")
        raise
    try:
        return float(found)
    except (TypeError, ValueError) as error:
        raise ArrayTypeError(
            f"{name}: {called()} is {found!r}, and a cost is a number. Return the time of a step."
        ) from error


def _times(name: str, given: Any, number: int) -> Array:
    """What `cost.times` returned for so many boundaries."""
    try:
        return np.broadcast_to(np.asarray(given, np.float64), (number,))
    except (TypeError, ValueError) as error:
        raise ArrayTypeError(
            f"{name}: cost.times(lengths, batches) returned {type(given).__name__} of shape {np.shape(given)}, and not numbers "
            f"of shape ({number},). Return the time of a step for each."
        ) from error


def extrapolated(cost: Cost, boundaries: Array, sizes: Array) -> list[str]:
    """A note on buckets that lie beyond what a cost was measured at, and what is to be known of the measurement."""
    covers = getattr(cost, "covers", None)
    if not callable(covers):
        return []
    notes = [f"of the cost: {note}" for note in getattr(cost, "notes", ())]
    beyond = np.flatnonzero(~np.broadcast_to(covers(boundaries, sizes), boundaries.shape))
    if beyond.size:
        named = [f"({int(boundaries[i])}, {int(sizes[i])})" for i in beyond]
        shown = ", ".join(named if len(named) <= 3 else [*named[:2], "...", named[-1]])
        notes.append(
            f"the cost of {beyond.size} of {boundaries.size} buckets is a guess beyond what was measured, at (length, batch)="
            f"{shown}; measure there too"
        )
    return notes


def groups(price: Array, counts: Array) -> Groups:
    """Lengths in groups of rising price.

    Where a longer boundary is cheaper, samples are padded on to it: the price of a length is the least price of a boundary
    that holds it. So any cost becomes one that rises, and the best choice of boundaries stays what it was: a bucket whose
    samples are padded on to a boundary may as well take in all that this boundary holds, at no higher price for them.
    """
    least = np.minimum.accumulate(price[::-1])[::-1]
    ends = np.flatnonzero(np.append(least[1:] > least[:-1], True))
    before = np.concatenate([[0], np.cumsum(counts)])
    return Groups(ends, least[ends], np.concatenate([[0], before[ends + 1]]))
