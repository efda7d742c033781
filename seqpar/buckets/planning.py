"""What `seqpar.plan_buckets` does: read and check what it was given, search, and put the plan together."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from seqpar.algorithms.whole_batches import whole_cost
from seqpar.buckets.batch_sizes import Batching, batching, grouped
from seqpar.buckets.cuts import Cuts, free_cuts, hull_cuts
from seqpar.buckets.kernels import NAME, Search, problem
from seqpar.buckets.lengths import Histogram, are_pairs, binned, histogram, padding, summed
from seqpar.buckets.options import amount, count, fraction
from seqpar.buckets.overflow import fitting, own_boundaries
from seqpar.buckets.plan import BucketPlan
from seqpar.buckets.prices import Cost, Groups, extrapolated, groups, prices, read_cost
from seqpar.buckets.rivals import RIVALS, Rival
from seqpar.buckets.whole_batches import whole_cuts
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.faces import Replay
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import NO_WISH, Request, check_wish
from seqpar.dispatch.problem import Problem
from seqpar.errors import OptionError
from seqpar.plan_buckets import CURVE
from seqpar.validation import flag

Array = Any


def planned(lengths: Any, n_buckets: Any, method: str, backend: str | None, **rules: Any) -> BucketPlan:
    """The plan; `rules` are the arguments of `plan_buckets` that are known by name alone."""
    if are_pairs(lengths):
        from seqpar.buckets.pairs import plan_pairs

        check_wish(NAME, method, backend, None)
        return plan_pairs(lengths, n_buckets, request=_request(method, backend), **rules)
    call = checked(lengths, n_buckets, method, backend, **rules)
    if call.own is None:
        return _best(call)
    free = {**rules, "boundaries": None, "max_length": call.facts["limit"]}
    return _own(call, _best(checked(lengths, len(call.own), method, backend, **free)))


class Checked(NamedTuple):
    """Arguments without errors, and the lengths as they are padded."""

    real: Histogram
    """After cutting and leaving out."""
    ends: Array
    """Boundaries to choose from."""
    at: Array
    """For each distinct length which of them is the first that holds it."""
    own: Array | None
    cost: Cost
    price: Array
    sizes: Array | None
    batching: Batching
    number: int | None
    shape_price: float
    max_padding: float
    max_buckets: int | None
    whole_batches: bool
    request: Request
    facts: dict[str, Any]
    """Fields of the plan that are known already."""

    @property
    def counts(self) -> Array:
        return summed(self.at, self.real.counts, self.ends.size)

    @property
    def tokens(self) -> Array:
        return summed(self.at, self.real.counts * self.real.lengths, self.ends.size)

    def groups(self) -> Groups:
        return groups(self.price, self.counts)

    @property
    def most(self) -> int:
        """The largest number of buckets that is looked at."""
        if self.number is not None:
            return max(self.number, CURVE)
        return CURVE if self.max_buckets is None else self.max_buckets

    @property
    def binding(self) -> Binding:
        return binding_for(np.ndarray)

    def problem(self) -> Problem:
        groups = self.groups().ends.size
        return problem(groups, Search(min(self.most, groups)))

    def replay(self) -> Replay:
        from seqpar.buckets.description import PLAN_BUCKETS

        found = self.groups()
        search = Search(min(self.most, found.ends.size))
        return Replay(self.binding, PLAN_BUCKETS, search, (found.prices, found.before.astype(np.float64)))


def checked(
    lengths: Any, n_buckets: Any, method: str = "auto", backend: str | None = None, *, cost: Any, shape_price: Any,
    multiple_of: Any, max_tokens: Any, batch_size: Any, memory: Any, batch_multiple_of: Any, max_length: Any, on_overflow: Any,
    boundaries: Any, max_padding: Any, max_buckets: Any, ranks_per_step: Any, whole_batches: Any,
) -> Checked:  # fmt: skip
    check_wish(NAME, method, backend, None)
    if are_pairs(lengths):
        raise OptionError(
            f"{NAME}: seqpar.explain is about single lengths. The many searches for pairs run what it says of either of the two."
        )
    given = histogram(NAME, lengths)
    rules = batching(NAME, batch_size, max_tokens, memory, batch_multiple_of)
    step = count(NAME, "multiple_of", multiple_of)
    ranks = count(NAME, "ranks_per_step", ranks_per_step)
    number = None if n_buckets is None else count(NAME, "n_buckets", n_buckets, most=math.inf)
    most = None if max_buckets is None else count(NAME, "max_buckets", max_buckets)
    cap = None if max_length is None else count(NAME, "max_length", max_length, most=math.inf)
    if on_overflow not in ("error", "truncate", "drop"):
        raise OptionError(f"{NAME}: on_overflow={on_overflow!r} is not 'error', 'truncate' or 'drop'.")
    function = read_cost(NAME, cost)
    own = None if boundaries is None else own_boundaries(boundaries, number, step)
    real, facts = fitting(given, rules, step, cap, on_overflow, own)
    if own is None:
        padded = np.maximum(-(-real.lengths // step), 1) * step
        ends = padded[np.append(padded[1:] > padded[:-1], True)]
    else:
        ends = own
    sizes = rules.sizes(ends)
    whole = flag(NAME, "whole_batches", whole_batches)
    if whole and sizes is None:
        raise OptionError(
            f"{NAME}: whole_batches=True counts batches, and no rule says how large one is. "
            "Give batch_size=, max_tokens= or memory=."
        )
    if sizes is not None and not sizes.all():
        wrong, longer = int(ends[np.flatnonzero(sizes == 0)[0]]), int(ends[np.flatnonzero(sizes)[-1]])
        raise OptionError(
            f"{NAME}: memory.batch_size({wrong}) is 0, though sequences of {longer} steps fit. Give a model of memory that grows "
            "with the length."
        )
    price = prices(NAME, function, ends, sizes)
    shapes = amount(NAME, "shape_price", shape_price)
    # Larger ones are no costs of anything, and their sums are infinite.
    if float(price.max()) * real.samples + shapes * ends.size > 1e300:
        raise OptionError(
            f"{NAME}: the cost of all sequences comes to more than 1e300. Give cost and shape_price in a larger unit."
        )
    return Checked(
        real=real,
        ends=ends,
        at=np.searchsorted(ends, real.lengths),
        own=own,
        cost=function,
        price=price,
        sizes=sizes,
        batching=rules,
        number=number,
        shape_price=shapes,
        max_padding=fraction(NAME, "max_padding", max_padding),
        max_buckets=most,
        whole_batches=whole,
        request=_request(method, backend),
        facts={
            **facts,
            "limit": int(ends[-1]) if cap is None else min(cap, int(ends[-1])),
            "ranks_per_step": ranks,
            "multiple_of": step,
            "on_overflow": on_overflow,
            "histogram": binned(real),
        },
    )


def _request(method: str, backend: str | None) -> Request:
    # Not the overlay of `seqpar.options`: it is about arrays, and few of its names mean anything here.
    return NO_WISH if (method, backend) == ("auto", None) else Request(method, backend, source="explicit")


def _best(call: Checked) -> BucketPlan:
    cuts = _cuts(call)
    curve = cuts.curve + call.shape_price * np.arange(1, cuts.curve.size + 1)
    notes = list(cuts.notes)
    if call.number is not None:
        number = most = min(call.number, curve.size)
        if most < call.number:
            notes.append(
                f"{call.number} buckets were asked for, and {most} are as many as differ in length or price"
            )
        if call.whole_batches:
            number = int(np.argmin(curve[:most])) + 1
            notes += [f"{number} buckets cost less than {most} in whole batches"] * (number < most)
        ends = cuts.ends(number)
    elif call.shape_price > 0 and call.max_buckets is None and not call.whole_batches:
        ends = free_cuts(call.groups(), call.shape_price, call.request)
    elif call.shape_price > 0:
        ends = cuts.ends(int(np.argmin(curve)) + 1)
    else:
        ends = _little_padding(call, cuts, notes)
    return _plan(call, np.asarray(ends), curve, notes, cuts.method)


def _cuts(call: Checked) -> Cuts:
    found = call.groups()
    if not call.whole_batches:
        return hull_cuts(found, call.most, call.request)
    assert call.sizes is not None
    before = np.concatenate([[0], np.cumsum(call.counts)])
    group = grouped(NAME, call.sizes, call.facts["ranks_per_step"])
    return whole_cuts(call.price, group, before, call.most, lambda: hull_cuts(found, call.most, call.request))


def _little_padding(call: Checked, cuts: Cuts, notes: list[str]) -> list[int]:
    """The fewest buckets with as little padding as is allowed."""
    ends: list[int] = []
    for number in range(1, cuts.curve.size + 1):
        ends = cuts.ends(number)
        if padding(call.ends[ends], call.real) <= call.max_padding:
            return ends
    notes.append(
        f"no {cuts.curve.size} buckets have padding of at most {call.max_padding:g}; give n_buckets or shape_price for more"
    )
    return ends


def _own(call: Checked, best: BucketPlan) -> BucketPlan:
    """The plan of boundaries that the user gave, with the best one of as many buckets among its rivals."""
    plan = _plan(call, np.arange(call.ends.size), np.asarray(best.curve), [], "given")
    optimum = Rival(best.boundaries, best.objective, best.padding)
    return replace(plan, rivals={"optimum": optimum, **plan.rivals})


def _plan(call: Checked, chosen: Array, curve: Array, notes: list[str], method: str) -> BucketPlan:
    bucket = np.searchsorted(chosen, np.arange(call.ends.size))
    counts = summed(bucket, call.counts, chosen.size)
    tokens = summed(bucket, call.tokens, chosen.size)
    price, sizes = call.price[chosen], None if call.sizes is None else call.sizes[chosen]
    ranks = call.facts["ranks_per_step"]
    shapes = call.shape_price * chosen.size
    if sizes is not None:
        notes = [*notes, *extrapolated(call.cost, call.ends[chosen], sizes)]
    exact = (
        None
        if sizes is None
        else float(whole_cost(price, grouped(NAME, sizes, ranks), counts).sum()) + shapes
    )
    facts = {**call.facts, "notes": (*call.facts.get("notes", ()), *notes)}
    return BucketPlan(
        boundaries=tuple(call.ends[chosen].tolist()),
        counts=tuple(counts.tolist()),
        tokens=tuple(tokens.tolist()),
        batch_sizes=None if sizes is None else tuple(sizes.tolist()),
        prices=tuple(price.tolist()),
        cost=call.cost,
        shape_price=call.shape_price,
        predicted_cost=float((counts * price).sum()) + shapes,
        exact_cost=exact,
        curve=tuple(curve.tolist()),
        whole_batches=call.whole_batches,
        rivals={
            name: rival for name, choose_ in RIVALS.items() if (rival := _rival(call, choose_, chosen.size))
        },
        method=method,
        **facts,
    )


def _rival(call: Checked, choose_: Callable[[Array, Array, int], Array], number: int) -> Rival | None:
    """What boundaries chosen in another way cost, or None if a batch of them does not fit."""
    step = call.facts["multiple_of"]
    raw = np.minimum(
        choose_(call.real.lengths, call.real.counts, number).astype(np.int64), call.real.lengths[-1]
    )
    raw[-1] = call.real.lengths[-1]  # which a float may not hold exactly
    ends = np.unique(np.maximum(-(-raw // step), 1) * step)
    where = np.searchsorted(ends, call.real.lengths)
    used = np.unique(where)
    ends, where = ends[used], np.searchsorted(used, where)
    sizes = call.batching.sizes(ends)
    if sizes is not None and not sizes.all():
        return None
    counts = summed(where, call.real.counts, ends.size)
    price = prices(NAME, call.cost, ends, sizes)
    if call.whole_batches and sizes is not None:
        total = float(whole_cost(price, grouped(NAME, sizes, call.facts["ranks_per_step"]), counts).sum())
    else:
        total = float((counts * price).sum())
    total += call.shape_price * ends.size
    return Rival(tuple(ends.tolist()), total, padding(ends, call.real))
