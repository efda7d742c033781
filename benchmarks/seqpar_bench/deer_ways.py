"""A GRU over one long sequence or several, by everybody who computes it on a device, and whether their answers are right.

The network is that of torch.nn.GRU with as many inputs as units, as PyTorch initialises it. All arithmetic is to be in float32:
cuDNN and XLA are told not to multiply in TF32, as our kernels never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import seqpar
from seqpar import cells
from seqpar.cells.operation import CELL
from seqpar.cells.walk import packed, walk_of
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import Request
from seqpar_bench.answers import WrongAnswerError
from seqpar_bench.cells_peers import scan
from seqpar_bench.gpu.frameworks import JAX, Torch
from seqpar_bench.measure import Thunk

Array = Any
Pass = Literal["forward", "forward and gradients"]
PASSES: tuple[Pass, ...] = ("forward", "forward and gradients")

LONGEST_TRUTH = 10_000
"""Steps up to which a whole answer is held against torch.nn.GRU in float64."""
TAIL = 1000
"""Last steps of a longer sequence whose gradients are. No gradient of theirs depends on an earlier step."""
SLAB = 1 << 16
"""Steps of which one's own float64 is made at a time."""
TOLERANCE = {"forward": 2e-5, "forward and gradients": 2e-4}
"""Of outputs between -1 and 1; of gradients relative to the largest."""


class Answer(NamedTuple):
    """Outputs, or the gradients of the input and of the recurrent weights, on PyTorch's device."""

    outputs: Array = None
    dx: Array = None
    du: Array = None


@dataclass(frozen=True)
class Way:
    """Somebody who computes it."""

    name: str
    frame: Any
    make: Callable[[Pass], Thunk]
    read: Callable[[Any, Pass], Answer]
    ours: bool = False
    what: Callable[[], str] = str
    """The kernel that runs, where it is ours."""


