"""What bindings know of devices: how to wait, how much memory was in use at most, and which errors mean that it ran out."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seqpar.buckets.user_step import is_out_of_memory
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.plain_bindings import ArrayAPIBinding, NumpyBinding
from seqpar.errors import NotEligibleError

UNTOUCHED = """
import sys
import seqpar
seqpar.measure_cost(lambda length, batch: None, [64], [4])
assert not {"torch", "jax", "cupy"} & set(sys.modules), "a framework was loaded that nobody uses"
import jax
from jax._src import xla_bridge
seqpar.measure_cost(lambda length, batch: None, [64], [4])
assert not xla_bridge.backends_are_initialized(), "devices were set up that nobody uses"
"""


def test_measuring_sets_up_no_device_that_nobody_uses() -> None:
    """Setting up JAX takes three quarters of a GPU's memory, and a context of CUDA half a gigabyte."""
    pytest.importorskip("jax")
    command = [sys.executable, "-W", "error", "-c", UNTOUCHED]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr


# --- running out of memory -------------------------------------------------------------------------------------------------


def too_much(framework: str) -> Any:
    """A petabyte on the host."""
    if framework == "numpy":
        return np.ones(10**15)
    if framework == "torch":
        return pytest.importorskip("torch").ones(10**15)
    return pytest.importorskip("jax").numpy.ones(10**14).block_until_ready()


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_the_error_of_a_framework_is_one_of_memory(framework: str) -> None:
    with pytest.raises(Exception) as caught:
        too_much(framework)
    assert is_out_of_memory(caught.value)


def test_the_error_of_torch_on_a_gpu_is_one_of_memory() -> None:
    torch = pytest.importorskip("torch")
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))


def test_other_errors_are_none_of_memory() -> None:
    for error in (ValueError("out of memory"), RuntimeError("shapes differ"), KeyError(3)):
        assert not is_out_of_memory(error)
    jax = pytest.importorskip("jax")
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes differ"))


# --- the host has no device ------------------------------------------------------------------------------------------------


def test_the_host_is_no_device() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    on_host = [np.ones(2), torch.ones(2), torch.device("cpu"), jax.numpy.ones(2), jax.devices("cpu")[0]]
    for x in on_host:
        assert binding_for(type(x)).device_memory(x) is None
    for x in (on_host[0], on_host[1], on_host[3]):
        binding_for(type(x)).finish(x)
        binding_for(type(x)).finish(None)


def test_an_array_of_jax_is_there_when_it_was_waited_for() -> None:
    jax = pytest.importorskip("jax")
    x = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda i, x: x @ x / 300, x))(jax.numpy.ones((300, 300)))
    binding_for(type(x)).finish(x)
    assert x.is_ready()
    y = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda i, x: x @ x / 300, x))(x)
    binding_for(type(x)).finish(None)
    assert y.is_ready()


def test_a_device_that_torch_does_not_have_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator, and tests/gpu run on it")
    with pytest.raises(NotEligibleError, match="does not count cuda among its accelerators"):
        binding_for(torch.Tensor).device_memory(torch.device("cuda"))


def test_arrays_on_a_device_of_an_unknown_library_ask_for_synchronise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binding = ArrayAPIBinding("somelib")
    monkeypatch.setattr(binding, "device_of", lambda x: "cuda:0")
    with pytest.raises(NotEligibleError, match="somelib arrays on cuda:0 .*synchronise="):
        binding.finish(object())
    NumpyBinding().finish(np.ones(3))


# --- the arithmetic of allocators, on statistics that are made up ----------------------------------------------------------


def test_torchs_peak_is_that_of_tensors_and_its_limit_what_it_has_and_can_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    from seqpar_torch.accelerator import AcceleratorMemory

    facts = {"peak": 700, "share": 1.0}
    fake = SimpleNamespace(
        synchronize=lambda device: None,
        get_memory_info=lambda device: (600, 1000),
        memory_reserved=lambda device: 300,
        max_memory_allocated=lambda device: facts["peak"],
        reset_peak_memory_stats=lambda device: facts.update(peak=50),
    )
    monkeypatch.setattr(torch, "accelerator", fake)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: facts["share"])
    memory = AcceleratorMemory(torch.device("cuda", 0))
    assert memory.limit() == 900
    facts["share"] = 0.5
    assert memory.limit() == 500
    assert memory.peak() == 700
    memory.start()
    assert memory.peak() == 50
    facts["peak"] = 0
    with pytest.raises(NotEligibleError, match="counts no memory on cuda:0.*Give measure="):
        memory.peak()


def test_jaxs_peak_counts_where_it_exceeds_all_before() -> None:
    pytest.importorskip("jax")
    from seqpar_jax.accelerator import AllocatorMemory

    facts: Any = {"peak_bytes_in_use": 500, "bytes_in_use": 10, "bytes_limit": 1000}
    memory: Any = AllocatorMemory(SimpleNamespace(memory_stats=lambda: facts))  # type: ignore[arg-type]
    assert memory.limit() == 1000
    memory.start()
    assert memory.peak() is None
    facts["peak_bytes_in_use"] = 600
    assert memory.peak() == 600
    facts.clear()
    with pytest.raises(NotEligibleError, match="JAX counts no memory.*Give measure="):
        memory.start()


def test_cupys_peak_is_what_its_pool_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_believe_cupy(monkeypatch) as (accelerator, pool):
        assert accelerator.memory_of(None) is None  # nothing was allocated yet
        pool.take(200)
        memory = accelerator.memory_of(None)
        assert memory.limit() == 1000
        pool.most = 800
        assert memory.limit() == 800
        memory.start()
        assert memory.peak() == 200
        pool.take(300)
        pool.give_back(300)
        assert memory.peak() == 500
        memory.start()
        assert memory.peak() == 200
        assert accelerator.is_out_of_memory(MemoryError())
        assert accelerator.is_out_of_memory(RuntimeError("cudaErrorMemoryAllocation: out of memory"))
        assert not accelerator.is_out_of_memory(RuntimeError("cudaErrorIllegalAddress"))


class Pool:
    """A memory pool on a device of 1,000 bytes: what is given back stays in it."""

    def __init__(self) -> None:
        self.used = self.total = self.most = 0

    def take(self, count: int) -> None:
        self.used += count
        self.total = max(self.total, self.used)

    def give_back(self, count: int) -> None:
        self.used -= count

    def total_bytes(self) -> int:
        return self.total

    def get_limit(self) -> int:
        return self.most

    def free_all_blocks(self) -> None:
        self.total = self.used


class DeviceZero:
    id = 0

    def __init__(self, number: int = 0) -> None:
        assert number == 0

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@contextmanager
def make_believe_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Pool]]:
    pool, cupy = Pool(), ModuleType("cupy")
    runtime = SimpleNamespace(
        deviceSynchronize=lambda: None, memGetInfo=lambda: (1000 - pool.total, 1000), getDeviceCount=lambda: 1
    )
    cupy.__dict__.update(
        cuda=SimpleNamespace(Device=DeviceZero, runtime=runtime), ndarray=type("ndarray", (), {}),
        get_default_memory_pool=lambda: pool,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    # Where CuPy is, the module that knows the real one comes back afterwards.
    package = importlib.import_module("seqpar_cupy")
    monkeypatch.delitem(sys.modules, "seqpar_cupy.accelerator", raising=False)
    monkeypatch.delattr(package, "accelerator", raising=False)
    accelerator = importlib.import_module("seqpar_cupy.accelerator")
    try:
        yield accelerator, pool
    finally:
        del sys.modules["seqpar_cupy.accelerator"], package.accelerator
