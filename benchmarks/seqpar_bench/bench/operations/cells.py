"""`recurrence` with a cell under `seqpar bench`: GRU, LSTM and Elman networks, outputs or gradients held against float64.

A shape is (batch, steps, units), with as many inputs as units. Parameters are drawn as torch.nn draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np

import seqpar
from seqpar import cells
from seqpar.cells import Cell
from seqpar.dispatch.preset import CPU, CUDA
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import cells_exact
from seqpar_bench.bench.operations import cells_peers as others
from seqpar_bench.bench.operations.walked import Walked
from seqpar_bench.bench.problem import Call, Contestant, Problem, itemsize
from seqpar_bench.cells_peers import NUMPY

Array = Any

GATES = {"gru": 3, "lstm": 4, "elman": 1}
PLAIN = 1 << 12
"""Steps up to which a loop of Python over a framework's calls is waited for, where it is no peer."""


@dataclass(frozen=True)
class Outputs:
    """The public call as a function of x and the parameters one by one: of an LSTM's states [h | c] those that it hands on."""

    cell: Cell
    names: tuple[str, ...]
    forced: dict[str, Any]

    def __call__(self, x: Array, *leaves: Array) -> Array:
        params = dict(zip(self.names, leaves, strict=True))
        return self.cell.output(seqpar.recurrence(self.cell, x, None, params, **self.forced))

    def pulled(self, frame: Frame, given: Sequence[Array], g: Array) -> Call:
        """With gradients, by `seqpar.vjp`, for frameworks without reverse mode."""
        x, *leaves = given
        params = dict(zip(self.names, leaves, strict=True))
        if len(self.cell.parts) > 1:
            g = frame.module.concatenate([g, frame.module.zeros_like(g)], -1)

        def step() -> tuple[Array, ...]:
            _, pull_back = seqpar.vjp(seqpar.recurrence, self.cell, x, None, params, **self.forced)
            _, dx, _, dparams = pull_back(g)
            return (dx, *(dparams[name] for name in self.names))

        return step