class Problem:
    """One network and its input, in the memory of PyTorch's device."""

    def __init__(self, units: int, batch: int, steps: int, torch: Torch, jax: JAX | None) -> None:
        self.units, self.batch, self.steps = units, batch, steps
        self.torch, self.jax = torch, jax
        nn = torch.module
        with nn.random.fork_rng(devices=()):
            nn.manual_seed(0)
            self.module = nn.nn.GRU(units, units, batch_first=True).to(torch.device)
        shape = (batch, steps, units)
        self.x, self.g = (4 * torch.random(seed, shape, "float32") - 2 for seed in (1, 2))
        state = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        self.params = {name: p.contiguous() for name, p in cells.gru.from_torch(state).items()}

    def ways(self) -> Iterator[Way]:
        yield self._ours("seqpar in PyTorch", self.torch, "auto")
        yield self._ours("seqpar in PyTorch, step by step", self.torch, "sequential")
        name = "torch.nn.GRU" + (" (cuDNN)" if self.torch.gpu else "")
        yield Way(name, self.torch, self._module, _read_module)
        if self.jax is not None:
            yield self._ours("seqpar in JAX", self.jax, "auto")
            yield Way("jax.lax.scan", self.jax, self._scan, self._read_jax)

    # --- ours -------------------------------------------------------------------------------------------------------------

    def _ours(self, name: str, frame: Any, method: Any) -> Way:
        def states(params: Any, x: Array) -> Array:
            return seqpar.recurrence(cells.gru, x, None, params, method=method)

        in_torch = frame is self.torch
        return Way(
            name,
            frame,
            (lambda which: self._in_torch(states, which))
            if in_torch
            else (lambda which: self._in_jax(states, which)),
            _read_torch if in_torch else self._read_jax,
            ours=True,
            what=lambda: self._chosen(frame, method),
        )

    def _chosen(self, frame: Any, method: Any) -> str:
        """The kernel of the forward pass. On a GPU the reference code is no answer."""
        params, x = self._given(frame)
        binding = binding_for(type(x))
        xp = binding.namespace(x)
        spec = walk_of(cells.gru.program, cells.gru.sizes(params))
        weights = xp.expand_dims(packed(xp, spec, params, x), axis=0)
        h0 = xp.zeros_like(x[:, 0, :])
        choice = choose(problem_of(binding, CELL, spec, (x, h0, None, weights)), Request(method=method))
        if frame.gpu and choice.kernel.backend == "reference":
            raise WrongAnswerError(f"no fused kernel is chosen: {choice}")
        return str(choice)

    def _given(self, frame: Any) -> tuple[dict[str, Array], Array]:
        return {name: frame.take(p) for name, p in self.params.items()}, frame.take(self.x)

    def _in_torch(self, states: Callable[..., Array], which: Pass) -> Thunk:
        nn = self.torch.module
        if which == "forward":

            def forward() -> Array:
                with nn.no_grad():
                    return states(self.params, self.x)

            return forward
        x, *leaves = (p.detach().requires_grad_() for p in (self.x, *self.params.values()))
        params = dict(zip(self.params, leaves, strict=True))
        wanted = (x, params["u"], *(p for name, p in params.items() if name != "u"))
        return lambda: nn.autograd.grad(states(params, x), wanted, self.g)

    def _in_jax(self, states: Callable[..., Array], which: Pass) -> Thunk:
        assert self.jax is not None
        params, x = self._given(self.jax)
        if which == "forward":
            return self.jax.forward(states, params, x)
        g = self.jax.take(self.g)
        gradients = self.jax.module.grad(lambda params, x, g: (states(params, x) * g).sum(), (0, 1))
        return self.jax.forward(gradients, params, x, g)

    # --- others -----------------------------------------------------------------------------------------------------------

    def _module(self, which: Pass) -> Thunk:
        nn = self.torch.module
        if which == "forward":

            def forward() -> Array:
                with nn.no_grad():
                    return self.module(self.x)[0]

            return forward
        x = self.x.detach().requires_grad_()
        first = self.module.weight_hh_l0
        wanted = (x, first, *(p for p in self.module.parameters() if p is not first))
        return lambda: nn.autograd.grad(self.module(x)[0], wanted, self.g)

    def _scan(self, which: Pass) -> Thunk:
        assert self.jax is not None
        module = self.jax.module

        def states(params: Any, x: Array) -> Array:
            with module.default_matmul_precision("highest"):
                return scan("gru", params, x)

        return self._in_jax(states, which)

    def _read_jax(self, found: Any, which: Pass) -> Answer:
        if which == "forward":
            return Answer(outputs=self.torch.take(found))
        gradients, dx = found
        return Answer(dx=self.torch.take(dx), du=self.torch.take(gradients["u"]))

    # --- what is right ----------------------------------------------------------------------------------------------------

    def check(self, answer: Answer, which: Pass) -> float:
        """The largest error; raises where it is more than rounding in float32 explains."""
        errors: list[float] = []
        if answer.outputs is not None:
            errors.append(self._of_outputs(answer.outputs))
        if answer.dx is not None:
            truth = self.truth
            own = answer.dx[:, -truth.dx.shape[1] :]
            errors.append(_distance(own, truth.dx) / float(truth.dx.abs().max()))
            if truth.du is not None:
                errors.append(_distance(answer.du, truth.du) / float(truth.du.abs().max()))
            elif not bool(answer.du.isfinite().all()):
                errors.append(float("nan"))
        worst = max(errors, key=lambda x: float("inf") if x != x else x)
        if not worst <= TOLERANCE[which]:  # NaN is not
            raise WrongAnswerError(f"{which}: off by {worst:.3g}, allowed {TOLERANCE[which]:g}")
        return worst

    @cached_property
    def truth(self) -> Answer:
        """torch.nn.GRU in float64; of long sequences the gradients of the last steps alone."""
        nn = self.torch.module
        module = self._wide_module()
        x, g, start = self.x, self.g, None
        whole = self.steps <= LONGEST_TRUTH
        if not whole:
            x, g, start = x[:, -TAIL:], g[:, -TAIL:], self._state_before_the_tail()
        x = x.double().requires_grad_()
        out = module(x, start)[0]
        dx, du = nn.autograd.grad(out, (x, module.weight_hh_l0), g.double())
        return Answer(out.detach(), dx, du.mT if whole else None)

    def _wide_module(self) -> Any:
        nn = self.torch.module
        module = nn.nn.GRU(self.units, self.units, batch_first=True).to(self.torch.device, nn.float64)
        module.load_state_dict(self.module.state_dict())
        return module

    def _state_before_the_tail(self) -> Array:
        """Exact enough: default networks forget where they began within some hundred steps."""
        before = self.x[:, -2 * TAIL : -TAIL].double()
        with self.torch.module.no_grad():
            return self._wide_module()(before)[1]

    def _of_outputs(self, outputs: Array) -> float:
        """Distance from the truth, or of every step from what the cell makes, in float64, of the step before."""
        if self.steps <= LONGEST_TRUTH:
            return _distance(outputs, self.truth.outputs)
        wide = {name: p.double() for name, p in self.params.items()}
        worst = 0.0
        for first in range(0, self.steps, SLAB):
            own = outputs[:, first : first + SLAB]
            before = outputs[:, max(first - 1, 0) : first - 1 + own.shape[1]].double()
            if first == 0:
                zeros = outputs[:, :1].double() * 0
                before = self.torch.module.cat([zeros, before], 1)[:, : own.shape[1]]
            made = cells.gru(wide, before, self.x[:, first : first + SLAB].double())
            error = _distance(own, made)
            worst = error if error != error else max(worst, error)
            if worst != worst:
                break
        return worst


def _distance(found: Array, exact: Array) -> float:
    return float((found.double() - exact).abs().max())


def _read_torch(found: Any, which: Pass) -> Answer:
    return Answer(outputs=found) if which == "forward" else Answer(dx=found[0], du=found[1])


def _read_module(found: Any, which: Pass) -> Answer:
    return Answer(outputs=found) if which == "forward" else Answer(dx=found[0], du=found[1].mT)
