"""Training a GRU on sequences of different lengths with PyTorch, in one process or several, with the batches of a plan.

    python examples/bucketed_training.py [--processes N] [--epochs N] [--samples N] [--buckets N]

prints the plan, and for each epoch the loss, the share of sequences that were told rightly before they were learnt from, the
padding with the places that no sequence filled, and sequences per second. The losses of 1, 2 and 4 processes are the same, up
to rounding. The task: which of four oscillations is it, in noise, for a random time?
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import seqpar

RANKS = 4
"""Batches of one step of the optimiser: one for each of 4 processes, two for each of 2, all four in one."""
PERIODS = (4.0, 6.0, 9.0, 14.0)


class Oscillations(Dataset[tuple[Tensor, int]]):
    """Sequences (steps, 1) and which of `PERIODS` each has. Their lengths are known before any of them is made."""

    def __init__(self, samples: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.dtype = seed, dtype
        self.lengths = rng.lognormal(3.5, 0.7, samples).clip(8, 200).astype(np.int64)
        self.labels = rng.integers(len(PERIODS), size=samples)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng((self.seed, index))
        turns = np.arange(self.lengths[index]) / PERIODS[self.labels[index]] + rng.random()
        x = np.sin(2 * np.pi * turns) + rng.normal(scale=0.5, size=turns.shape)
        return torch.tensor(x[:, None], dtype=self.dtype), int(self.labels[index])


class Classifier(nn.Module):
    """A GRU, the mean of its states over the steps that are real, and a linear layer."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, len(PERIODS))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        states = self.gru(x)[0] * mask[..., None]
        return self.out(states.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


def planned(data: Oscillations, buckets: int = 6, max_tokens: int = 512) -> seqpar.BucketPlan:
    """At most `max_tokens` padded steps for each process at a time."""
    return seqpar.plan_buckets(data.lengths, buckets, max_tokens=max_tokens, ranks_per_step=RANKS)


def train(
    rank: int,
    processes: int,
    data: Oscillations,
    plan: seqpar.BucketPlan,
    epochs: int,
    state: Any = None,
    stop: int | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[list[float], Any]:
    """Train as one of several processes; the loss of every step of the optimiser, and the state to go on from.

    With the `state` that another call returned it goes on from there, with another number of processes too. `stop` ends it
    after so many steps of the optimiser.
    """
    torch.manual_seed(0)
    model = DistributedDataParallel(Classifier().to(data.dtype))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    sampler = seqpar.BucketSampler(
        plan, data.lengths, seed=0, rank=rank, world_size=processes, ranks_per_step=RANKS
    )
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        sampler.load_state_dict(state["sampler"])
    # The weight of a sequence is processes / (sequences of all four batches), so that losses, added up in a process and averaged
    # over them, are the mean loss of all sequences; the weight of a filler is 0.
    collate = plan.collator(normalise="samples")
    loader = DataLoader(
        plan.wrap(data),
        batch_sampler=sampler,
        collate_fn=lambda samples: (*collate(samples), samples.batch),
    )
    losses: list[float] = []
    while sampler.epoch < epochs and len(losses) != stop:
        epoch, start = sampler.epoch, time.perf_counter()
        own, counted = [torch.zeros((), dtype=data.dtype)], torch.zeros(4)
        for (x, label), mask, weights, batch in loader:
            # Gradients of the batches of a group add up; with those of the last one all processes take their mean.
            with nullcontext() if batch.last else model.no_sync():
                logits = model(x, mask)
                loss = (weights * cross_entropy(logits, label, reduction="none")).sum()
                loss.backward()
            own[-1] += loss.detach()
            real = weights > 0
            right = (logits.argmax(1) == label) & real
            counted += torch.tensor([right.sum(), real.sum(), mask.sum(), mask.numel()])
            if batch.last:
                optimizer.step()
                optimizer.zero_grad()
                own.append(torch.zeros_like(own[-1]))
                if len(losses) + len(own) - 1 == stop:
                    break
        at = sampler.state_after(batch)
        each = torch.stack(own[:-1]) / processes
        dist.all_reduce(each)
        dist.all_reduce(counted)
        losses += each.tolist()
        rightly, samples, steps, padded = counted.tolist()
        report(
            f"epoch {epoch}: loss {each.mean():.4f}, right {rightly / samples:.1%}, padding {1 - steps / padded:.1%}, "
            f"{samples / (time.perf_counter() - start):,.0f} sequences/s"
        )
    return losses, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "sampler": at}


def work(rank: int, processes: int, folder: str, samples: int, buckets: int, epochs: int) -> None:
    """What each process does. All meet at a file, so that no port has to be free."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=processes,
        timeout=timedelta(minutes=5),
    )
    data = Oscillations(samples)
    plan = planned(data, buckets)

    def report(text: str) -> None:
        if rank == 0:
            print(text, flush=True)

    report(str(plan))
    train(rank, processes, data, plan, epochs, report=report)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2, 4))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--buckets", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = (args.processes, folder, args.samples, args.buckets, args.epochs)
        torch.multiprocessing.spawn(work, given, nprocs=args.processes)
