"""Figure 3 of autotune: numbers of buckets by the measured steps of a GRU of torch.nn, against the plan without tuning.

Both plans are trained again afterwards: one full batch of every bucket in turn, each counted as often as an epoch has it.
"""

from __future__ import annotations

from typing import Any

from seqpar_autotune.bucket_counts import TunedBuckets, tune_buckets
from seqpar_bench.autotune_again import LEAST_ROUNDS, Again, compared
from seqpar_bench.buckets_cases import Workload, samples
from seqpar_bench.buckets_time import sampled_epochs
from seqpar_bench.buckets_training import WHO, Training, one_thread
from seqpar_bench.record import Figure, Record

SHORT = Workload(4.0, 1.0, 8, 256, 4000)
"""Steps of a few milliseconds, so that a minute is enough for many numbers of buckets."""
BUDGET = 2048
"""Padded steps of a batch."""
SECONDS = 60.0
EPOCHS = 10
MOST = 24
"""Buckets at most."""


def buckets(record: Record, rounds: int) -> None:
    """Tune, then train both plans."""
    lengths = samples(SHORT, (SHORT,))
    with one_thread():
        training = Training(WHO[0])
        found = tune_buckets(
            training.step,
            lengths,
            inputs=training.inputs,
            max_tokens=BUDGET,
            max_buckets=MOST,
            epochs=EPOCHS,
            seconds=SECONDS,
        )
        plans = {"tuned": found.plan, "default": found.default}
        times = sampled_epochs(WHO[0], plans, lengths, max(rounds, LEAST_ROUNDS))
    what = f"{WHO[0]}, training, {SHORT.law}, {len(lengths):,} sequences"
    again = compared(what, times["tuned"].seconds, times["default"].seconds)
    group = f"3 {what}"
    text = (
        f"{what}: speed-up of {found.plan.n_buckets} buckets that were tuned over the {found.default.n_buckets} without tuning "
        f"(noise {100 * again.noise:.1f} %)"
    )
    record.add([Figure("3", text, 1 / again.ratio, 1 - again.noise, group=group)], {group: times})
    record.tables["autotune buckets"] = rows(found, again)


def rows(found: TunedBuckets, again: Again) -> list[dict[str, Any]]:
    """Per number of buckets the epoch as the tuner measured it; of the two that were trained, the gain."""
    return [
        {
            "buckets": number,
            "seconds": seconds,
            "gain": found.default_seconds / seconds,
            "chosen": number == found.plan.n_buckets,
            "default": number == found.default.n_buckets,
            "gain again": 1 / again.ratio if number == found.plan.n_buckets else None,
            "noise again": again.noise if number == found.plan.n_buckets else None,
            "boundaries": list(found.plan.boundaries) if number == found.plan.n_buckets else None,
        }
        for number, seconds in found.by_buckets.items()
    ]
