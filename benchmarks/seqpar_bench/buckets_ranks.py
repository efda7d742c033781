"""Figure 4 of `plan_buckets`: eight ranks that wait for the slowest at each step, under the measured time of a step.

Nothing runs in parallel here: the shapes of the batches are those that samplers give to eight ranks, and their times are those of
the cost that was measured. What is compared with is a sampler on each rank that draws from its own share of the data, in the same
buckets: ranks then do batches of different lengths at one step.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.buckets_cases import WORKLOADS, samples
from seqpar_bench.buckets_time import BUCKETS, BUDGET, cost_of
from seqpar_bench.buckets_training import WHO
from seqpar_bench.record import Figure, Record

Array = Any
RANKS = 8
DATA = 200_000
"""Sequences."""
TOGETHER, ALONE = "BucketSampler", "a sampler on each rank for itself"
LEAST, MOST = 0.98, 0.5


def eight_ranks(record: Record, rounds: int) -> None:
    rows: list[dict[str, Any]] = []
    for workload in WORKLOADS:
        lengths = samples(workload)[:DATA]
        for who in WHO:
            model = cost_of(who, min(max(3, rounds), 5))
            plan = seqpar.plan_buckets(
                lengths, BUCKETS, cost=model, max_tokens=BUDGET[workload], ranks_per_step=RANKS
            )
            for way, batches in ((TOGETHER, together(plan, lengths)), (ALONE, alone(plan, lengths))):
                rows.append(
                    {
                        "workload": workload.law,
                        "sequences": len(lengths),
                        "who": who,
                        "way": way,
                        "steps": len(batches),
                        "efficiency": efficiency(model.times(batches[..., 0], batches[..., 1])),
                        "real steps, mean over most": efficiency(batches[..., 2]),
                    }
                )
    record.tables["eight ranks"] = rows
    for row in rows:
        what = f"{RANKS} ranks, {row['workload']}, time of a step of {row['who']}, {row['way']}: mean over longest"
        if row["way"] == TOGETHER:
            record.add([Figure("4", what, row["efficiency"], LEAST, "at least", "")])
        elif row["who"] == WHO[0] and row["workload"] == rows[-1]["workload"]:
            # Where ranks on their own lose most: long loops and lengths that differ a thousandfold. The others are in the table.
            record.add([Figure("4", what, row["efficiency"], MOST, "at most", "")])


def efficiency(work: Array) -> float:
    """Of (steps, ranks): what ranks do, as a share of the time until the last one is done, over all steps."""
    return float(work.mean(1).sum() / work.max(1).sum())


def together(plan: seqpar.BucketPlan, lengths: Array) -> Array:
    """Length and size of the batch, and its real steps, of (steps, ranks)."""
    samplers = [
        seqpar.BucketSampler(plan, lengths, seed=0, rank=rank, world_size=RANKS) for rank in range(RANKS)
    ]
    # All ranks have as many batches, or zip raises.
    return np.array([[_facts(b, lengths) for b in step] for step in zip(*samplers, strict=True)])


def alone(plan: seqpar.BucketPlan, lengths: Array) -> Array:
    """The same, until the first rank is through with its share."""
    shares = [lengths[rank::RANKS] for rank in range(RANKS)]
    samplers = [seqpar.BucketSampler(plan, share, seed=rank) for rank, share in enumerate(shares)]
    steps = min(map(len, samplers))
    ranks = [
        [_facts(b, share) for b in islice(sampler, steps)]
        for sampler, share in zip(samplers, shares, strict=True)
    ]
    return np.array(ranks).swapaxes(0, 1)


def _facts(batch: seqpar.Batch, lengths: Array) -> tuple[int, int, int]:
    return batch.boundary, len(batch), int(lengths[batch.real].sum())
