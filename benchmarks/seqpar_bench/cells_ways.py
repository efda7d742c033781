"""Every way to run a recurrent network over a sequence, forward and as a step of training: ours in each framework, and its peers.

A `Run` does the work when called and waits for it; `answer` reads what it returned as NumPy arrays by name, all in the cell's own
layout, so that anybody's may be compared with anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import seqpar
from seqpar_bench import cells_peers as peers
from seqpar_bench.cells_cases import Case
from seqpar_bench.measure import Thunk

Array = Any
Answer = dict[str, Array]


@dataclass(frozen=True)
class Run:
    """A call and how to read it."""

    call: Thunk
    read: Callable[[Any], Answer]

    def answer(self) -> Answer:
        return self.read(self.call())


def outputs(states: Array) -> Answer:
    return {"outputs": np.asarray(states)}


@dataclass(frozen=True)
class Torch:
    """seqpar in PyTorch."""

    case: Case
    method: str = "auto"

    def forward(self) -> Run:
        import torch

        case = self.case
        x, params = self._arrays(False)

        def call() -> Array:
            with torch.no_grad():
                return case.cell.output(seqpar.recurrence(case.cell, x, None, params, method=self.method))

        return Run(call, outputs)

    def training(self) -> Run:
        import torch

        case = self.case
        x, params = self._arrays(True)
        g = torch.from_numpy(case.cotangent)
        leaves = {"x": x, **params}

        def call() -> Any:
            h = case.cell.output(seqpar.recurrence(case.cell, x, None, params, method=self.method))
            return torch.autograd.grad(h, tuple(leaves.values()), g)

        return Run(call, lambda found: dict(zip(leaves, map(np.asarray, found), strict=True)))

    def _arrays(self, differentiable: bool) -> tuple[Any, dict[str, Any]]:
        import torch

        given = {name: torch.from_numpy(p.copy()) for name, p in self.case.params.items()}
        x = torch.from_numpy(self.case.x)
        for leaf in (x, *given.values()):
            leaf.requires_grad_(differentiable)
        return x, given


@dataclass(frozen=True)
class TorchModule:
    """torch.nn.GRU or LSTM; in float64 to have the truth."""

    case: Case
    dtype: str = "float32"

    def forward(self) -> Run:
        import torch

        module, x, _ = self._posed()

        def call() -> Array:
            with torch.no_grad():
                return module(x)[0]

        return Run(call, outputs)

    def training(self) -> Run:
        import torch

        module, x, g = self._posed()
        x.requires_grad_()
        leaves = (x, *module.parameters())
        names = [name for name, _ in module.named_parameters()]

        def call() -> Any:
            return torch.autograd.grad(module(x)[0], leaves, g)

        def read(found: Any) -> Answer:
            dx, *others = (np.asarray(leaf) for leaf in found)
            return {"x": dx, **_gradients(self.case, dict(zip(names, others, strict=True)))}

        return Run(call, read)

    def _posed(self) -> Any:
        import torch

        dtype = getattr(torch, self.dtype)
        case, hidden = self.case, self.case.module.hidden_size
        # A copy: the case keeps its own float32 parameters, and no gradients gather in it.
        module = type(case.module)(case.module.input_size, hidden, batch_first=True).to(dtype)
        module.load_state_dict(case.module.state_dict())
        return module, torch.tensor(case.x, dtype=dtype), torch.tensor(case.cotangent, dtype=dtype)


def _gradients(case: Case, found: Answer) -> Answer:
    """Of a cell's parameters, from torch.nn's: where it adds two biases up, both have the gradient of the sum."""
    grads = {"w": found["weight_ih_l0"].T, "u": found["weight_hh_l0"].T, "b": found["bias_ih_l0"]}
    if "c" in case.params:
        grads["c"] = found["bias_hh_l0"][2 * case.module.hidden_size :]
    return grads


@dataclass(frozen=True)
class JAX:
    """A function (params, x) -> outputs under `jax.jit`."""

    case: Case
    function: Callable[[Any, Any], Array]

    def forward(self) -> Run:
        import jax

        params, x = self._arrays()
        compiled = jax.jit(self.function)
        return Run(lambda: jax.block_until_ready(compiled(params, x)), outputs)

    def training(self) -> Run:
        import jax

        params, x = self._arrays()
        g = jax.device_put(self.case.cotangent, jax.devices("cpu")[0])

        @jax.jit
        def step(params: Any, x: Array, g: Array) -> Any:
            dparams, dx = jax.vjp(self.function, params, x)[1](g)
            return {**dparams, "x": dx}

        def read(found: Any) -> Answer:
            return {name: np.asarray(value) for name, value in found.items()}

        return Run(lambda: jax.block_until_ready(step(params, x, g)), read)

    def _arrays(self) -> Any:
        import jax

        return jax.device_put((self.case.params, self.case.x), jax.devices("cpu")[0])


def jax_seqpar(case: Case, method: str = "auto") -> JAX:
    cell = case.cell
    return JAX(case, lambda params, x: cell.output(seqpar.recurrence(cell, x, None, params, method=method)))


def jax_scan(case: Case, together: bool = False) -> JAX:
    return JAX(case, lambda params, x: peers.scan(case.cell.name, params, x, together=together))


@dataclass(frozen=True)
class NumPy:
    """seqpar on NumPy's arrays, which have no gradients."""

    case: Case
    method: str = "auto"

    def forward(self) -> Run:
        case, params = self.case, self.case.params

        def call() -> Array:
            return case.cell.output(seqpar.recurrence(case.cell, case.x, None, params, method=self.method))

        return Run(call, outputs)


@dataclass(frozen=True)
class NumPyLoop:
    case: Case

    def forward(self) -> Run:
        case, params = self.case, self.case.params
        return Run(lambda: peers.NUMPY[case.cell.name](params, case.x), outputs)
