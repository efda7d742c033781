"""The host side of the CuPy backend, with a CuPy made of NumPy: memory, devices, what is compiled and how it is launched."""

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqpar
from cuda_emulator import compiler, library
from seqpar.dispatch import frameworks
from seqpar.dispatch.memos import invalidate
from seqpar.testing import oracle
from seqpar_cupy import runtime
from seqpar_cupy.source import part


class Device:
    """One of two, current inside `with`."""

    current = 0

    def __init__(self, number: int | None = None) -> None:
        self.id = Device.current if number is None else number
        self.attributes = {"MultiProcessorCount": 2}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # type: ignore[assignment]

    def __enter__(self) -> "Device":
        self.before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *_: object) -> None:
        Device.current = self.before


class ndarray(np.ndarray):
    """An array that knows its device and lends no host memory; made on the current one."""

    number = 0

    def __array_finalize__(self, parent: Any) -> None:
        self.number = getattr(parent, "number", Device.current)

    @property
    def device(self) -> Device:
        return Device(self.number)

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.__array_interface__["data"][0])


ndarray.__module__ = "cupy"


class RawModule:
    """Compiles for the host what was to be compiled for a GPU."""

    compiled: list["RawModule"] = []

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        assert code.startswith(part("device"))
        assert "-std=c++17" in options
        self.source = code.removeprefix(part("device")).lstrip("\n")
        self.launches: list[tuple[int, Any]] = []
        RawModule.compiled.append(self)

    def get_function(self, name: str) -> Any:
        assert name == "kernel"

        def kernel(grid: Any, block: Any, args: Any, shared_mem: int) -> None:
            (words,) = args
            # By value CuPy passes NumPy arrays of one element, and no others.
            assert type(words) is np.ndarray
            assert words.size == 1
            found = library(self.source)
            assert words.itemsize == found.words_size()
            self.launches.append((Device.current, grid))
            sizes = np.array(grid, np.uint32)
            assert found.run(sizes.ctypes.data, block[0], shared_mem, words.ctypes.data) == 0

        return kernel


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, as long as a test runs."""
    compiler()
    module: Any = types.ModuleType("cupy")
    module.ndarray, module.RawModule = ndarray, RawModule
    module.empty = lambda shape, dtype: np.ones(shape, dtype).view(ndarray)
    module.full = lambda shape, number, dtype: np.full(shape, number, dtype).view(ndarray)
    module.asarray = lambda x: np.array(x).view(ndarray)
    counted = types.SimpleNamespace(getDeviceCount=lambda: 2, getDevice=lambda: Device.current)
    nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 0))
    module.cuda = types.SimpleNamespace(
        Device=Device, runtime=counted, nvrtc=nvrtc, is_available=lambda: True
    )
    module.__version__ = "14.0.0"
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    for name in ("seqpar_cupy.binding", "seqpar_cupy.accelerator"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(RawModule, "compiled", [])
    with contextlib.ExitStack() as after:
        for cache in (runtime._function, runtime._multiprocessors, runtime._present):
            cache.cache_clear()
            after.callback(cache.cache_clear)
        after.callback(invalidate)
        after.callback(frameworks._bindings.pop, "cupy", None)
        after.callback(sys.modules.pop, "seqpar_cupy.binding", None)
        after.callback(sys.modules.pop, "seqpar_cupy.accelerator", None)
        frameworks._bindings.pop("cupy", None)
        invalidate()
        yield module


def arrays(cupy: Any, *shapes: tuple[int, ...], device: int = 0) -> list[Any]:
    random = np.random.default_rng(0)
    with Device(device):
        return [cupy.asarray(random.uniform(-1, 1, shape).astype(np.float32)) for shape in shapes]


def plain(x: Any) -> Any:
    return np.array(x, subok=False)


def test_a_call_runs_the_cuda_kernel_on_the_device_of_its_arrays(cupy: Any) -> None:
    for device in (0, 1):
        a, b = arrays(cupy, (2, 30, 5), (2, 30, 5), device=device)
        choice = seqpar.explain(seqpar.linear_recurrence, a, b).choice
        assert choice.kernel.label == "cuda.sequential"
        h = seqpar.linear_recurrence(a, b)
        assert type(h) is ndarray
        assert h.device.id == device
        assert Device.current == 0
        oracle.assert_within(
            plain(h),
            oracle.walk(plain(a), plain(b), axis=1)[0],
            oracle.error_bound(plain(a), plain(b), axis=1)[0],
        )
    # One source for both devices: CuPy loads it on each.
    (module,) = RawModule.compiled
    assert [device for device, _ in module.launches] == [0, 1]


def test_few_sequences_of_many_steps_are_cut_in_time(cupy: Any) -> None:
    a, b = arrays(cupy, (1, 2048, 2), (1, 2048, 2))
    assert seqpar.explain(seqpar.linear_recurrence, a, b).choice.kernel.label == "cuda.chunked"
    h = seqpar.linear_recurrence(a, b)
    reduced, walked = (module.launches for module in RawModule.compiled)
    assert reduced == walked
    assert reduced[0][1][1] == 16  # of 128 steps
    oracle.assert_within(
        plain(h),
        oracle.walk(plain(a), plain(b), axis=1)[0],
        oracle.error_bound(plain(a), plain(b), axis=1)[0],
    )
    A, x = arrays(cupy, (1, 2048, 2, 2), (1, 2048, 2))
    assert seqpar.explain(seqpar.matrix_recurrence, A, x).choice.kernel.label == "cuda.chunked"


def test_gradients_go_through_the_fused_kernel(cupy: Any) -> None:
    a, b, g = arrays(cupy, (2, 12, 3), (2, 12, 3), (2, 12, 3))
    h, pull_back = seqpar.vjp(seqpar.linear_recurrence, a, b)
    da, db = pull_back(g)
    right = oracle.backward(plain(a), plain(b), None, None, plain(h), plain(g), None, axis=1)
    assert np.allclose(plain(da), right[0], atol=1e-5)
    assert np.allclose(plain(db), right[1], atol=1e-5)
    assert any("walk_backward<Options>" in module.source for module in RawModule.compiled)


def test_negative_strides_are_walked_as_they_are(cupy: Any) -> None:
    a, b = arrays(cupy, (2, 12, 3), (2, 12, 3))
    a, b = a[::-1, ::-1], b[:, :, ::-1]
    h = seqpar.linear_recurrence(a, b, backend="cuda")
    right = oracle.walk(plain(a), plain(b), axis=1)[0]
    assert np.allclose(plain(h), right, atol=1e-5)


def test_memory_that_no_load_of_a_gpu_can_read_is_left_to_the_reference(cupy: Any) -> None:
    raw = np.zeros(4 * 24 + 2, np.uint8)[2:].view(np.float32).reshape(2, 12, 1).view(ndarray)
    assert raw.data.ptr % 4
    explanation = seqpar.explain(seqpar.linear_recurrence, raw, raw)
    assert explanation.choice.kernel.backend == "reference"
    assert "not aligned" in str(explanation)
