"""Frameworks as a benchmark needs them: arrays on a device, and calls as their users make them in a hot loop.

What seqpar knows of a framework is in its binding; this adds how a function becomes something to time, forward and with
gradients. `frames(device)` says which take part, and why others do not.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

import seqpar
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_named

Array = Any
Call = Callable[[], tuple[Array, ...]]


class Frame(ABC):
    """A framework on a kind of device."""

    name: ClassVar[str]
    title: ClassVar[str]
    install: ClassVar[str]
    """What pip takes to bring it."""
    devices: ClassVar[tuple[str, ...]]
    lacks: ClassVar[tuple[str, ...]] = ()
    """Dtypes that it does not have."""
    differentiates: ClassVar[bool] = False
    """Has it a reverse mode of its own, so that peers have gradients?"""

    def __init__(self, device: str) -> None:
        self.device = device
        self._kept: dict[int, tuple[Array, Array]] = {}

    @cached_property
    def binding(self) -> Binding:
        return binding_named(self.name)

    @property
    def module(self) -> Any:
        return importlib.import_module(self.name)

    def missing(self) -> str:
        """Why it takes no part, "" if it does."""
        if importlib.util.find_spec(self.name) is None:
            return f"not installed: pip install {self.install}"
        try:
            return self.no_device() if self.device != "cpu" else ""
        except Exception as error:
            return f"does not work here: {error!r}"

    def no_device(self) -> str:
        """Why it finds no GPU."""
        return f"{self.title} has no GPU here"

    def array(self, x: Array, dtype: str | None = None) -> Array:
        """A NumPy array as one of this framework, on its device."""
        name = dtype or str(x.dtype)
        strides = tuple(math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim))
        return self.binding.placed(np.ascontiguousarray(x), name, x.shape, strides, self.device)

    def arrays(self, given: Sequence[Array], dtype: str = "") -> tuple[Array, ...]:
        """The same for several, made once for each. Numbers of bfloat16 come in float32, since NumPy has no such dtype."""
        return tuple(self._array(x, dtype) for x in given)

    def _array(self, x: Array, dtype: str) -> Array:
        if id(x) not in self._kept:
            half = dtype == "bfloat16" and x.dtype == np.float32
            self._kept[id(x)] = (x, self.array(x, dtype if half else None))
        return self._kept[id(x)][1]

    def numpy(self, x: Array) -> Array:
        """Numbers in float64 or complex128, where they are no whole numbers."""
        found = np.asarray(self.binding.on_host(x))
        wide = {"f": np.float64, "c": np.complex128}.get(found.dtype.kind)
        return found if wide is None else found.astype(wide)

    def forward(self, function: Callable[..., Any], *arrays: Array) -> Call:
        """A call without gradients."""
        return lambda: _tuple(function(*arrays))

    @abstractmethod
    def gradient(
        self, function: Callable[..., Any], arrays: Sequence[Array], cotangents: Sequence[Array]
    ) -> Call:
        """A forward pass and the gradients of all floating arrays."""

    def __repr__(self) -> str:
        return f"{self.name}:{self.device}"


class NumPy(Frame):
    name, title, install, devices = "numpy", "NumPy", "numpy", ("cpu",)
    lacks = ("bfloat16",)

    def gradient(
        self, function: Callable[..., Any], arrays: Sequence[Array], cotangents: Sequence[Array]
    ) -> Call:
        """By `seqpar.vjp`: of public functions of seqpar alone, and of `partial` ones with options."""
        public, options = function, {}
        if isinstance(function, partial) and not function.args:
            public, options = function.func, function.keywords

        def step() -> tuple[Array, ...]:
            _, pull_back = seqpar.vjp(public, *arrays, **options)
            return _tuple(pull_back(*cotangents))

        return step


class CuPy(NumPy):
    name, title, install, devices = "cupy", "CuPy", "'seqpar[cupy-cuda12x]'", ("cuda",)

    def no_device(self) -> str:
        return "" if self.module.cuda.runtime.getDeviceCount() else f"{self.title} finds no GPU"


class Torch(Frame):
    name, title, install, devices = "torch", "PyTorch", "'seqpar[torch]'", ("cpu", "cuda")
    differentiates = True

    def no_device(self) -> str:
        return "" if self.module.cuda.is_available() else f"{self.title} finds no GPU"

    def forward(self, function: Callable[..., Any], *arrays: Array) -> Call:
        torch = self.module

        def call() -> tuple[Array, ...]:
            with torch.no_grad():
                return _tuple(function(*arrays))

        return call

    def gradient(
        self, function: Callable[..., Any], arrays: Sequence[Array], cotangents: Sequence[Array]
    ) -> Call:
        torch = self.module
        leaves = tuple(
            x.detach().requires_grad_() if x.is_floating_point() or x.is_complex() else x for x in arrays
        )
        wanted = tuple(x for x in leaves if x.requires_grad)

        def step() -> tuple[Array, ...]:
            return tuple(torch.autograd.grad(_tuple(function(*leaves)), wanted, tuple(cotangents)))

        return step


class JAX(Frame):
    name, title, install, devices = "jax", "JAX", "'seqpar[jax]'", ("cpu", "cuda")
    differentiates = True

    def no_device(self) -> str:
        return "" if self.module.default_backend() == "gpu" else f"{self.title} finds no GPU"

    def forward(self, function: Callable[..., Any], *arrays: Array) -> Call:
        compiled = self.module.jit(lambda *given: _tuple(function(*given)))
        return lambda: compiled(*arrays)

    def gradient(
        self, function: Callable[..., Any], arrays: Sequence[Array], cotangents: Sequence[Array]
    ) -> Call:
        jax = self.module

        def step(given: tuple[Array, ...], g: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
            results, pull_back = jax.vjp(lambda *x: _tuple(function(*x)), *given)
            # With the results, or XLA leaves the forward pass out where no gradient needs it.
            return results, tuple(pull_back(g))

        compiled = jax.jit(step)
        return lambda: compiled(tuple(arrays), tuple(cotangents))[1]


FRAMES: tuple[type[Frame], ...] = (NumPy, Torch, JAX, CuPy)


def frames(device: str) -> list[Frame]:
    """All that are for a kind of device, there or not, in the order of the tables."""
    return [kind(device) for kind in FRAMES if device in kind.devices]


def _tuple(found: Any) -> tuple[Array, ...]:
    # A named tuple, as lstsq returns, is one too.
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)
