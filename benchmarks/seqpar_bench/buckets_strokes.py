"""Figure 3 of `plan_buckets`: an LSTM of torch.nn learns to read made-up handwriting, without buckets and with 1 to 16 of them.

The same network from the same weights, the same data, batches of one size, so about as many steps of the optimiser in an epoch:
what differs is which characters meet in a batch, and how far they are padded. Epochs of all ways take turns. Every way is judged
on the same other characters; their time does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.buckets_pens import CLASSES, Characters, written
from seqpar_bench.buckets_training import one_thread
from seqpar_bench.measure import Samples
from seqpar_bench.record import Figure, Record

Array = Any
BUCKETS = (1, 2, 4, 8, 16)
RANDOM = "random batches, each to its longest"
TRAIN, JUDGE, BATCH, UNITS = 2048, 1024, 16, 64
EPOCHS, SEEDS = 10, 3
RATE, STEEPEST = 3e-3, 1.0
"""Of Adam, falling to zero over the epochs; and the norm to which gradients are clipped."""
GOAL = 0.4
"""Loss on the other characters, in nats, that counts as learnt."""
READY = 512
"""Samples of which validation takes a batch."""


class Reader:
    """An LSTM, the mean of its outputs over the real steps, and a layer that tells the classes apart."""

    def __init__(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        self.lstm = torch.nn.LSTM(3, UNITS, batch_first=True)
        self.last = torch.nn.Linear(UNITS, CLASSES)
        parameters = [*self.lstm.parameters(), *self.last.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=RATE)
        self.parameters = parameters

    def losses(self, x: Array, mask: Array, labels: Array) -> tuple[Array, Array]:
        """Of each sample, and whether it was read right."""
        import torch

        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        mean = (share[:, None] @ self.lstm(x)[0])[:, 0]
        scores = self.last(mean)
        return torch.nn.functional.cross_entropy(scores, labels, reduction="none"), scores.argmax(1) == labels

    def learn(self, x: Array, mask: Array, weights: Array, labels: Array, total: int, done: float) -> None:
        """A step of the optimiser, when this share of the training is done."""
        import torch

        self.optimiser.zero_grad()
        loss = seqpar.normalised_loss(self.losses(x, mask, labels)[0], weights, total=total)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, STEEPEST)
        self.optimiser.param_groups[0]["lr"] = RATE * (1 - done)
        self.optimiser.step()


Step = tuple[list[int], int, int]
"""Samples of a batch, its boundary, and its rows."""


def ways(characters: Characters, seed: int) -> dict[str, Iterator[list[Step]]]:
    """For each way to make batches the epochs of them."""
    found = {RANDOM: _random(characters.lengths, seed)}
    for number in BUCKETS:
        plan = seqpar.plan_buckets(characters.lengths, number, batch_size=BATCH)
        # Fillers, or samples padded further: what costs less.
        sampler = seqpar.BucketSampler(plan, characters.lengths, seed=seed, remainder="auto")
        found[_name(number)] = _bucketed(sampler)
    return found


def _name(number: int) -> str:
    return f"{number} bucket{'s' * (number > 1)}"


def _random(lengths: Array, seed: int) -> Iterator[list[Step]]:
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(lengths))
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        yield [(own.tolist(), int(lengths[own].max()), len(own)) for own in batches]


def _bucketed(sampler: seqpar.BucketSampler) -> Iterator[list[Step]]:
    while True:
        yield [(batch.real, batch.boundary, len(batch)) for batch in sampler]


def strokes(record: Record, rounds: int) -> None:
    """Trains all ways for each seed, and says what became of them."""
    seeds = range(min(max(rounds, 1), SEEDS))
    runs: dict[str, list[dict[str, Any]]] = {}
    with one_thread():
        for seed in seeds:
            for name, run in _learn_all(seed).items():
                runs.setdefault(name, []).append(run)
    record.tables["pen strokes"] = [_row(name, found) for name, found in runs.items()]
    times = {name: Samples(tuple(s for run in found for s in run["seconds"])) for name, found in runs.items()}
    group = f"3 torch.nn.LSTM, {UNITS} units, {TRAIN:,} made-up characters, batches of {BATCH}, an epoch"
    record.add(
        [
            Figure("3", f"{group[2:]}: speed-up of {way} over {other}", times[other].over(times[way]), 1.0, group=group)
            for other in (RANDOM, _name(1))
            for way in map(_name, BUCKETS[1:])
        ],
        {group: times},
    )  # fmt: skip


def _learn_all(seed: int) -> dict[str, dict[str, Any]]:
    """Losses after each epoch and seconds of each, by way."""
    train, judge = written(TRAIN, 2 * seed), written(JUDGE, 2 * seed + 1)
    data, labels = _tensors(train)
    held = _judging(judge)
    batches = ways(train, seed)
    readers = {name: Reader(seed) for name in batches}
    found: dict[str, dict[str, Any]] = {
        name: {"seconds": [], "losses": [], "right": [], "padded": 0, "steps": 0} for name in batches
    }
    for epoch in range(EPOCHS):
        names = list(batches)
        for name in names[epoch % len(names) :] + names[: epoch % len(names)]:
            run, reader, steps = found[name], readers[name], next(batches[name])
            start = time.perf_counter()
            for number, (own, boundary, rows) in enumerate(steps):
                x, mask, _, weights = seqpar.pad_batch(
                    [data[i] for i in own], boundary=boundary, batch_size=rows
                )
                done = (epoch + number / len(steps)) / EPOCHS
                reader.learn(x, mask, weights, _filled(labels[own], rows), len(own), done)
            run["seconds"].append(time.perf_counter() - start)
            run["padded"] += sum(boundary * rows for _, boundary, rows in steps)
            run["steps"] += len(steps)
            loss, right = _judged(reader, held)
            run["losses"].append(loss)
            run["right"].append(right)
    for run in found.values():
        run["padding"] = 1 - EPOCHS * int(train.lengths.sum()) / run["padded"]
    return found


def _tensors(characters: Characters) -> tuple[list[Array], Array]:
    import torch

    return [torch.from_numpy(steps) for steps in characters.steps], torch.from_numpy(characters.labels)


def _filled(labels: Array, rows: int) -> Array:
    """Any label for fillers, whose weight is zero."""
    import torch

    return torch.nn.functional.pad(labels, (0, rows - len(labels)))


def _judging(characters: Characters) -> list[tuple[Array, Array, Array]]:
    """The other characters, in batches from short to long, the same for everybody."""
    data, labels = _tensors(characters)
    order = np.argsort(characters.lengths, kind="stable")
    batches = []
    for i in range(0, len(order), READY // 4):
        own = order[i : i + READY // 4].tolist()
        x, mask, _, _ = seqpar.pad_batch([data[j] for j in own])
        batches.append((x, mask, labels[own]))
    return batches


def _judged(reader: Reader, batches: list[tuple[Array, Array, Array]]) -> tuple[float, float]:
    """The mean loss, and the share that is read right."""
    import torch

    with torch.no_grad():
        found = [reader.losses(*batch) for batch in batches]
    return tuple(float(torch.cat(each).double().mean()) for each in zip(*found, strict=True))  # type: ignore[return-value]


def _row(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and all that was seen."""
    reached = [_reached(run) for run in runs]
    known = [r for r in reached if r is not None]
    every = known if len(known) == len(runs) else []
    return {
        "batches": name,
        "padding": statistics.mean(run["padding"] for run in runs),
        "steps of an epoch": statistics.mean(run["steps"] / EPOCHS for run in runs),
        "seconds of an epoch": statistics.median(s for run in runs for s in run["seconds"]),
        "goal": GOAL,
        "epochs to goal": statistics.mean(epochs for epochs, _ in every) if every else None,
        "seconds to goal": statistics.mean(seconds for _, seconds in every) if every else None,
        "seeds at goal": f"{len(known)} of {len(runs)}",
        "last loss": statistics.mean(run["losses"][-1] for run in runs),
        "last right": statistics.mean(run["right"][-1] for run in runs),
        "losses": [run["losses"] for run in runs],
        "seconds": [run["seconds"] for run in runs],
    }


def _reached(run: dict[str, Any]) -> tuple[int, float] | None:
    """Epochs and seconds until the goal, None if it was not reached."""
    for epoch, loss in enumerate(run["losses"], 1):
        if loss <= GOAL:
            return epoch, sum(run["seconds"][:epoch])
    return None
