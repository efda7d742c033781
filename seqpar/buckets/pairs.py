"""`seqpar.plan_buckets` for pairs of lengths (input, output): reads them, searches, and says what simpler choices cost."""

from typing import Any

import numpy as np

from seqpar.buckets.batch_sizes import amount, batching, count, grouped
from seqpar.buckets.cuts import hull_cuts
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import histogram, summed
from seqpar.buckets.pair_lengths import Pairs, distinct, read_pairs, rounded
from seqpar.buckets.pair_plan import PairPlan, first_that_holds, pairs
from seqpar.buckets.pair_prices import Pricing, pair_cost
from seqpar.buckets.pair_rivals import equal_mass, one_dimension
from seqpar.buckets.pair_search import FIRST, SECOND, Grid, fixed_split, free_split
from seqpar.buckets.prices import PADDING, groups
from seqpar.buckets.rivals import Rival
from seqpar.dispatch.options import Request
from seqpar.errors import OptionError

Array = Any
MOST = 32
"""The most buckets of a free choice, as for single lengths."""
HEURISTIC = "pairs: the best buckets of inputs with buckets of outputs in each, on a grid of {} x {}; others can be better"


def plan_pairs(
    lengths: Any, n_buckets: Any, *, cost: Any, shape_price: Any, multiple_of: Any, max_tokens: Any, batch_size: Any,
    memory: Any, batch_multiple_of: Any, max_length: Any, on_overflow: Any, boundaries: Any, max_padding: Any,
    max_buckets: Any, ranks_per_step: Any, whole_batches: bool, request: Request,
) -> PairPlan:  # fmt: skip
    """What `plan_buckets` does with pairs. Budgets of steps are about input and output together."""
    step, ranks = count(NAME, "multiple_of", multiple_of), count(NAME, "ranks_per_step", ranks_per_step)
    if whole_batches:
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
    given, facts = _fitting(*read_pairs(lengths), pricing, step, max_length, on_overflow, own)
    price = amount(NAME, "shape_price", shape_price)
    notes = list(facts.pop("notes", ()))
    curve: Array = np.zeros(0)
    if own is not None:
        chosen, method = own, "given"
    else:
        most = count(NAME, "max_buckets", max_buckets) if max_buckets is not None else MOST
        chosen, curve, more, method = _search(
            given, pricing, n_buckets, price, amount(NAME, "max_padding", max_padding), most, request
        )
        notes += more
    asked = n_buckets if isinstance(n_buckets, tuple) else None
    return _plan(given, chosen, pricing, price, curve + price * np.arange(1, curve.size + 1), asked, request, {
        **facts, "ranks_per_step": ranks, "multiple_of": step, "on_overflow": on_overflow, "method": method,
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


def _fitting(
    given: Array,
    counts: Array,
    pricing: Pricing,
    step: int,
    max_length: Any,
    on_overflow: str,
    own: Array | None,
) -> tuple[Pairs, dict[str, Any]]:
    """The pairs that can be served, the longer ones cut or left out if that was asked for; and how many those are."""
    limit = given.max(axis=0)
    if max_length is not None:
        caps = max_length if isinstance(max_length, tuple) else (max_length, max_length)
        if len(caps) != 2:
            raise OptionError(
                f"{NAME}: max_length={max_length!r} is not a number or a pair of them. Give one."
            )
        limit = np.minimum(limit, [count(NAME, "max_length", cap) for cap in caps])
    facts: dict[str, Any] = {"limit": tuple(limit.tolist())}
    notes: list[str] = []
    over = (given > limit).any(axis=1)
    if over.any() and on_overflow == "truncate":
        facts["truncated"] = n = int(counts[over].sum())
        notes.append(f"samples longer than {facts['limit']} are cut: {n} of {int(counts.sum())}")
        given = np.minimum(given, limit)
        over = np.zeros(len(given), bool)
    why = f"max_length={max_length}"
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


def _search(
    given: Pairs,
    pricing: Pricing,
    wanted: Any,
    extra: float,
    most_padding: float,
    most: int,
    request: Request,
) -> tuple[Array, Array, list[str], str]:
    """Boundaries, the curve without the price of shapes, notes and the kernel's name."""
    axes, method = [], ""
    for side, size in enumerate((FIRST, SECOND)):
        each = histogram(NAME, (given.padded[:, side], given.counts))
        cuts = hull_cuts(groups(each.lengths.astype(np.float64), each.counts), size, request)
        method = cuts.method
        axes.append(each.lengths[cuts.ends(len(cuts.curve))])
    first, second = axes
    corners = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    place = np.searchsorted(first, given.padded[:, 0]) * len(second) + np.searchsorted(
        second, given.padded[:, 1]
    )
    shape = (len(first), len(second))
    price = pricing.prices(corners)
    if float(price[np.isfinite(price)].max(initial=0.0)) * given.samples > 1e300:
        raise OptionError(
            f"{NAME}: the cost of all samples comes to more than 1e300. Give cost in a larger unit."
        )
    grid = Grid(
        first,
        second,
        summed(place, given.counts, len(corners)).reshape(shape),
        price.reshape(shape),
    )
    notes = [HEURISTIC.format(*shape)]

    def corners_of(ends: list[tuple[int, int]]) -> Array:
        return _tightened(np.asarray([(first[j], second[k]) for j, k in ends]), given, pricing)

    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise OptionError(f"{NAME}: n_buckets={wanted!r} is not a number or a pair of them. Give one.")
        outer, inner = (count(NAME, "each of n_buckets", n) for n in wanted)
        ends = fixed_split(grid, min(outer, len(first)), min(inner, len(second)), request)
        if not ends:
            raise _unfit(pricing, f"{outer} x {inner}")
        return corners_of(ends), np.zeros(0), notes, method
    number = None if wanted is None else count(NAME, "n_buckets", wanted)
    found = free_split(grid, max(number or 0, most if number is None else MOST), request)
    curve = found.curve
    if not curve.size or (number is not None and not np.isfinite(curve[:number]).any()):
        raise _unfit(pricing, str(number or most))
    if number is not None:
        taken = int(np.argmin(curve[:number])) + 1
        if taken < number:
            notes.append(f"{number} buckets were asked for, and no more than {taken} pay")
    elif extra > 0:
        taken = int(np.argmin(curve + extra * np.arange(1, curve.size + 1))) + 1
    else:
        for taken in (1 + np.flatnonzero(np.isfinite(curve))).tolist():
            if _padding(corners_of(found.ends(taken)), given) <= most_padding:
                break
        else:
            notes.append(
                f"no {taken} buckets have padding of at most {most_padding:g}; give n_buckets or shape_price for more"
            )
    return corners_of(found.ends(taken)), curve, notes, method


def _unfit(pricing: Pricing, number: str) -> OptionError:
    return OptionError(
        f"{NAME}: with {number} buckets the longest inputs and the longest outputs of one bucket do not fit into a batch "
        f"together ({pricing.rules}). Raise that, or give more buckets."
    )


def _tightened(boundaries: Array, given: Pairs, pricing: Pricing) -> Array:
    """Second boundaries down to what their samples need, where that costs no more."""
    where = first_that_holds(tuple(map(tuple, boundaries.tolist())), given.padded)
    tight = boundaries.copy()
    tight[:, 1] = 0
    np.maximum.at(tight[:, 1], where, given.padded[:, 1])
    worse = pricing.prices(np.maximum(tight, 1)) > pricing.prices(boundaries)
    tight[worse] = boundaries[worse]
    return tight


def _padding(boundaries: Array, given: Pairs) -> float:
    where = first_that_holds(tuple(map(tuple, boundaries.tolist())), given.padded)
    padded = (boundaries.sum(axis=1)[where].astype(np.float64) * given.counts).sum()
    return 1.0 - int(given.tokens.sum()) / float(padded)


def _plan(
    given: Pairs, chosen: Array, pricing: Pricing, extra: float, curve: Array, split: tuple[int, int] | None, request: Request,
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
    rivals = {}
    for name, buckets in (
        ("one_dimension", one_dimension(given.padded, given.counts, number, request)),
        ("equal_mass", equal_mass(given.padded, given.counts, split or (-(-number // 2), 2))),
    ):
        if (rival := _rival(given, buckets, pricing, extra)) is not None:
            rivals[name] = rival
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


def _rival(given: Pairs, choices: list[Array], pricing: Pricing, extra: float) -> Rival | None:
    """The cheapest of some ways to put the samples into buckets, each padded to the longest that are in it."""
    found = []
    for where in choices:
        _, where = np.unique(where, return_inverse=True)
        ends = np.zeros((int(where.max()) + 1, 2), np.int64)
        np.maximum.at(ends, where, given.padded)
        total = float((pricing.prices(ends) * summed(where, given.counts, len(ends))).sum()) + extra * len(
            ends
        )
        padded = float((ends.sum(axis=1)[where].astype(np.float64) * given.counts).sum())
        boundaries: Any = tuple(sorted((int(a), int(b)) for a, b in ends.tolist()))
        found.append(Rival(boundaries, total, 1.0 - int(given.tokens.sum()) / padded))
    best = min(found, key=lambda rival: rival.cost)
    return best if np.isfinite(best.cost) else None
