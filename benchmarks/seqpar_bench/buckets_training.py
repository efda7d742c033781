"""A step of training on a padded batch, as figures of `plan_buckets` time it: torch.nn.GRU, or our kernel with its parameters.

PyTorch is kept on one thread: at these sizes a second one gains little, and threads that spin after a step would be timed with
the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import seqpar
from seqpar import cells

Array = Any
UNITS, FEATURES = 64, 16
WHO = ("torch.nn.GRU", "seqpar.cells.gru")


@contextmanager
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Training:
    """A small GRU that learns to say nothing: forward, loss over real steps, gradients, a step of SGD."""

    def __init__(self, who: str) -> None:
        import torch

        torch.manual_seed(0)
        self.who = who
        self.module = torch.nn.GRU(FEATURES, UNITS, batch_first=True)
        self.optimiser = torch.optim.SGD(self.module.parameters(), lr=1e-3)
        self.noise = torch.randn(1 << 22)

    def inputs(self, length: int, batch: int) -> tuple[Array, Array, int]:
        """A batch without padding."""
        import torch

        x = self.noise[: batch * length * FEATURES].view(batch, length, FEATURES)
        return x, torch.ones((batch, length), dtype=torch.bool), batch * length

    def outputs(self, x: Array) -> Array:
        if self.who == "torch.nn.GRU":
            return self.module(x)[0]
        params = cells.gru.from_torch(self.module)
        return cells.gru.output(seqpar.recurrence(cells.gru, x, None, params))

    def step(self, x: Array, mask: Array, total: int) -> float:
        self.optimiser.zero_grad()
        loss = seqpar.normalised_loss(self.outputs(x).square().mean(-1), mask=mask, total=total)
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


def measured_cost(training: Training, sizes: list[tuple[int, int]], repeats: int) -> seqpar.CostModel:
    """The time of a step as seqpar fits it to a few."""
    return seqpar.measure_cost(training.step, sizes, inputs=training.inputs, repeats=repeats, progress=False)


def sequences(lengths: Array) -> list[Array]:
    """Random sequences of those lengths."""
    import torch

    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(int(lengths.sum()), FEATURES, generator=generator)
    return list(torch.split(whole, np.asarray(lengths).tolist()))
