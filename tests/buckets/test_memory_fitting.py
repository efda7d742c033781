"""What `fit_memory` reads and survives: on a simulated device, whose memory is known, and on the host."""

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.buckets.host_memory import HostMemory
from seqpar.errors import ArrayTypeError, MeasurementError, NotEligibleError, OptionError
from simulated_device import BINDING, Device, SlowArray, slow_device

LENGTHS, BATCHES = [64, 300], [2, 16, 64]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")


def activations(length: int, batch: int) -> int:
    return batch * (10**6 + 300_000 * length)


@pytest.fixture
def device() -> Iterator[Device]:
    with slow_device() as found:
        found.capacity = 80 * 10**9
        yield found


def train(device: Device) -> Any:
    return lambda length, batch: device.launch(0.01, activations(length, batch))


def assert_found(device: Device, model: seqpar.MemoryModel) -> None:
    for size in model.sizes:
        assert model(*size) == pytest.approx(device.held + activations(*size), rel=1e-9)


# --- where -----------------------------------------------------------------------------------------------------------------


def test_the_memory_of_what_a_step_returns_is_read(device: Device) -> None:
    BINDING.in_use = False
    model = seqpar.fit_memory(train(device), LENGTHS, BATCHES)
    assert_found(device, model)
    assert model.limit == device.capacity
    assert len(model.sizes) == 6
    assert model.batch_size(256) == int((0.9 * device.capacity - device.held) / activations(256, 1))


def test_the_memory_of_what_a_step_takes_is_read(device: Device) -> None:
    BINDING.in_use = False

    def step(length: int, batch: int, x: Any) -> None:
        device.launch(0.01, activations(length, batch))

    model = seqpar.fit_memory(step, LENGTHS, BATCHES, inputs=lambda n, b: (n, b, SlowArray()))
    assert_found(device, model)


def test_a_step_that_shows_no_array_runs_on_the_device_in_use(device: Device) -> None:
    def step(length: int, batch: int) -> None:
        device.launch(0.01, activations(length, batch))

    assert_found(device, seqpar.fit_memory(step, LENGTHS, BATCHES))


def test_the_user_names_a_device_by_an_array(device: Device) -> None:
    BINDING.in_use = False

    def step(length: int, batch: int) -> None:
        device.launch(0.01, activations(length, batch))

    assert_found(device, seqpar.fit_memory(step, LENGTHS, BATCHES, device=SlowArray()))


def test_names_of_devices_are_the_frameworks_own() -> None:
    with pytest.raises(OptionError, match=r"device='cuda:0' is a name.*torch.device\('cuda:0'\)"):
        seqpar.fit_memory(print, LENGTHS, BATCHES, device="cuda:0")
    with pytest.raises(ArrayTypeError, match="device=3 is neither a device nor an array"):
        seqpar.fit_memory(print, LENGTHS, BATCHES, device=3)


# --- running out -----------------------------------------------------------------------------------------------------------


def test_running_out_of_memory_is_survived_and_bounds_the_model(device: Device) -> None:
    device.capacity = 3 * 10**9
    calls = []

    def step(length: int, batch: int) -> Any:
        calls.append((length, batch))
        return device.launch(0.01, activations(length, batch))

    model = seqpar.fit_memory(step, [64, 256, 512], BATCHES, limit=10**12)  # a limit that is not true
    assert_found(device, model)
    assert model.failed == ((512, 16), (256, 64))
    assert calls.count((512, 16)) == calls.count((256, 64)) == 1
    assert calls.count((512, 64)) == 0  # larger than one that failed
    assert device.released == 2
    assert model.limit < 1.0001 * (device.held + activations(512, 16))
    for length in (64, 256, 512, 2000):
        need = device.held + activations(length, model.batch_size(length))
        assert need <= 0.9 * (device.held + activations(512, 16))
    assert "ran out of memory" in model.notes[0]


def test_nothing_of_a_step_that_ran_out_is_left_behind(device: Device) -> None:
    class Activations:
        pass

    alive: list[Any] = []

    def step(length: int, batch: int) -> Any:
        assert [x() for x in alive] == [None] * len(alive)
        if (length, batch) not in ((300, 16), (64, 64)):
            return device.launch(0.01, activations(length, batch))
        held = Activations()
        held.itself = held  # type: ignore[attr-defined]  # only the collector frees it, and the traceback holds it
        alive.append(weakref.ref(held))
        raise RuntimeError("slowlib is full")

    gc.disable()
    try:
        model = seqpar.fit_memory(step, [64, 128, 300], BATCHES)
    finally:
        gc.enable()
    assert model.failed == ((64, 64), (300, 16))
    assert device.released == len(alive) == 2


def test_fewer_than_two_sizes_that_fit_are_too_few(device: Device) -> None:
    device.capacity = device.held + activations(64, 2)
    with pytest.raises(
        MeasurementError, match="two sizes have to fit.*of 6 1 did. Give smaller ones"
    ) as caught:
        seqpar.fit_memory(train(device), LENGTHS, BATCHES)
    assert caught.value.measured == {(64, 2): device.capacity}


