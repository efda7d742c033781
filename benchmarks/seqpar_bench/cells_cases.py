"""The recurrent networks that figures of `seqpar.cells` are measured on: a module of torch.nn, its parameters and an input.

Default networks forget within a hundred steps. The others are where walking in parallel gains nothing or little: weights so large
that the network is chaotic, and two trained networks (`seqpar_bench.networks`), of which one has learnt to remember.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqpar import cells
from seqpar.cells import Cell
from seqpar_bench.networks import trained
from seqpar_bench.solving_cases import adding

Array = Any


@dataclass(frozen=True)
class Sizes:
    """How large the figures' problems are."""

    steps: int = 17_984
    more_steps: int = 100_000
    """With few units, and where memory is measured."""
    few_steps: int = 200
    table_steps: int = 4096
    many_rows: int = 256
    batches: tuple[int, ...] = (1, 4, 16)
    table_units: tuple[int, ...] = (1, 8, 16, 32, 64, 128)
    table_batches: tuple[int, ...] = (1, 4, 16, 64)


FULL = Sizes()
QUICK = Sizes(
    steps=150,
    more_steps=200,
    few_steps=40,
    table_steps=60,
    many_rows=20,
    batches=(1, 2),
    table_units=(1, 8),
    table_batches=(1, 3),
)
"""Whether everything runs and all answers agree; nothing about times."""


@dataclass(frozen=True)
class Case:
    """A network as torch has it, and what it reads: x (batch, steps, inputs) in float32."""

    cell: Cell
    module: Any
    x: Array

    @property
    def params(self) -> dict[str, Array]:
        """The parameters that seqpar takes, as NumPy arrays."""
        state = {name: tensor.detach().numpy() for name, tensor in self.module.state_dict().items()}
        return self.cell.from_torch(state)

    @property
    def cotangent(self) -> Array:
        """Of the outputs (batch, steps, hidden)."""
        shape = (*self.x.shape[:-1], self.module.hidden_size)
        return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def network(
    name: str = "gru", units: int = 32, batch: int = 1, steps: int = FULL.steps, scale: float = 1.0
) -> Case:
    """A network as torch.nn.GRU or LSTM is after it was made; recurrent weights times `scale`: from 5 on it is chaotic."""
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[name]
        module = kind(units, units, batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0 *= scale
    return Case({"gru": cells.gru, "lstm": cells.lstm}[name], module, _inputs(batch, steps, units))


def remembering(steps: int = FULL.steps) -> Case:
    """A GRU trained to keep two of a hundred numbers; 32 units."""
    return Case(cells.gru, _loaded(trained("adding")), adding(steps=steps).x.astype(np.float32))


def predicting(steps: int = FULL.steps) -> Case:
    """A GRU trained to predict a noisy sine, reading one; 8 units."""
    rng = np.random.default_rng(0)
    x = np.sin(0.2 * np.arange(steps)) + 0.1 * rng.standard_normal(steps)
    return Case(cells.gru, _loaded(trained("sine")), x.astype(np.float32)[None, :, None])


def _inputs(batch: int, steps: int, units: int) -> Array:
    return np.random.default_rng(0).standard_normal((batch, steps, units), dtype=np.float32)


def _loaded(weights: Mapping[str, Array]) -> Any:
    import torch

    inputs, units = weights["W"].shape[0], weights["U"].shape[0]
    module = torch.nn.GRU(inputs, units, batch_first=True)
    names = {"W": "weight_ih_l0", "U": "weight_hh_l0", "b": "bias_ih_l0", "c": "bias_hh_l0"}
    module.load_state_dict({name: torch.from_numpy(weights[key].T.copy()) for key, name in names.items()})
    return module
