"""The frameworks at hand, each with the public call and that framework's own loop as things to time."""

import importlib.util
from abc import ABC, abstractmethod
from typing import Any

import seqpar
from seqpar_bench import peers
from seqpar_bench.cases import Case
from seqpar_bench.measure import Thunk

Array = Any


class Framework(ABC):
    """How to make arrays of a framework, call seqpar on them and wait for the answer."""

    name: str
    title: str
    loop_name: str

    @property
    def found(self) -> bool:
        return importlib.util.find_spec(self.name) is not None

    @abstractmethod
    def array(self, x: Array) -> Array:
        """A NumPy array as an array of this framework on the CPU."""

    @abstractmethod
    def call(self, case: Case, a: Array, b: Array) -> Thunk:
        """`seqpar.linear_recurrence` the way a user of this framework calls it."""

    @abstractmethod
    def loop(self, case: Case, a: Array, b: Array) -> Thunk:
        """The framework's own loop over time."""


class NumPy(Framework):
    name, title, loop_name = "numpy", "NumPy", "NumPy loop"

    def array(self, x: Array) -> Array:
        return x

    def call(self, case: Case, a: Array, b: Array) -> Thunk:
        return lambda: seqpar.linear_recurrence(a, b, axis=case.axis)

    def loop(self, case: Case, a: Array, b: Array) -> Thunk:
        return lambda: peers.numpy_loop(a, b, case.axis)


class Torch(Framework):
    name, title, loop_name = "torch", "PyTorch", "torch loop"

    def array(self, x: Array) -> Array:
        import torch

        return torch.from_numpy(x)

    def call(self, case: Case, a: Array, b: Array) -> Thunk:
        return lambda: seqpar.linear_recurrence(a, b, axis=case.axis)

    def loop(self, case: Case, a: Array, b: Array) -> Thunk:
        return lambda: peers.torch_loop(a, b, case.axis)

    def training_step(self, function: Any, a: Array, b: Array, cotangent: Array) -> Thunk:
        """Forward and backward of `function(a, b)`."""
        import torch

        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        return lambda: torch.autograd.grad(function(a, b), (a, b), cotangent)


class JAX(Framework):
    name, title, loop_name = "jax", "JAX (jit)", "jax.lax.scan"

    def array(self, x: Array) -> Array:
        import jax

        return jax.device_put(x, jax.devices("cpu")[0])

    def call(self, case: Case, a: Array, b: Array) -> Thunk:
        return self.jitted(lambda a, b: seqpar.linear_recurrence(a, b, axis=case.axis), a, b)

    def loop(self, case: Case, a: Array, b: Array) -> Thunk:
        return self.jitted(lambda a, b: peers.jax_scan(a, b, case.axis), a, b)

    def jitted(self, function: Any, *arrays: Array) -> Thunk:
        """A jitted call that waits for its results."""
        import jax

        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*arrays))

    def training_step(self, function: Any, a: Array, b: Array, cotangent: Array) -> Thunk:
        """Forward and gradient of `function(a, b)`, jitted together."""
        import jax

        def step(a: Array, b: Array, cotangent: Array) -> Any:
            h, pullback = jax.vjp(function, a, b)
            return h, pullback(cotangent)

        return self.jitted(step, a, b, cotangent)


FRAMEWORKS: tuple[Framework, ...] = (NumPy(), Torch(), JAX())
