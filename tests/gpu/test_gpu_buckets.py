"""Times and peak memory of steps on a GPU, running out of its memory included. On the CPU the same tests take the host's."""

import sys
import time
from typing import Any

import pytest

import seqpar
from places import EVERYWHERE, Place, over

everywhere = over(EVERYWHERE)
on_gpus = over([place for place in EVERYWHERE if place.on_gpu])
FEATURES = 256
ROW = 4 * FEATURES
"""Bytes of a step of a sequence."""


def ones(place: Place, *shape: int) -> Any:
    """An array on the device of a place, made there."""
    if place.framework == "torch":
        return place.module.ones(shape, device=place.device)
    if place.framework == "jax":
        return place.module.numpy.ones(shape, "float32", device=place.device)
    return place.module.ones(shape, "float32")


def work(place: Place, length: int, batch: int) -> Any:
    """A loop over time of products that take a while longer than their launch."""
    x = ones(place, 512 if place.on_gpu else 32, max(batch, 512) if place.on_gpu else batch)
    weights = ones(place, x.shape[0], x.shape[0]) / 1000
    for _ in range(length):
        x = weights @ x
    return x


def waited(place: Place, result: Any) -> None:
    if place.framework == "torch" and place.on_gpu:
        place.module.cuda.synchronize()
    elif place.framework == "jax":
        result.block_until_ready()
    elif place.on_gpu:
        place.module.cuda.runtime.deviceSynchronize()


@pytest.mark.parametrize("returns", [True, False])
@everywhere
def test_a_step_is_timed_until_the_device_is_done(place: Place, returns: bool) -> None:
    if place.framework == "jax" and not returns:
        pytest.skip("JAX waits for arrays, and there is none that anybody holds")

    def step(length: int, batch: int) -> Any:
        result = work(place, length, batch)
        return result if returns else None

    sizes = [(8, 4096 if place.on_gpu else 64), (200, 4096 if place.on_gpu else 64)]
    model = seqpar.measure_cost(step, sizes, repeats=7)
    for size, seconds in zip(model.sizes, model.seconds, strict=True):
        by_hand = []
        for _ in range(7):
            start = time.perf_counter()
            waited(place, work(place, *size))
            by_hand.append(time.perf_counter() - start)
        apart = 2.5 if place.on_gpu else 5  # launching alone is a sixth; processors have other things to do
        assert min(by_hand) / apart < seconds < max(by_hand) * apart, (size, seconds, by_hand)


def lengths_to_try(place: Place) -> tuple[int, int]:
    """Two lengths of which a few sequences show in the peak of memory, and fit."""
    if not place.on_gpu:
        return 1000, 4000
    if place.framework != "jax":
        return 8000, 32_000
    # The peak of JAX cannot be forgotten: four sequences have to take more than any test before.
    facts = place.device.memory_stats()
    least = max(8000, facts["peak_bytes_in_use"] // (4 * ROW) + 8000)
    if 2 * least * 4 * 17 * ROW > place.free_bytes() // 2:
        pytest.skip("an earlier test has used so much memory that its peak hides that of what would fit")
    return least, 4 * least


def step_of(place: Place) -> Any:
    """Two arrays of a batch at once; or one, where an allocator makes do with it."""
    here = ones(place, 1)
    return lambda length, batch: (ones(place, batch, length, FEATURES) + here).sum()


def device_of(place: Place) -> Any:
    if not place.on_gpu and sys.platform != "linux":
        pytest.skip("the peak of resident memory is read from Linux's /proc")
    return ones(place, 1) if place.on_gpu else "cpu"


@everywhere
def test_memory_of_a_step_is_what_its_arrays_take(place: Place) -> None:
    device, (short, long) = device_of(place), lengths_to_try(place)
    model = seqpar.fit_memory(step_of(place), [short, long], [4, 17], device=device)
    grown = model(long, 17) - model(long, 4)
    most = 2.5 if place.on_gpu else 5  # on the host what a framework frees late is resident too
    assert 0.9 < grown / (long * 13 * ROW) < most, str(model)
    assert model.limit > model(long, 17)


@everywhere
def test_running_out_of_memory_is_survived(place: Place) -> None:
    device, (short, long) = device_of(place), lengths_to_try(place)
    enough, step = 10**11, step_of(place)  # steps of a sequence: 100 terabytes
    model = seqpar.fit_memory(step, [short, long, enough], [4, 17], device=device)
    assert model.failed == ((enough, 4),)
    assert model.batch_size(enough) < 4
    assert len(model.sizes) >= 3
    assert model.batch_size(short) >= 17
    assert float(step(short, 4)) == pytest.approx(
        short * 4 * FEATURES * 2, rel=1e-3
    )  # the device goes on working


@on_gpus
def test_batch_sizes_that_do_not_fit_are_lowered(place: Place) -> None:
    plan = seqpar.plan_buckets([90_000, 100_000], 1, batch_size=4 * place.free_bytes() // (100_000 * ROW))
    model = seqpar.MemoryModel.fit({(1, 1): 10**9, (1, 2): 10**9 + ROW}, limit=place.free_bytes())
    found, tried = model.verify(step_of(place), plan)
    assert plan.batch_sizes is not None
    assert found.batch_sizes is not None
    assert 1 <= found.batch_sizes[0] < plan.batch_sizes[0]
    assert (100_000, found.batch_sizes[0], True) in tried
    assert tried[0][2] is False
