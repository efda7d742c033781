"""Where a test runs: arrays of a framework on one device.

A test over several places shows on the CPU that the test is right, and on a GPU that the library is. `pytest -m gpu` picks the
places on a GPU: they carry that mark, and skip with a reason where there is no such GPU.
"""

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Place(ABC):
    """A framework on a device: "torch:cuda"."""

    name: str
    number: int = 0
    """Which of the devices of this kind."""

    @property
    def framework(self) -> str:
        return self.name.partition(":")[0]

    @property
    def on_gpu(self) -> bool:
        return self.name in ("torch:cuda", "jax:gpu", "cupy")

    def missing(self) -> str | None:
        """Why nothing can run here, or None."""
        if find_spec(self.framework) is None:
            return f"{self.framework} is not installed"
        count = self.devices()
        if count <= self.number:
            what = "GPU" if self.on_gpu else "device"
            return (
                f"{self.framework} finds no {what}" if not count else f"{self.framework} finds {count} {what}"
            )
        return None

    @property
    def module(self) -> Any:
        return importlib.import_module(self.framework)

    @abstractmethod
    def devices(self) -> int:
        """How many devices of this kind there are."""

    @abstractmethod
    def array(self, x: Any) -> Any:
        """An array here with the values of a NumPy array, and its strides where the framework has them."""

    @abstractmethod
    def numpy(self, x: Any) -> Any:
        """The values of an array, bfloat16 widened."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Memory of the device that can be had."""

    def lingering(self) -> AbstractContextManager[Any]:
        """A stream that is busy for a while and not the default one: what is launched elsewhere comes too early."""
        return contextlib.nullcontext()

    def __str__(self) -> str:
        return self.name


class TorchPlace(Place):
    def devices(self) -> int:
        return int(self.module.cuda.device_count()) if self.on_gpu else 1

    @property
    def device(self) -> str:
        return f"cuda:{self.number}" if self.on_gpu else "cpu"

    def array(self, x: Any) -> Any:
        if x is None:
            return None
        if x.dtype.name == "bfloat16":
            return self.array(x.view(np.int16)).view(self.module.bfloat16)
        if min(x.strides, default=0) < 0:  # which tensors cannot have
            x = x.copy()
        flat, first = memory_of(x)
        there = self.module.from_numpy(flat.copy()).to(self.device)
        return there.as_strided(x.shape, [stride // x.itemsize for stride in x.strides], first)

    def numpy(self, x: Any) -> Any:
        x = x.detach().cpu()
        return (x.float() if x.dtype == self.module.bfloat16 else x).resolve_conj().numpy()

    def free_bytes(self) -> int:
        return int(self.module.cuda.mem_get_info(self.number)[0])

    @contextlib.contextmanager
    def lingering(self) -> Any:
        if not self.on_gpu:
            yield
            return
        cuda = self.module.cuda
        with cuda.stream(cuda.Stream(self.number)) as stream:
            cuda._sleep(50_000_000)  # cycles: some 30 ms
            yield stream


class JaxPlace(Place):
    def devices(self) -> int:
        try:
            return len(self.module.devices(self._platform))
        except RuntimeError:  # which is how JAX says that there is none
            return 0

    @property
    def _platform(self) -> str:
        return "gpu" if self.on_gpu else "cpu"

    @property
    def device(self) -> Any:
        return self.module.devices(self._platform)[self.number]

    def array(self, x: Any) -> Any:
        return None if x is None else self.module.device_put(x, self.device)

    def numpy(self, x: Any) -> Any:
        return np.asarray(x)

    def free_bytes(self) -> int:
        facts = self.device.memory_stats()
        return int(facts["bytes_limit"] - facts["bytes_in_use"])


class ArrayPlace(Place):
    """CuPy, and NumPy as its stand-in."""

    def devices(self) -> int:
        if not self.on_gpu:
            return 1
        try:
            return int(self.module.cuda.runtime.getDeviceCount())
        except self.module.cuda.runtime.CUDARuntimeError:
            return 0

    def array(self, x: Any) -> Any:
        if x is None or not self.on_gpu:
            return x
        flat, first = memory_of(x)
        with self.module.cuda.Device(self.number):
            there = self.module.asarray(flat)
            start = there.data + first * x.itemsize
            return self.module.ndarray(x.shape, x.dtype, memptr=start, strides=x.strides)

    def numpy(self, x: Any) -> Any:
        return x.get() if self.on_gpu else x

    def free_bytes(self) -> int:
        return int(self.module.cuda.Device(self.number).mem_info[0])

    @contextlib.contextmanager
    def lingering(self) -> Any:
        if not self.on_gpu:
            yield
            return
        with self.module.cuda.Stream(non_blocking=True) as stream:
            busy = self.module.ones(1 << 26, "float32")
            for _ in range(200):  # some 30 ms
                busy = self.module.sin(busy)
            yield stream
        stream.synchronize()


TORCH = TorchPlace("torch:cpu"), TorchPlace("torch:cuda")
JAX = JaxPlace("jax:cpu"), JaxPlace("jax:gpu")
CUPY = ArrayPlace("numpy"), ArrayPlace("cupy")
EVERYWHERE: tuple[Place, ...] = (*TORCH, *JAX, *CUPY)


def over(places: Iterable[Place]) -> Any:
    """Parametrise a test, or all of a class or module, over places."""
    return pytest.mark.parametrize("place", [_parameter(place) for place in places], ids=str)


def _parameter(place: Place) -> Any:
    why = place.missing()
    marks = [pytest.mark.gpu] if place.on_gpu else []
    if why is not None:
        marks.append(pytest.mark.skip(reason=why))
    return pytest.param(place, marks=marks)


def memory_of(x: Any) -> tuple[Any, int]:
    """The memory that an array lies in, as a flat array, and where in it the array's first element is."""
    if x.size == 0:
        return x.reshape(-1), 0
    spans = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    before = -sum(span for span in spans if span < 0)
    lowest = x[tuple(slice(None, None, -1) if span < 0 else slice(None) for span in spans)]
    steps = (before + sum(span for span in spans if span > 0)) // x.itemsize + 1
    return np.lib.stride_tricks.as_strided(lowest, (steps,), (x.itemsize,)), before // x.itemsize
