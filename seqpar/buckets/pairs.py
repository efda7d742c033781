"""`seqpar.plan_buckets` for pairs of lengths (input, output): reads them, searches, and says what simpler choices cost."""

from typing import Any

import numpy as np

from seqpar.buckets.batch_sizes import batching, grouped
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import summed
from seqpar.buckets.options import MOST as LONGEST
from seqpar.buckets.options import amount, count, fraction
from seqpar.buckets.pair_choice import MOST, cheapest, search
from seqpar.buckets.pair_lengths import Pairs, distinct, read_pairs, rounded
from seqpar.buckets.pair_lines import lines
from seqpar.buckets.pair_plan import PairPlan, first_that_holds, pairs
from seqpar.buckets.pair_prices import Pricing, pair_cost
from seqpar.buckets.pair_rivals import equal_mass, priced
from seqpar.buckets.prices import PADDING
from seqpar.buckets.rivals import Rival
from seqpar.dispatch.options import Request
from seqpar.errors import OptionError
from seqpar.validation import flag

Array = Any


def plan_pairs(
    lengths: Any, n_buckets: Any, *, cost: Any, shape_price: Any, multiple_of: Any, max_tokens: Any, batch_size: Any,
    memory: Any, batch_multiple_of: Any, max_length: Any, on_overflow: Any, boundaries: Any, max_padding: Any,
    max_buckets: Any, ranks_per_step: Any, whole_batches: Any, request: Request,
) -> PairPlan:  # fmt: skip
    """What `plan_buckets` does with pairs. Budgets of steps are about input and output together."""
    step, ranks = count(NAME, "multiple_of", multiple_of), count(NAME, "ranks_per_step", ranks_per_step)
    if flag(NAME, "whole_batches", whole_batches):
        raise OptionError(f"{NAME}: whole_batches=True is for single lengths. Leave it out for pairs.")
    if on_overflow not in ("error", "truncate", "drop"):
        raise OptionError(f"{NAME}: on_overflow={on_overflow!r} is not 'error', 'truncate' or 'drop'.")
    pricing = Pricing(pair_cost(cost), batching(NAME, batch_size, max_tokens, memory, batch_multiple_of))
    if pricing.cost != PADDING and pricing.rules.sizes(np.ones(1, np.int64)) is None:
        raise OptionError(
            f"{NAME}: cost={cost!r} is the time of a batch, and no rule says how large one is. "
            "Give batch_size=, max_tokens= or memory=."
        )
    own = None if boundaries is None else _own(boundaries, step)
    caps = _caps(max_length)
    given, facts = _fitting(*read_pairs(lengths), pricing, step, caps, on_overflow, own)
    price = amount(NAME, "shape_price", shape_price)
    notes = list(facts.pop("notes", ()))
    curve: Array = np.zeros(0)
    asked = n_buckets if isinstance(n_buckets, tuple) else None
    rivals: dict[str, Rival | None] = {}
    if own is not None:
        if n_buckets is not None and (asked or count(NAME, "n_buckets", n_buckets) != len(own)):
            raise OptionError(
                f"{NAME}: n_buckets={n_buckets} and {len(own)} boundaries were given. Leave one of them out."
            )
        chosen, method = own, "given"
    else:
        most = count(NAME, "max_buckets", max_buckets) if max_buckets is not None else MOST
        found = search(
            given, pricing, n_buckets, price, fraction(NAME, "max_padding", max_padding), most, request
        )
        chosen, curve, method = found.boundaries, found.curve, found.method
        notes += found.notes
        rivals = {} if found.grid is None else {"grid": found.grid}
    number = len(chosen)
    along = lines(given.padded, given.counts, number, request)
    rivals["one_dimension"] = cheapest(given, [line.boundaries(number) for line in along], pricing, price)
    equal = equal_mass(given.padded, given.counts, asked or (-(-number // 2), 2))
    rivals["equal_mass"] = priced(given, equal, pricing, price)
    # What a bucket holds is served, be it longer than any sample of the data: boundaries are rounded up, or the user's own.
    limit = tuple(np.minimum(caps, chosen.max(axis=0)).tolist())
    curve = curve + price * np.arange(1, curve.size + 1)
    return _plan(given, chosen, pricing, price, curve, {name: rival for name, rival in rivals.items() if rival}, {
        **facts, "limit": limit, "ranks_per_step": ranks, "multiple_of": step, "on_overflow": on_overflow, "method": method,
        "notes": tuple(notes),
    })  # fmt: skip


def _own(boundaries: Any, step: int) -> Array:
    found = pairs(NAME, "boundaries", boundaries)
    listed = [tuple(pair) for pair in found.tolist()]
    if not listed or listed != sorted(set(listed)) or not found.all():
        raise OptionError(
            f"{NAME}: boundaries={boundaries!r} do not rise. Give pairs above zero, each once, in order."
        )
    if (found % step).any():
        raise OptionError(
            f"{NAME}: boundaries={boundaries!r} are not all multiples of multiple_of={step}. Give such."
        )
    return found


def _caps(max_length: Any) -> tuple[int, int]:
    """The longest input and output that are served whole, if there are buckets for them."""
    if max_length is None:
        return LONGEST, LONGEST
    caps = max_length if isinstance(max_length, tuple) else (max_length, max_length)
    if len(caps) != 2:
        raise OptionError(f"{NAME}: max_length={max_length!r} is not a number or a pair of them. Give one.")
    return count(NAME, "max_length", caps[0]), count(NAME, "max_length", caps[1])


def _fitting(
    given: Array,
    counts: Array,
    pricing: Pricing,
    step: int,
    caps: tuple[int, int],
    on_overflow: str,
    own: Array | None,
) -> tuple[Pairs, dict[str, Any]]:
    """The pairs that can be served, the longer ones cut or left out if that was asked for; and how many those are."""
    facts: dict[str, Any] = {}
    notes: list[str] = []
    over = (given > caps).any(axis=1)
    if over.any() and on_overflow == "truncate":
        facts["truncated"] = n = int(counts[over].sum())
        notes.append(f"samples longer than {caps} are cut: {n} of {int(counts.sum())}")
        given = np.minimum(given, caps)
        over = np.zeros(len(given), bool)
    why = f"max_length={caps}"
    if own is None:
        padded = rounded(given, step)
        homeless = ~np.isfinite(Pricing(PADDING, pricing.rules).prices(padded))
    else:
        homeless = first_that_holds(tuple(map(tuple, own.tolist())), given) < 0
    if (homeless & ~over).any():
        why = "the boundaries" if own is not None else str(pricing.rules)
        if on_overflow == "truncate":
            i = int(np.argmax(homeless))
            raise OptionError(
                f"{NAME}: the sample {tuple(given[i].tolist())} does not fit with {why}, and which of its lengths to cut "
                'is not said. Give max_length=(input, output) as well, or on_overflow="drop".'
            )
    over |= homeless
    if over.any():
        n, i = int(counts[over].sum()), int(np.argmax(np.where(over, given.sum(axis=1), -1)))
        longest = tuple(given[i].tolist())
        if on_overflow == "error" or over.all():
            raise OptionError(
                f"{NAME}: the sample {longest} does not fit with {why} ({n} of {int(counts.sum())} samples do not). Raise "
                'that, or say on_overflow="drop".'
            )
        facts["dropped"] = n
        notes.append(f"samples that do not fit with {why} are dropped: {n} of {int(counts.sum())}")
        given, counts = given[~over], counts[~over]
    padded = rounded(given, step)
    once, where = distinct(padded)
    size = len(once)
    found = Pairs(once, summed(where, counts, size), summed(where, given.sum(axis=1) * counts, size))
    return found, {**facts, "notes": tuple(notes)}


def _plan(
    given: Pairs, chosen: Array, pricing: Pricing, extra: float, curve: Array, rivals: dict[str, Rival],
    facts: dict[str, Any],
) -> PairPlan:  # fmt: skip
    boundaries: tuple[tuple[int, int], ...] = tuple((int(a), int(b)) for a, b in chosen.tolist())
    where, number = first_that_holds(boundaries, given.padded), len(boundaries)
    counts = summed(where, given.counts, number)
    sizes, price = pricing.sizes(chosen), pricing.prices(chosen)
    if not np.isfinite(price).all():
        i = int(np.argmax(price))
        raise OptionError(
            f"{NAME}: not a single sample of boundary {boundaries[i]} fits into a batch with {pricing.rules}. Raise that."
        )
    exact = None
    if sizes is not None:
        group = grouped(NAME, sizes, facts["ranks_per_step"])
        exact = float((-(-counts // group) * group * price).sum()) + extra * number
    return PairPlan(
        boundaries=boundaries,
        counts=tuple(counts.tolist()),
        tokens=tuple(summed(where, given.tokens, number).tolist()),
        batch_sizes=None if sizes is None else tuple(sizes.tolist()),
        prices=tuple(price.tolist()),
        cost=pricing.cost,
        shape_price=extra,
        predicted_cost=float((counts * price).sum()) + extra * number,
        exact_cost=exact,
        curve=tuple(curve.tolist()),
        rivals=rivals,
        **facts,
    )