def test_a_smallest_size_that_does_not_fit_is_too_few(device: Device) -> None:
    device.capacity = 0
    with pytest.raises(MeasurementError, match="slowlib on its device.*of 6 0 did"):
        seqpar.fit_memory(train(device), LENGTHS, BATCHES)


def test_another_error_is_named_with_its_size_and_keeps_what_was_measured(device: Device) -> None:
    def step(length: int, batch: int) -> Any:
        if batch == 64:
            raise ValueError("odd shape")
        return device.launch(0.01, activations(length, batch))

    with pytest.raises(MeasurementError, match=r"step\(64, 64\) raised ValueError: odd shape") as caught:
        seqpar.fit_memory(step, LENGTHS, BATCHES)
    assert caught.value.measured == {
        size: device.held + activations(*size) for size in [(64, 2), (300, 2), (64, 16)]
    }


# --- peaks that cannot be forgotten ----------------------------------------------------------------------------------------


def test_sizes_run_from_small_to_large_so_that_every_peak_is_a_new_one(device: Device) -> None:
    device.forgets = False
    model = seqpar.fit_memory(train(device), LENGTHS, BATCHES, device=SlowArray())
    assert len(model.sizes) == 6
    assert_found(device, model)
    assert model.notes == ()


def test_a_peak_that_an_earlier_one_hides_is_left_out_and_said(device: Device) -> None:
    device.forgets = False
    device.most = device.held + activations(64, 20)
    model = seqpar.fit_memory(train(device), LENGTHS, BATCHES)
    assert_found(device, model)
    assert set(model.sizes) == {(300, 16), (64, 64), (300, 64)}
    assert "the peaks of (64, 2), (300, 2), (64, 16) are hidden by earlier ones." in model.notes


def test_where_all_peaks_are_hidden_the_way_out_is_named(device: Device) -> None:
    device.forgets = False
    device.most = device.capacity
    with pytest.raises(MeasurementError, match="are hidden by earlier ones. Run it in a process of its own"):
        seqpar.fit_memory(train(device), LENGTHS, BATCHES)


# --- measures of the user's ------------------------------------------------------------------------------------------------


def test_a_measure_of_the_users_runs_the_step_and_says_the_peak() -> None:
    sizes = []

    def step(length: int, batch: int) -> None:
        sizes.append((length, batch))

    def measure(run: Any) -> int:
        run()
        return 10**9 + activations(*sizes[-1])

    model = seqpar.fit_memory(step, LENGTHS, BATCHES, measure=measure, limit=10**10, repeats=3)
    assert model(256, 64) == pytest.approx(10**9 + activations(256, 64))
    assert sizes.count((64, 2)) == 3


def test_noise_of_a_measure_stays_within_the_fraction() -> None:
    random, last = np.random.default_rng(0), [0, 0]

    def step(length: int, batch: int) -> None:
        last[:] = length, batch

    def measure(run: Any) -> int:
        run()
        return int((10**9 + activations(*last)) * random.uniform(0.97, 1.03))

    model = seqpar.fit_memory(step, LENGTHS, BATCHES, measure=measure, limit=20 * 10**9)
    for length in (64, 256, 1000):
        need = 10**9 + activations(length, model.batch_size(length))
        assert 0.8 * 0.9 * model.limit < need < model.limit


def test_a_measure_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="measure= was given without limit="):
        seqpar.fit_memory(print, LENGTHS, BATCHES, measure=lambda run: 1)
    with pytest.raises(ArrayTypeError, match="measure=3 is not a function"):
        seqpar.fit_memory(print, LENGTHS, BATCHES, measure=3, limit=1)  # type: ignore[arg-type]
    with pytest.raises(
        OptionError, match=r"the measure of \(length, batch\)=\(64, 2\)=None is not a whole number"
    ):
        seqpar.fit_memory(print, LENGTHS, BATCHES, measure=lambda run: None, limit=1)  # type: ignore[arg-type, return-value]


# --- the host --------------------------------------------------------------------------------------------------------------


@LINUX
def test_the_peak_on_the_host_is_forgotten_and_seen_again() -> None:
    memory = HostMemory()
    found = {}
    for megabytes in (300, 100, 200):
        memory.start()
        x = np.ones(megabytes << 17)
        del x
        found[megabytes] = memory.peak()
    assert found[300] - found[100] == pytest.approx(200 << 20, rel=0.1)
    assert found[200] - found[100] == pytest.approx(100 << 20, rel=0.1)
    assert memory.limit() > found[300]


@LINUX
def test_a_step_on_the_host_needs_what_its_arrays_take() -> None:
    def step(length: int, batch: int) -> float:
        return float(np.ones((batch, length, 128)).sum())

    model = seqpar.fit_memory(step, [1000, 4000], [10, 40], device="cpu")
    assert model.coefficients[2] + model.coefficients[3] * 4000 == pytest.approx(1024, rel=0.2)
    assert model(4000, 80) - model(4000, 40) == pytest.approx(4000 * 40 * 1024, rel=0.2)


def test_where_the_peak_on_the_host_cannot_be_read_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Any, text: str) -> int:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(NotEligibleError, match="read-only.*Give measure="):
        seqpar.fit_memory(lambda n, b: None, LENGTHS, BATCHES, device="cpu")
