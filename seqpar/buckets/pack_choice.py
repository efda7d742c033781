"""`BucketPlan.bucket_or_pack`: do buckets or packed rows cost less for the same sequences?

Packing has next to no padding, and for a layer whose cost is its number of steps that decides. A loop over time pays for every
step in which its rows go on, however few those are, and packed rows are all as long as the longest sequence: then buckets win.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqpar.buckets.best_fit import rows_needed
from seqpar.buckets.lengths import histogram
from seqpar.buckets.options import count
from seqpar.buckets.prices import Cost, prices, read_cost
from seqpar.errors import OptionError

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

Array = Any
NAME = "BucketPlan.bucket_or_pack"
SPREAD = 64
"""Lengths by which those of a bucket are represented where only their mean is known."""


@dataclass(frozen=True)
class PackChoice:
    """What `BucketPlan.bucket_or_pack` returns; prints as a sentence."""

    choice: Literal["bucket", "pack"]
    bucket_cost: float
    """Of an epoch in whole batches, or for cost="padding" the steps of all padded sequences."""
    pack_cost: float
    """The same for packed rows."""
    unit: Literal["s", "steps"]
    capacity: int
    """Steps of a packed row."""
    rows: int | None
    """Rows of a packed batch; None where only steps are counted."""
    packed_rows: int
    """Rows that all sequences take."""
    bucket_padding: float
    pack_padding: float
    estimated: bool
    """Is the number of packed rows an estimate, from the mean length in each bucket?"""
    reason: str

    def __str__(self) -> str:
        shape = (
            f"rows of {self.capacity} steps"
            if self.rows is None
            else f"batches of {self.rows} x {self.capacity}"
        )
        about = "about " if self.estimated else ""
        costs = [
            f"{about}{self.pack_cost:.4g} {self.unit} packed in {shape} ({100 * self.pack_padding:.1f} % padding)",
            f"{self.bucket_cost:.4g} {self.unit} in buckets ({100 * self.bucket_padding:.1f} % padding)",
        ]
        if self.choice == "bucket":
            costs.reverse()
        first, second = costs
        return f"{self.choice.capitalize()}: an epoch takes {first}, against {second}; {self.reason}."


def bucket_or_pack(
    plan: "BucketPlan",
    cost: Any = None,
    *,
    capacity: int | None = None,
    rows: int | None = None,
    packed: Any = None,
    lengths: Any = None,
) -> PackChoice:
    """`BucketPlan.bucket_or_pack`."""
    if isinstance(plan.boundaries[0], tuple):
        raise OptionError(
            f"{NAME}: the plan has pairs of lengths, which are not packed. Plan each side by itself."
        )
    own = plan.cost if cost is None else read_cost(NAME, cost)
    if own is None:
        raise OptionError(
            f"{NAME}: the plan comes from a file, which does not hold its cost. Give cost=, the one it was made for."
        )
    price = own if packed is None else read_cost(NAME, packed)
    if (own == "padding") != (price == "padding"):
        raise OptionError(
            f"{NAME}: one of cost and packed is 'padding' and the other one a time. Give both in the same unit."
        )
    size = plan.boundaries[-1] if capacity is None else count(NAME, "capacity", capacity)
    if size < plan.limit:
        raise OptionError(
            f"{NAME}: capacity={size} is less than the longest sequence, {plan.limit}. Give {plan.limit} or more."
        )
    needed = rows_needed(*_lengths(plan, lengths), size)
    timed = own != "padding"
    many = _rows(plan, rows) if timed else None
    bucket_cost, bucket_steps = _buckets(plan, own)
    if many is None:
        pack_cost, pack_steps = float(needed * size), needed * size
    else:
        group = many * plan.ranks_per_step
        whole = -(-needed // group) * group
        pack_cost, pack_steps = whole * _price(price, size, many), whole * size
    # Its unit is that of the cost the plan was made for: seconds do not add up with steps.
    shapes = plan.shape_price if timed == (plan.cost != "padding") else 0.0
    bucket_cost, pack_cost = bucket_cost + shapes * plan.n_buckets, pack_cost + shapes
    choice: Literal["bucket", "pack"] = "pack" if pack_cost < bucket_cost else "bucket"
    real = sum(plan.tokens)
    return PackChoice(
        choice=choice,
        bucket_cost=bucket_cost,
        pack_cost=pack_cost,
        unit="s" if timed else "steps",
        capacity=size,
        rows=many,
        packed_rows=needed,
        bucket_padding=1 - real / bucket_steps if bucket_steps else 0.0,
        pack_padding=max(0.0, 1 - real / pack_steps) if pack_steps else 0.0,
        estimated=lengths is None,
        reason=_reason(bucket_cost / max(bucket_steps, 1), pack_cost / max(pack_steps, 1), choice, timed),
    )


def _buckets(plan: "BucketPlan", cost: Cost) -> tuple[float, int]:
    """Cost of an epoch in buckets, without that of shapes, and its steps, padding included."""
    boundaries, counts = np.asarray(plan.boundaries), np.asarray(plan.counts)
    if plan.batch_sizes is None:
        served = counts
        sizes = None
    else:
        sizes = np.asarray(plan.batch_sizes)
        group = sizes * plan.ranks_per_step
        served = -(-counts // group) * group
    each = prices(NAME, cost, boundaries, sizes)
    return float((served * each).sum()), int((served * boundaries).sum())


def _price(cost: Cost, size: int, rows: int) -> float:
    return float(prices(NAME, cost, np.asarray([size]), np.asarray([rows]))[0])


def _rows(plan: "BucketPlan", rows: int | None) -> int:
    if rows is not None:
        return count(NAME, "rows", rows)
    if plan.batch_sizes is None:
        raise OptionError(
            f"{NAME}: the cost is the time of a batch, and neither the plan nor rows= says how large one is. Give rows=, and "
            "plan with batch_size=, max_tokens= or memory=."
        )
    return plan.batch_sizes[-1]


def _lengths(plan: "BucketPlan", lengths: Any) -> tuple[list[int], list[int]]:
    """Lengths of the sequences that the plan serves, and how many there are of each."""
    if lengths is None:
        found: dict[int, int] = {}
        for low, high, many, steps in zip(
            (0, *plan.boundaries), plan.boundaries, plan.counts, plan.tokens, strict=False
        ):
            for length, n in _spread(low, high, many, steps):
                found[length] = found.get(length, 0) + n
        return list(found), list(found.values())
    given = histogram(NAME, lengths)
    kept = given.lengths <= plan.limit
    if not kept.all() and plan.on_overflow == "error":
        plan.bucket_of(given.lengths)  # which says what is wrong with them
    cut = np.minimum(given.lengths, plan.limit) if plan.on_overflow == "truncate" else given.lengths[kept]
    counts = given.counts if plan.on_overflow == "truncate" else given.counts[kept]
    if int(counts.sum()) != plan.samples:
        raise OptionError(
            f"{NAME}: lengths has {int(counts.sum())} sequences that the plan serves, and it was made for {plan.samples}. Give "
            "the lengths that it was made for, or plan with these."
        )
    return cut.tolist(), counts.tolist()


def _spread(low: int, high: int, many: int, steps: int) -> list[tuple[int, int]]:
    """So many lengths in (low, high] with their mean, and no further opinion: spread as geometrically as the mean asks for."""
    if not many:
        return []
    points = np.unique(np.linspace(low + 1, high, min(SPREAD, high - low)).astype(int))
    x = (points - low) / (high - low)
    wanted = (steps / many - low) / (high - low)
    left, right = -50.0, 50.0
    for _ in range(60):  # the mean rises with the tilt: bisection
        tilt = (left + right) / 2
        share = np.exp(tilt * (x - (x[-1] if tilt > 0 else x[0])))
        share /= share.sum()
        left, right = (tilt, right) if (share * x).sum() < wanted else (left, tilt)
    before = np.rint(np.concatenate([[0.0], np.cumsum(share)]) * many).astype(int)
    return [(int(p), int(n)) for p, n in zip(points, np.diff(before), strict=True) if n]


def _reason(bucket: float, pack: float, choice: str, timed: bool) -> str:
    if not timed:
        return "packing leaves less padding" if choice == "pack" else "buckets leave no more padding"
    ratio = pack / bucket if bucket else float("inf")
    if choice == "pack":
        return f"a step in a packed batch costs {ratio:.2f} times that of a padded one, and fewer are padding"
    return f"a step in a packed batch costs {ratio:.2f} times that of a padded one, more than the padding it saves"
