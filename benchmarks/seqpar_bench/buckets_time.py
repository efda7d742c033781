"""Figure 3 of `plan_buckets`: boundaries for the least time against boundaries for the least padding, in training.

The time of a step is measured by `seqpar.measure_cost`; both plans have the same number of buckets and the same budget of steps
for a batch. Where lengths are below a thousand both train whole epochs. Where a few are thirty times as long an epoch takes half
an hour: there one batch of every bucket is trained, again and again, and counts as often as the epoch has such batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from itertools import zip_longest
from typing import Any

import seqpar
from seqpar_bench.buckets_cases import SPEECH, TEXT, Workload, samples
from seqpar_bench.buckets_training import WHO, Training, measured_cost, one_thread, sequences
from seqpar_bench.measure import Samples
from seqpar_bench.record import Figure, Record

Array = Any
Plans = dict[str, seqpar.BucketPlan]
SIZES = [
    *((16, 512), (16, 64), (64, 128), (64, 16), (256, 32), (256, 4)),
    *((1024, 8), (1024, 2), (4096, 8), (4096, 1), (16384, 2)),
]
"""(length, batch) that are timed for the model."""
BUCKETS = 8
BUDGET = {SPEECH: 8192, TEXT: 32768}
"""Padded steps of a batch."""
TRAINED = 4000
"""Sequences of the epochs that are trained whole."""
MOST = 3
"""Rounds at most: each is a minute or so."""
ABOUT_AS_FAST = 0.95
"""What is asked where nothing is to be gained: a step of our kernel takes a time that is proportional to the padded steps."""


def least_time(record: Record, rounds: int) -> None:
    rows: list[dict[str, Any]] = []
    with one_thread():
        for who in WHO:
            model = cost_of(who, min(max(3, rounds), 5))
            for workload, lengths, epochs in (
                (SPEECH, samples(SPEECH)[:TRAINED], whole_epochs),
                (TEXT, samples(TEXT), sampled_epochs),
            ):
                _compare(record, who, workload, model, lengths, epochs, min(rounds, MOST), rows)
    record.tables["time against padding"] = rows


@cache
def cost_of(who: str, repeats: int) -> seqpar.CostModel:
    """Measured once in a process."""
    with one_thread():
        return measured_cost(Training(who), SIZES, repeats)


def _compare(
    record: Record,
    who: str,
    workload: Workload,
    model: seqpar.CostModel,
    lengths: Array,
    epochs: Callable[[str, Plans, Array, int], dict[str, Samples]],
    rounds: int,
    rows: list[dict[str, Any]],
) -> None:
    budget = BUDGET[workload]
    # From all draws: of a few thousand every batch that is not full would count, which no plan foresees.
    drawn = samples(workload)
    plans = {
        "time": seqpar.plan_buckets(drawn, BUCKETS, cost=model, max_tokens=budget),
        "padding": seqpar.plan_buckets(drawn, BUCKETS, max_tokens=budget),
    }
    # What the boundaries of both cost by the model, whole batches counted, for the lengths that are trained.
    costed = {
        name: seqpar.plan_buckets(lengths, boundaries=plan.boundaries, cost=model, max_tokens=budget)
        for name, plan in plans.items()
    }
    predicted = {name: plan.exact_cost or 0.0 for name, plan in costed.items()}
    times = epochs(who, plans, lengths, rounds)
    what = f"{who}, training, {workload.law}, {len(lengths):,} sequences, {BUCKETS} buckets"
    gain = times["padding"].over(times["time"])
    text = f"{what}: speed-up of buckets for the least time over least padding"
    goal = 1.0 if who == WHO[0] else ABOUT_AS_FAST
    record.add([Figure("3", text, gain, goal, group=f"3 {what}")], {f"3 {what}": times})
    for name, plan in plans.items():
        rows.append(
            {
                "who": who,
                "workload": workload.law,
                "sequences": len(lengths),
                "least": name,
                "boundaries": list(plan.boundaries),
                "batch sizes": list(plan.batch_sizes or ()),
                "padding": plan.padding,
                "predicted seconds": predicted[name],
                "measured seconds": times[name].median,
                "saving predicted": 1 - predicted[name] / predicted["padding"],
                "saving measured": 1 - times[name].over(times["padding"]),
                # By the model and without ragged batches: over the best there is.
                "rivals": {n: r.cost / plans["time"].predicted_cost for n, r in plans["time"].rivals.items()},
                "error of the model": model.error,
            }
        )


def whole_epochs(who: str, plans: Plans, lengths: Array, rounds: int) -> dict[str, Samples]:
    """Seconds of training an epoch, without what makes the batches. Batches of the plans take turns, so that all drift alike."""
    data = sequences(lengths)
    trainings = _warm(who, plans)
    samplers = {name: seqpar.BucketSampler(plan, lengths, seed=0) for name, plan in plans.items()}
    found: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(rounds):
        spent = dict.fromkeys(plans, 0.0)
        for batches in zip_longest(*samplers.values()):
            for name, batch in zip(plans, batches, strict=True):
                if batch is not None:
                    own = [data[i] for i in batch.real]
                    x, mask, _, _ = seqpar.pad_batch(own, boundary=batch.boundary, batch_size=len(batch))
                    spent[name] += _seconds(trainings[name], x, mask, batch.tokens)
        for name, seconds in spent.items():
            found[name].append(seconds)
    return {name: Samples(tuple(seconds)) for name, seconds in found.items()}


def sampled_epochs(who: str, plans: Plans, lengths: Array, rounds: int) -> dict[str, Samples]:
    """Seconds of an epoch, from one full batch of every bucket a round: buckets of the plans take turns."""
    trainings = _warm(who, plans)
    found: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(rounds):
        spent = dict.fromkeys(plans, 0.0)
        for bucket in range(max(plan.n_buckets for plan in plans.values())):
            for name, plan in plans.items():
                if bucket < plan.n_buckets:
                    size = (plan.batch_sizes or ())[bucket]
                    batches = -(-plan.counts[bucket] // size)
                    batch = trainings[name].inputs(plan.boundaries[bucket], size)
                    spent[name] += batches * _seconds(trainings[name], *batch)
        for name, seconds in spent.items():
            found[name].append(seconds)
    return {name: Samples(tuple(seconds)) for name, seconds in found.items()}


def _warm(who: str, plans: Plans) -> dict[str, Training]:
    """Kernels loaded, for steps of every size of a batch."""
    trainings = {name: Training(who) for name in plans}
    for name, plan in plans.items():
        for boundary, size in zip(plan.boundaries, plan.batch_sizes or (), strict=True):
            trainings[name].step(*trainings[name].inputs(min(boundary, 512), size))
    return trainings


def _seconds(training: Training, x: Array, mask: Array, total: int) -> float:
    start = time.perf_counter()
    training.step(x, mask, total)
    return time.perf_counter() - start
