"""Figure 1 of `plan_buckets`: the reference optima, what other choices of boundaries pad, and all choices tried one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

import seqpar
from seqpar_bench import buckets_peers as peers
from seqpar_bench.buckets_cases import SPEECH, TEXT, WORKLOADS, Workload, histogram, samples
from seqpar_bench.record import Figure, Record

Array = Any
OPTIMA: dict[Workload, dict[int, float]] = {
    SPEECH: {4: 30.20, 8: 16.42, 16: 8.48, 32: 4.23},
    TEXT: {8: 30.59, 16: 16.21, 32: 8.30},
}
"""Padding in per cent, to two decimals, by number of buckets."""
INSTANCES = 1000
BATCHES_OF = (8, 16)
"""Random batches, each padded to its own longest: no buckets at all."""
ROUNDING = 1e-12
"""How far two sums of the same few dozen numbers may be apart, as a fraction."""


def optima(record: Record, rounds: int) -> None:
    """Padding of the best boundaries, and of everybody else's."""
    rows = []
    for workload, known in OPTIMA.items():
        lengths, counts = histogram(workload)
        for number, per_cent in known.items():
            plan = seqpar.plan_buckets((lengths, counts), number)
            off = abs(round(100 * plan.padding, 2) - per_cent)
            text = f"{workload.name}, {number} buckets: padding {100 * plan.padding:.2f} %, distance from {per_cent:.2f} %"
            record.add([Figure("1", text, round(off, 2), 0.0, "at most", "points")])
            rivals = {name: round(100 * rival.padding, 2) for name, rival in plan.rivals.items()}
            rows.append(
                {
                    "workload": workload.name,
                    "buckets": number,
                    "optimum": round(100 * plan.padding, 2),
                    **rivals,
                    "shapes of powers_of_two": len(plan.rivals["powers_of_two"].boundaries),
                    "boundaries": list(plan.boundaries),
                }
            )
    record.tables["padding"] = rows
    record.tables["random batches"] = [
        {
            "workload": workload.name,
            "batch": size,
            "padding": round(100 * _random(samples(workload), size), 2),
        }
        for workload, size in zip(WORKLOADS, BATCHES_OF, strict=True)
    ]


def _random(lengths: Array, size: int) -> float:
    """Padding of batches as they come."""
    batches = lengths[: len(lengths) // size * size].reshape(-1, size)
    return float(1 - batches.sum() / (batches.max(1) * size).sum())


def every_choice(record: Record, rounds: int) -> None:
    """Plans of random instances, whose costs rise and fall at random, against all choices of boundaries."""
    wrong = sum(not _is_best(np.random.default_rng(seed)) for seed in range(INSTANCES))
    text = f"of {INSTANCES:,} random instances with any cost, those whose plan costs more or less than the best of all choices"
    record.add([Figure("1", text, wrong, 0, "at most", "plans")])


def _is_best(rng: np.random.Generator) -> bool:
    """Up to 9 lengths, a table of costs without any order, batches by a budget; in half of them shapes have a price."""
    distinct = int(rng.integers(1, 10))
    lengths = np.sort(rng.choice(np.arange(1, 60), distinct, replace=False))
    counts = rng.integers(1, 50, distinct)
    budget = int(rng.integers(60, 400))
    batch = budget // lengths
    # Few different values, so that ties and falling prices are common.
    times = rng.integers(0, 12, 65).astype(np.float64)
    price = times[lengths] / batch
    if rng.random() < 0.5:
        number, extra = int(rng.integers(1, 6)), 0.0
        plan = seqpar.plan_buckets(
            (lengths, counts), number, cost=lambda length, _: times[length], max_tokens=budget
        )
    else:
        number, extra = distinct, float(rng.integers(1, 20))
        plan = seqpar.plan_buckets(
            (lengths, counts), cost=lambda length, _: times[length], max_tokens=budget, shape_price=extra
        )
    best, _ = peers.brute_force(lengths, counts, price, number, extra)
    # What the plan says, and what its boundaries come to when they are costed here.
    ends = tuple(np.searchsorted(lengths, plan.boundaries).tolist())
    found = peers.cost_of(lengths, counts, price, ends, extra)
    slack = ROUNDING * max(1.0, best)
    return abs(plan.predicted_cost - best) <= slack and abs(found - best) <= slack
