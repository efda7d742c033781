"""Everybody else who runs a GRU, an LSTM or an Elman network: torch.nn, `jax.lax.scan`, and a loop in NumPy.

All take the input (batch, steps, inputs) and the parameters of the cell in the order of their names, and give the outputs
(batch, steps, units). torch.nn keeps its parameters its own way, so its gradients are read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqpar.cells import Cell
from seqpar_bench import cells_peers as written
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.problem import Call

Array = Any
Parameters = dict[str, Array]

MODULES = {"gru": "GRU", "lstm": "LSTM", "elman": "RNN"}


def jax_scan(name: str, params: Parameters, x: Array, *, together: bool = False) -> Array:
    """`jax.lax.scan`; `together`: the inputs' products in one call before it. Products in full precision on a GPU too."""
    import jax

    with jax.default_matmul_precision("highest"):
        return written.scan(name, params, x, together=together)


class TorchModule:
    """torch.nn.GRU, LSTM or RNN with the parameters of a cell, whose gradients `read` gives in the cell's order."""

    def __init__(self, cell: Cell, params: Parameters, frame: Frame) -> None:
        self.cell, self.frame = cell, frame
        self.names, self.units = tuple(params), params["u"].shape[0]
        self.params = params

    def _module(self) -> Any:
        torch = self.frame.module
        # cuDNN would multiply in TF32.
        torch.backends.cudnn.allow_tf32 = False
        state = {
            name: self.frame.array(np.ascontiguousarray(x))
            for name, x in self.cell.to_torch(self.params).items()
        }
        dtype = state["weight_ih_l0"].dtype
        kind = getattr(torch.nn, MODULES[self.cell.name])
        inputs = self.params["w"].shape[0]
        module = kind(inputs, self.units, batch_first=True, dtype=dtype, device=state["weight_ih_l0"].device)
        module.load_state_dict(state)
        return module

    def forward(self, x: Array) -> Call:
        module = self._module()
        return self.frame.forward(lambda x: module(x)[0], x)

    def gradient(self, x: Array, g: Array) -> Call:
        torch, module = self.frame.module, self._module()
        x = x.detach().clone().requires_grad_()
        entries = dict(module.named_parameters())
        leaves = (x, *entries.values())

        def step() -> tuple[Array, ...]:
            return tuple(torch.autograd.grad(module(x)[0], leaves, g))

        return step

    def read(self, results: tuple[Array, ...]) -> tuple[Array, ...]:
        """Gradients of x and of the cell's parameters: where it adds two biases up, both have the gradient of the sum."""
        dx, w, u, ih, hh = results
        found = {"w": w.T.contiguous(), "u": u.T.contiguous(), "b": ih, "c": hh[2 * self.units :]}
        return (dx, *(found[name] for name in self.names))


def by_name(names: Sequence[str], function: Callable[..., Array], *first: Any) -> Callable[..., Array]:
    """A function of x and the parameters one by one, from one of the parameters by name and x."""
    return lambda x, *leaves: function(*first, dict(zip(names, leaves, strict=True)), x)