@dataclass(frozen=True, kw_only=True)
class Network(Walked):
    """A recurrent network over sequences."""

    operation: ClassVar[str] = "recurrence"
    function: ClassVar[Any] = staticmethod(seqpar.recurrence)

    cell: Literal["gru", "lstm", "elman"] = "gru"

    @property
    def nbytes(self) -> int:
        # Forward x and outputs; with gradients these, then both again with the cotangent, and the gradient of x.
        # Parameters are few.
        return (2 if self.which == "forward" else 6) * math.prod(self.shape) * itemsize(self.dtype)

    @property
    def flops(self) -> int:
        # Per step 2 * units * gates * (inputs + units) in products; with gradients as many for those of x and h, and for the
        # weights'. What is done number by number is little beside them.
        products = 4 * GATES[self.cell] * self.shape[2] * math.prod(self.shape)
        return (1 if self.which == "forward" else 3) * products

    @property
    def memory(self) -> int:
        # In each framework the gates of all steps, and with gradients what a graph keeps of them; and the answer in float64.
        each = 6 * GATES[self.cell] * (1 if self.which == "forward" else 3)
        return math.prod(self.shape) * (each * itemsize(self.dtype) + 8 * 4 * GATES[self.cell])

    @property
    def step(self) -> Cell:
        found: Cell = getattr(cells, self.cell)
        return found

    @cached_property
    def params(self) -> dict[str, Array]:
        units = self.shape[2]
        return self.step.init(0, units, units, like=np.zeros(1, self.dtype))

    def numbers(self) -> tuple[Array, ...]:
        x = np.random.default_rng(0).standard_normal(self.shape, np.float32).astype(self.dtype)
        return (x, *self.params.values())

    def public(self, **forced: Any) -> Outputs:
        return Outputs(self.step, tuple(self.params), forced)

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        for contestant in super().ours(frame):
            slow = contestant.name.startswith("reference.") and frame.name != "jax"
            yield replace(contestant, longest=PLAIN) if slow else contestant

    def posed(
        self, frame: Frame, function: Callable[..., Any], arrays: Sequence[Array] | None = None
    ) -> Call:
        if self.which == "gradient" and not frame.differentiates and isinstance(function, Outputs):
            return function.pulled(frame, self.arrays(frame), frame.arrays(self.cotangents)[0])
        return super().posed(frame, function, arrays)

    def kernels(self, frame: Frame) -> list[tuple[str, str]]:
        """Those with a walk of their own: where there is one, calls with backend="reference" are solved by its help as well."""
        found = super().kernels(frame)
        return [(backend, method) for backend, method in found if backend != "reference"] or found

    def explanation(self, frame: Frame) -> Any:
        x, *leaves = self.arrays(frame)
        params = dict(zip(self.params, leaves, strict=True))
        return seqpar.explain(seqpar.recurrence, self.step, x, None, params)

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        names = tuple(self.params)
        if frame.name == "numpy":
            loop = others.by_name(names, NUMPY[self.cell])
            none = "" if self.which == "forward" else "NumPy has no gradients of its own"
            make = partial(self.posed, frame, loop)
            yield Contestant(name="NumPy loop", kind="own", make=make, longest=1 << 18, left_out=none)
        if frame.name == "torch":
            module = others.TorchModule(self.step, self.params, frame)
            yield Contestant(
                name=f"torch.nn.{others.MODULES[self.cell]}",
                kind="own",
                make=partial(self._made, frame, module),
                read=tuple if self.which == "forward" else module.read,
                longest=1 << 18,
            )
        if frame.name == "jax":
            scan = others.by_name(names, others.jax_scan, self.cell)
            together = others.by_name(names, partial(others.jax_scan, together=True), self.cell)
            yield Contestant(name="jax.lax.scan", kind="own", make=partial(self.posed, frame, scan))
            name = "jax.lax.scan, products before"
            yield Contestant(name=name, make=partial(self.posed, frame, together))

    def _made(self, frame: Frame, module: others.TorchModule) -> Call:
        (x,), (g,) = frame.arrays(self.given[:1]), frame.arrays(self.cotangents)
        return module.forward(x) if self.which == "forward" else module.gradient(x, g)

    @cached_property
    def exact(self) -> dict[str, Array]:
        """Outputs or gradients in float64, by name."""
        x, *leaves = self.wide
        params = dict(zip(self.params, leaves, strict=True))
        if self.which == "forward":
            return {"outputs": cells_exact.states(self.cell, params, x)[..., : self.shape[2]]}
        return cells_exact.gradients(self.cell, params, x, np.asarray(self.cotangents[0], np.float64))


def _both(name: str, cell: Any, shape: tuple[int, ...], **given: Any) -> tuple[Problem, Problem]:
    forward = Network(name=name, cell=cell, shape=shape, **given)
    return forward, replace(forward, which="gradient", grade="default")


LONG, MANY, GPU = (1, 17_984, 32), (16, 1024, 32), (64, 4096, 32)

PROBLEMS: tuple[Problem, ...] = (
    *_both("GRU", "gru", LONG, grade="quick", devices=CPU),
    # A step of training of torch.nn.GRU over all those steps takes two seconds: this one is for those in a hurry.
    Network(name="GRU", shape=(1, 4096, 32), which="gradient", grade="quick", devices=CPU),
    *_both("GRU", "gru", MANY, devices=CPU),
    *_both("LSTM", "lstm", LONG, grade="quick", devices=CPU),
    *_both("LSTM", "lstm", MANY, devices=CPU),
    *_both("Elman", "elman", LONG, devices=CPU),
    *_both("Elman", "elman", MANY, devices=CPU),
    *_both("GRU", "gru", LONG, grade="quick", devices=CUDA),
    *_both("GRU", "gru", GPU, devices=CUDA),
    *_both("LSTM", "lstm", GPU, devices=CUDA),
    *_both("Elman", "elman", GPU, devices=CUDA),
)
SWEEPS: tuple[Problem, ...] = (Network(name="GRU over time", shape=(1, 1024, 32), sweep="GRU over time"),)
