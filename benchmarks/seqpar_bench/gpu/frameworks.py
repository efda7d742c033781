"""The frameworks as this benchmark needs them: arrays without copies, calls as users make them, clocks of the device.

One framework makes the inputs and the others read the same memory through DLPack, so all compute, and are checked on, the
same numbers. With `gpu=False` everything is on the CPU and NumPy stands in for CuPy: a rehearsal, not a measurement.
"""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import seqpar
from seqpar_bench.gpu.cases import Case
from seqpar_bench.measure import Thunk

Array = Any


class Frame(ABC):
    """A framework on a device."""

    name: str
    title: str
    lacks: tuple[str, ...] = ()
    """Kinds of numbers that it does not have."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu

    @property
    def module(self) -> Any:
        return importlib.import_module(self.name)

    def missing(self) -> str | None:
        """Why it takes no part, or None."""
        if find_spec(self.name) is None:
            return "not installed"
        try:
            return self._no_device() if self.gpu else None
        except Exception as error:
            return f"does not work: {error!r}"

    @abstractmethod
    def _no_device(self) -> str | None:
        """Why there is no GPU for it."""

    @abstractmethod
    def random(self, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
        """Numbers between 0 and 1, made on the device."""

    @abstractmethod
    def take(self, x: Array) -> Array:
        """The same memory as an array of this framework."""

    @abstractmethod
    def numpy(self, x: Array) -> Any:
        """The values on the host, in float64 or complex128."""

    @abstractmethod
    def wide(self, x: Array) -> Array:
        """The same real numbers in float64, on the device where the framework has float64 at hand."""

    @abstractmethod
    def wait(self) -> None:
        """Until the device has nothing left to do."""

    def free(self) -> None:
        """Give back what the framework keeps for later."""
        return

    def forward(self, function: Callable[..., Array], *arrays: Array) -> Thunk:
        """A call as a user of this framework makes it in a hot loop. It need not wait."""
        return lambda: function(*arrays)

    def backward(self, function: Callable[..., Array], a: Array, b: Array, g: Array) -> Thunk:
        """Gradients of a and b by reverse mode, without the forward pass, which is over when this returns."""
        raise NotImplementedError(f"{self.title} has no reverse mode")

    def gradients(self, case: Case, a: Array, b: Array, g: Array) -> Thunk:
        """The same of the public call, the way a user of this framework gets them."""
        return self.backward(case.call, a, b, g)

    def seconds(self, thunk: Thunk, repeats: int) -> float:
        """Per call, of several calls in a row."""
        start = time.perf_counter()
        for _ in range(repeats):
            thunk()
        self.wait()
        return (time.perf_counter() - start) / repeats


class Torch(Frame):
    name, title = "torch", "PyTorch"

    def _no_device(self) -> str | None:
        return None if self.module.cuda.is_available() else "sees no GPU"

    @property
    def device(self) -> str:
        return "cuda" if self.gpu else "cpu"

    def random(self, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
        torch = self.module
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.rand(shape, dtype=getattr(torch, dtype), device=self.device, generator=generator)

    def take(self, x: Array) -> Array:
        return x if isinstance(x, self.module.Tensor) else self.module.from_dlpack(x)

    def numpy(self, x: Array) -> Any:
        torch = self.module
        return x.detach().to("cpu", torch.complex128 if x.is_complex() else torch.float64).numpy()

    def wide(self, x: Array) -> Array:
        return x.double()

    def wait(self) -> None:
        if self.gpu:
            self.module.cuda.synchronize()

    def free(self) -> None:
        if self.gpu:
            self.module.cuda.empty_cache()

    def backward(self, function: Callable[..., Array], a: Array, b: Array, g: Array) -> Thunk:
        a, b = (x.detach().requires_grad_() for x in (a, b))
        h = function(a, b)
        return lambda: self.module.autograd.grad(h, (a, b), g, retain_graph=True)

    def seconds(self, thunk: Thunk, repeats: int) -> float:
        if not self.gpu:
            return super().seconds(thunk, repeats)
        start, end = (self.module.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            thunk()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / repeats


class CuPy(Frame):
    title = "CuPy"
    lacks = ("bfloat16",)

    def __init__(self, gpu: bool) -> None:
        super().__init__(gpu)
        self.name = "cupy" if gpu else "numpy"
        self.title = "CuPy" if gpu else "NumPy for CuPy"

    def _no_device(self) -> str | None:
        return None if self.module.cuda.runtime.getDeviceCount() else "sees no GPU"

    def random(self, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
        found: Array = self.module.random.default_rng(seed).random(shape, dtype="float32").astype(dtype)
        return found

    def take(self, x: Array) -> Array:
        return x if isinstance(x, self.module.ndarray) else self.module.from_dlpack(x)

    def numpy(self, x: Array) -> Any:
        x = x.get() if self.gpu else x
        return x.astype("complex128" if x.dtype.kind == "c" else "float64")

    def wide(self, x: Array) -> Array:
        return x.astype("float64")

    def wait(self) -> None:
        if self.gpu:
            self.module.cuda.Device().synchronize()

    def free(self) -> None:
        if self.gpu:
            self.module.get_default_memory_pool().free_all_blocks()

    def gradients(self, case: Case, a: Array, b: Array, g: Array) -> Thunk:
        _, pull_back = seqpar.vjp(case.function, a, b, axis=case.axis)
        return lambda: pull_back(g)

    def seconds(self, thunk: Thunk, repeats: int) -> float:
        if not self.gpu:
            return super().seconds(thunk, repeats)
        start, end = self.module.cuda.Event(), self.module.cuda.Event()
        start.record()
        for _ in range(repeats):
            thunk()
        end.record()
        end.synchronize()
        return float(self.module.cuda.get_elapsed_time(start, end)) / 1e3 / repeats


class JAX(Frame):
    name, title = "jax", "JAX (jit)"
    # Outside of its 64-bit mode, which this benchmark does not set.
    lacks = ("float64",)

    _last: Any = None

    def _no_device(self) -> str | None:
        return None if self.module.default_backend() == "gpu" else "sees no GPU"

    def random(self, seed: int, shape: tuple[int, ...], dtype: str) -> Array:
        return self.module.random.uniform(self.module.random.key(seed), shape, dtype)

    def take(self, x: Array) -> Array:
        return x if isinstance(x, self.module.Array) else self.module.numpy.from_dlpack(x)

    def numpy(self, x: Array) -> Any:
        numpy = importlib.import_module("numpy")
        x = numpy.asarray(x)
        return x.astype("complex128" if x.dtype.kind == "c" else "float64")

    def wide(self, x: Array) -> Array:
        # On the host: JAX has float64 in a mode of its own.
        return self.numpy(x)

    def wait(self) -> None:
        # Calls run in the order in which they were made: the last result is the last to be ready.
        self.module.block_until_ready(self._last)
        self._last = None

    def forward(self, function: Callable[..., Array], *arrays: Array) -> Thunk:
        return self._kept(self.module.jit(function), *arrays)

    def backward(self, function: Callable[..., Array], a: Array, b: Array, g: Array) -> Thunk:
        _, pull_back = self.module.vjp(function, a, b)
        compiled = self.module.jit(lambda pull, g: pull(g)).lower(pull_back, g).compile()
        return self._kept(compiled, pull_back, g)

    def _kept(self, compiled: Any, *arrays: Array) -> Thunk:
        def thunk() -> object:
            self._last = compiled(*arrays)
            return self._last

        return thunk
