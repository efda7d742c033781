"""Which buckets of pairs are taken, and how many: those of a grid, or those along one number where they cost less."""

from typing import Any, NamedTuple

import numpy as np

from seqpar.buckets.cuts import hull_cuts
from seqpar.buckets.kernels import NAME
from seqpar.buckets.lengths import histogram, summed
from seqpar.buckets.options import count
from seqpar.buckets.pair_lengths import Pairs
from seqpar.buckets.pair_lines import Line, lines
from seqpar.buckets.pair_plan import first_that_holds
from seqpar.buckets.pair_prices import Pricing
from seqpar.buckets.pair_rivals import priced
from seqpar.buckets.pair_search import FIRST, SECOND, Grid, fixed_split, free_split
from seqpar.buckets.prices import groups
from seqpar.buckets.rivals import Rival
from seqpar.dispatch.options import Request
from seqpar.errors import OptionError

Array = Any
MOST = 32
"""The most buckets of a free choice, as for single lengths."""
GRID = "pairs: the best buckets of inputs with buckets of outputs in each, on a grid of {} x {}; others can be better"
LINE = (
    "pairs: buckets along {} cost {:.1%} less, and are taken instead of the best buckets of inputs with buckets of outputs in "
    "each, on a grid of {} x {}; others can be better"
)


class Found(NamedTuple):
    """What a search came to."""

    boundaries: Array
    curve: Array
    """Without the price of shapes."""
    notes: list[str]
    method: str
    grid: Rival | None = None
    """The best of the grid, where another was taken."""


def search(
    given: Pairs,
    pricing: Pricing,
    wanted: Any,
    extra: float,
    most_padding: float,
    most: int,
    request: Request,
) -> Found:
    """Boundaries for a number of buckets, for a pair of numbers, or for None: as many as pay or as leave little padding."""
    grid, method = _grid(given, pricing, request)
    shape = grid.counts.shape

    def corners(ends: list[tuple[int, int]]) -> Array:
        return _tightened(np.asarray([(grid.first[j], grid.second[k]) for j, k in ends]), given, pricing)

    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise OptionError(f"{NAME}: n_buckets={wanted!r} is not a number or a pair of them. Give one.")
        outer, inner = (count(NAME, "each of n_buckets", n) for n in wanted)
        ends = fixed_split(grid, min(outer, shape[0]), min(inner, shape[1]), request)
        if not ends:
            raise _unfit(pricing, f"{outer} x {inner}")
        return Found(corners(ends), np.zeros(0), [GRID.format(*shape)], method)
    number = None if wanted is None else count(NAME, "n_buckets", wanted)
    most = most if number is None else max(number, MOST)
    found, along = free_split(grid, most, request), lines(given.padded, given.counts, most, request)
    curve = found.curve
    if not curve.size or (number is not None and not np.isfinite(curve[:number]).any()):
        raise _unfit(pricing, str(number or most))

    def priced_along(line: Line, buckets: int) -> tuple[str, Rival | None]:
        return line.name, priced(given, line.boundaries(buckets), pricing, extra)

    notes = []
    if number is not None:
        taken = int(np.argmin(curve[:number])) + 1
        others = [priced_along(line, number) for line in along]
    elif extra > 0:
        tried = range(1, most + 1)
        taken = int(np.argmin(curve + extra * np.arange(1, curve.size + 1))) + 1
        others = [
            priced_along(line, min(tried, key=lambda n: line.cost(n, pricing.prices) + extra * n))
            for line in along
        ]
    else:
        allowed = int(given.tokens.sum()) / max(1.0 - most_padding, 1e-9)
        for taken in (1 + np.flatnonzero(np.isfinite(curve))).tolist():
            ours = priced(given, corners(found.ends(taken)), pricing, extra)
            assert ours is not None
            # The sum over values is soon known, and not far from what bucket_of makes of the boundaries.
            others = [priced_along(line, taken) for line in along if line.cost(taken, _steps) <= allowed]
            others = [
                (name, other)
                for name, other in others
                if other and other.padding <= most_padding and other.cost < ours.cost
            ]
            if others or ours.padding <= most_padding:
                break
        else:
            notes.append(
                f"no {taken} buckets have padding of at most {most_padding:g}; give n_buckets or shape_price for more"
            )
            others = [priced_along(line, taken) for line in along]
    corner = corners(found.ends(taken))
    ours = priced(given, corner, pricing, extra)
    assert ours is not None
    tried = range(1, curve.size + 1)
    curve = np.minimum(curve, [min(line.reached(n, pricing.prices) for line in along) for n in tried])
    chosen = Found(corner, curve, [GRID.format(*shape)], method)
    less = [(other, name) for name, other in others if other and other.cost < ours.cost * (1 - 1e-9)]
    if less:
        other, name = min(less, key=lambda found: found[0].cost)
        q = len(other.boundaries)
        # What q buckets cost no larger number has to exceed.
        curve = np.append(curve[: q - 1], np.minimum(curve[q - 1 :], other.cost - extra * q))
        note = LINE.format(name, 1 - other.cost / ours.cost, *shape)
        chosen = Found(np.asarray(other.boundaries), curve, [note], f"{method}, one dimension", ours)
    if number is not None and len(chosen.boundaries) < number:
        notes.append(f"{number} buckets were asked for, and no more than {len(chosen.boundaries)} pay")
    return chosen._replace(notes=[*chosen.notes, *notes])


def cheapest(given: Pairs, choices: list[Array], pricing: Pricing, extra: float) -> Rival | None:
    """What the cheapest of some boundaries cost, or None if no batch of any fits."""
    found = [rival for ends in choices if (rival := priced(given, ends, pricing, extra)) is not None]
    return min(found, key=lambda rival: rival.cost, default=None)


def _grid(given: Pairs, pricing: Pricing, request: Request) -> tuple[Grid, str]:
    """Pairs counted on a grid of lengths that are good boundaries of each by itself; and the kernel that found those."""
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
    return Grid(
        first, second, summed(place, given.counts, len(corners)).reshape(shape), price.reshape(shape)
    ), method


def _steps(boundaries: Array) -> Array:
    return boundaries.sum(axis=1)


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
