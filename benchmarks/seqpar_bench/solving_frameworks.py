"""`solve_recurrence` and a framework's own loop on one problem, the way that framework's users call them."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import seqpar
from seqpar_bench import solving_peers as peers
from seqpar_bench.measure import Thunk
from seqpar_bench.solving_cases import Problem, System

Array = Any
States = Callable[[Any, Any, Any], Array]
"""(params, x, h0) -> states."""


class Framework(ABC):
    """How to pose a problem, solve it, and differentiate that. Calls are waited for."""

    name: str
    title: str
    loop_name: str
    namespace: str
    differentiates = True

    @property
    def found(self) -> bool:
        return importlib.util.find_spec(self.name) is not None

    def posed(self, system: System, dtype: str = "float32") -> Problem:
        return system.problem(importlib.import_module(self.namespace), self.array, dtype)

    @abstractmethod
    def array(self, x: Array) -> Array:
        """A NumPy array as an array of this framework on the CPU."""

    def solver(self, problem: Problem, **options: Any) -> States:
        """The public call on a problem's step."""
        step, length = problem.step, problem.length
        return lambda params, x, h0: seqpar.recurrence(step, x, h0, params, length=length, **options)

    @abstractmethod
    def loop(self, problem: Problem) -> States:
        """The framework's own loop over a problem's step."""

    @abstractmethod
    def forward(self, states: States, problem: Problem) -> Thunk:
        """The states of a problem, without gradients."""

    def training_step(self, states: States, problem: Problem, cotangent: Array) -> Thunk:
        """The gradients of params, x and h0 of the sum of cotangent * states: a list of arrays."""
        raise NotImplementedError(f"{self.title} has no gradients")


class NumPy(Framework):
    name, title, loop_name, namespace = "numpy", "NumPy", "NumPy loop", "numpy"
    differentiates = False

    def array(self, x: Array) -> Array:
        return x

    def loop(self, problem: Problem) -> States:
        return lambda params, x, h0: peers.numpy_loop(problem.step, params, x, h0, problem.length)

    def forward(self, states: States, problem: Problem) -> Thunk:
        return lambda: states(problem.params, problem.x, problem.h0)


class Torch(Framework):
    name, title, loop_name, namespace = "torch", "PyTorch", "torch loop", "torch"

    def array(self, x: Array) -> Array:
        import torch

        return torch.from_numpy(np.array(x))

    def loop(self, problem: Problem) -> States:
        return lambda params, x, h0: peers.torch_loop(problem.step, params, x, h0, problem.length)

    def forward(self, states: States, problem: Problem) -> Thunk:
        import torch

        def run() -> Array:
            with torch.no_grad():
                return states(problem.params, problem.x, problem.h0)

        return run

    def training_step(self, states: States, problem: Problem, cotangent: Array) -> Thunk:
        import torch
        from torch.utils._pytree import tree_flatten, tree_unflatten

        found, structure = tree_flatten((problem.params, problem.x, problem.h0))
        leaves = [leaf.clone().requires_grad_() for leaf in found]
        params, x, h0 = tree_unflatten(leaves, structure)

        def run() -> list[Array]:
            return list(torch.autograd.grad(states(params, x, h0), leaves, cotangent))

        return run


class JAX(Framework):
    name, title, loop_name, namespace = "jax", "JAX (jit)", "jax.lax.scan", "jax.numpy"

    def array(self, x: Array) -> Array:
        import jax

        return jax.device_put(x, jax.devices("cpu")[0])

    def loop(self, problem: Problem) -> States:
        return lambda params, x, h0: peers.jax_scan(problem.step, params, x, h0, problem.length)

    def forward(self, states: States, problem: Problem) -> Thunk:
        import jax

        compiled = jax.jit(states)
        return lambda: jax.block_until_ready(compiled(problem.params, problem.x, problem.h0))

    def training_step(self, states: States, problem: Problem, cotangent: Array) -> Thunk:
        import jax

        @jax.jit
        def step(params: Any, x: Any, h0: Any) -> Any:
            _, pullback = jax.vjp(states, params, x, h0)
            return jax.tree.leaves(pullback(cotangent))

        return lambda: jax.block_until_ready(step(problem.params, problem.x, problem.h0))


def frameworks() -> Iterator[Framework]:
    """Those that are installed."""
    return (framework for framework in (NumPy(), Torch(), JAX()) if framework.found)
