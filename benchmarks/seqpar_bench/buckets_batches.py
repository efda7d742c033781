"""Beside the figures of `plan_buckets`: what it takes to draw batches, to resume, to pad, and to pack instead of padding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.buckets_cases import SPEECH, samples
from seqpar_bench.buckets_training import one_thread
from seqpar_bench.measure import Thunk, interleave
from seqpar_bench.record import Record

Array = Any
MANY = 10_000_000
"""Samples of the data set whose batches are drawn."""
BATCH, RANKS = 32, 8
ROWS, FEATURES, CHANNELS = 64, 16, 64
PACKED = 128
"""Sequences that are packed."""


def sampling(record: Record, rounds: int) -> None:
    """Batches of ten million samples, and resuming in the middle of an epoch."""
    import torch

    drawn = np.random.default_rng(0).lognormal(SPEECH.mean, SPEECH.deviation, MANY)
    lengths = np.clip(np.rint(drawn), SPEECH.least, SPEECH.most).astype(np.int64)
    del drawn
    plan = seqpar.plan_buckets(lengths, 8, batch_size=BATCH)
    one = seqpar.BucketSampler(plan, lengths, seed=0)
    eighth = seqpar.BucketSampler(plan, lengths, seed=0, rank=3, world_size=RANKS)
    back = seqpar.BucketSampler(plan, lengths, seed=0)
    # Other places each time: a sampler keeps the block of groups that it worked out last.
    places = cycle(one.state_at(0, len(one) * k // 101) for k in (37 * i % 101 for i in range(101)))

    def resume() -> object:
        back.load_state_dict(next(places))
        return next(iter(back))

    theirs = torch.utils.data.RandomSampler(range(MANY))
    random = _endless(torch.utils.data.BatchSampler(theirs, BATCH, drop_last=False))
    ways: dict[str, Thunk] = {
        f"a batch of {BATCH}, BucketSampler": partial(next, _endless(one)),
        f"a batch of {BATCH}, BucketSampler, one of {RANKS} ranks": partial(next, _endless(eighth)),
        f"a batch of {BATCH}, torch's BatchSampler in random order": partial(next, random),
        "resume in the middle of an epoch, and its first batch": resume,
    }
    record.add([], {f"extra {MANY:,} samples": interleave(ways, rounds=rounds, sample_seconds=1e-2)})
    ways = {
        "make a BucketSampler": partial(seqpar.BucketSampler, plan, lengths, seed=0),
        "plan_buckets from all lengths": partial(seqpar.plan_buckets, lengths, 8, batch_size=BATCH),
    }
    record.add(
        [], {f"extra {MANY:,} samples, before the first batch": interleave(ways, rounds=min(rounds, 3))}
    )


def _endless(batches: Any) -> Iterator[Any]:
    """Batch after batch, epoch after epoch."""
    while True:
        yield from batches


def padding(record: Record, rounds: int) -> None:
    """Sequences of the workload as one array: ours with mask, lengths and weights, others without."""
    import torch

    lengths = samples(SPEECH)[:ROWS]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((int(length), FEATURES), np.float32) for length in lengths]
    tensors = [torch.from_numpy(x) for x in arrays]
    theirs = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    same = [seqpar.pad_batch(arrays).padded, seqpar.pad_batch(tensors).padded, theirs(tensors), _loop(arrays)]
    assert all(np.array_equal(np.asarray(x), np.asarray(same[0])) for x in same)
    with one_thread():
        ways: dict[str, Thunk] = {
            "pad_batch, torch": lambda: seqpar.pad_batch(tensors),
            "pad_sequence of torch, no mask": lambda: theirs(tensors),
            "pad_batch, NumPy": lambda: seqpar.pad_batch(arrays),
            "a loop in NumPy, no mask": lambda: _loop(arrays),
            "pack_batch, torch": lambda: seqpar.pack_batch(tensors),
            "pack_sequence of torch": lambda: torch.nn.utils.rnn.pack_sequence(tensors, enforce_sorted=False),
        }
        name = f"extra {ROWS} sequences of {SPEECH.law}, {FEATURES} features"
        record.add([], {name: interleave(ways, rounds=rounds)})


def _loop(arrays: list[Array]) -> Array:
    padded = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, x in zip(padded, arrays, strict=True):
        row[: len(x)] = x
    return padded


def packing(record: Record, rounds: int) -> None:
    """No padding at all: a linear recurrence over sequences end to end; and what packing does to an LSTM of torch."""
    import torch

    lengths = samples(SPEECH)[:PACKED]
    rng = np.random.default_rng(0)
    coefficients = [rng.uniform(0.5, 1, (int(n), CHANNELS)).astype(np.float32) for n in lengths]
    inputs = [rng.standard_normal((int(n), CHANNELS), np.float32) for n in lengths]
    plan = seqpar.plan_buckets(lengths, 8, batch_size=PACKED)
    buckets = plan.bucket_of(lengths)
    at = [np.flatnonzero(buckets == bucket) for bucket in range(plan.n_buckets)]
    padded = [
        tuple(
            seqpar.pad_batch([x[i] for i in own], batch_size=len(own)).padded for x in (coefficients, inputs)
        )
        for own in at
    ]
    whole = tuple(seqpar.pad_batch(x).padded for x in (coefficients, inputs))
    a, b = (seqpar.pack_batch(x) for x in (coefficients, inputs))

    def packed() -> Array:
        return seqpar.linear_recurrence(a.packed, b.packed, axis=0, resets=b.resets)

    def bucketed() -> list[Array]:
        return [seqpar.linear_recurrence(*own, axis=1) for own in padded]

    for i, states in enumerate(b.unpack(packed())):
        own = seqpar.linear_recurrence(coefficients[i], inputs[i], axis=0)
        np.testing.assert_allclose(states, own, rtol=2e-5, atol=2e-5)
    steps = f"{int(lengths.sum()):,} steps"
    ways: dict[str, Thunk] = {
        f"linear_recurrence, padded, {plan.n_buckets} buckets": bucketed,
        "linear_recurrence, padded, one batch": lambda: seqpar.linear_recurrence(*whole, axis=1),
        "linear_recurrence, packed": packed,
    }
    name = f"extra {PACKED} sequences of {SPEECH.law}, {steps}, {CHANNELS} channels"
    record.add([], {name: interleave(ways, rounds=rounds)})

    with one_thread(), torch.no_grad():
        lstm = torch.nn.LSTM(CHANNELS, CHANNELS, batch_first=True)
        tensors = [torch.from_numpy(x) for x in inputs]
        x = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        line = torch.nn.utils.rnn.pack_sequence(tensors, enforce_sorted=False)
        buckets_of = [torch.from_numpy(own[1]) for own in padded]
        ways = {
            f"torch.nn.LSTM, padded, {plan.n_buckets} buckets": lambda: [lstm(own) for own in buckets_of],
            "torch.nn.LSTM, padded, one batch": lambda: lstm(x),
            "torch.nn.LSTM, PackedSequence": lambda: lstm(line),
        }
        record.add([], {f"{name}, LSTM forward": interleave(ways, rounds=min(rounds, 5))})
