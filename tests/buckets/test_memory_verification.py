"""One step of every bucket: batch sizes that do not fit are lowered, as little as that takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import MeasurementError, OptionError
from simulated_device import Device, slow_device

LENGTHS = np.random.default_rng(0).integers(16, 1024, 3000)
PEAKS = {(n, b): 10**9 + n * b * 300_000 for n in (64, 256) for b in (2, 16)}
MODEL = seqpar.MemoryModel.fit(PEAKS, limit=80 * 10**9)


def recurrent(length: Any, batch: Any) -> Any:
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


@pytest.fixture
def device() -> Iterator[Device]:
    with slow_device() as found:
        found.capacity = 80 * 10**9
        yield found


def truth(device: Device, per_step: int = 300_000) -> Any:
    """A step that needs that much for each step of each sequence."""
    return lambda length, batch: device.launch(0.01, length * batch * per_step)


def test_a_plan_that_fits_stays_as_it_is(device: Device) -> None:
    plan = seqpar.plan_buckets(LENGTHS, 4, memory=MODEL)
    found = MODEL.verify(truth(device), plan)
    assert found.plan is plan
    assert found.tried == tuple(
        (length, batch, True)
        for length, batch in zip(plan.boundaries[::-1], (plan.batch_sizes or ())[::-1], strict=True)
    )


@pytest.mark.parametrize("multiple_of", [1, 8])
def test_sizes_that_do_not_fit_are_lowered_to_within_five_percent(device: Device, multiple_of: int) -> None:
    """The step takes 2.6 times what the model thinks."""
    plan = seqpar.plan_buckets(LENGTHS, 4, memory=MODEL, batch_multiple_of=multiple_of)
    found, tried = MODEL.verify(truth(device, 780_000), plan, multiple_of=multiple_of)
    assert found.boundaries == plan.boundaries
    assert found.batch_sizes is not None
    for length, batch in zip(found.boundaries, found.batch_sizes, strict=True):
        most = (device.capacity - device.held) // (length * 780_000)
        assert batch <= most
        assert batch >= min(0.95 * most - 1, most - multiple_of)
        assert batch % multiple_of == 0
        assert (length, batch, True) in tried
    lengths = [length for length, _, _ in tried]
    assert lengths == sorted(lengths, reverse=True)
    assert "4 batch sizes were lowered" in found.notes[-1]
    assert found.key != plan.key


def test_a_lowered_plan_has_the_costs_of_its_batches(device: Device) -> None:
    plan = seqpar.plan_buckets(LENGTHS, 4, memory=MODEL, cost=recurrent, shape_price=1.0, ranks_per_step=2)
    found = MODEL.verify(truth(device, 780_000), plan).plan
    again = seqpar.plan_buckets(
        LENGTHS, boundaries=found.boundaries, cost=recurrent, shape_price=1.0, ranks_per_step=2,
        memory=_Fixed(dict(zip(found.boundaries, found.batch_sizes or (), strict=True))),
    )  # fmt: skip
    assert found.batch_sizes == again.batch_sizes
    assert found.prices == again.prices
    assert found.predicted_cost == pytest.approx(again.predicted_cost)
    assert found.exact_cost == pytest.approx(again.exact_cost)
    assert found.predicted_cost > plan.predicted_cost


class _Fixed:
    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes

    def batch_size(self, length: int) -> int:
        return self.sizes.get(length, 1)  # other choices of boundaries are asked for too


def test_a_bucket_of_which_not_even_one_fits_is_named(device: Device) -> None:
    plan = seqpar.plan_buckets(LENGTHS, 2, memory=MODEL)
    with pytest.raises(MeasurementError, match=r"not even \(length, batch\)=\(1023, 1\) fits into memory"):
        MODEL.verify(truth(device, 10**9), plan)
    with pytest.raises(MeasurementError, match=r"not even \(length, batch\)=\(1023, 8\) fits"):
        MODEL.verify(truth(device, 10**8), plan, multiple_of=8)


def test_a_step_that_raises_is_named_with_its_size(device: Device) -> None:
    def step(length: int, batch: int) -> None:
        raise ValueError("odd shape")

    plan = seqpar.plan_buckets(LENGTHS, 2, memory=MODEL)
    with pytest.raises(MeasurementError, match=r"MemoryModel.verify: step\(1023, .* raised ValueError"):
        MODEL.verify(step, plan)


def test_a_plan_of_pairs_is_refused_before_any_step_is_run() -> None:
    def step(length: int, batch: int) -> None:
        raise AssertionError("it was run")

    plan = seqpar.plan_buckets(np.stack([LENGTHS, LENGTHS[::-1]], axis=1), 3, batch_size=32)
    with pytest.raises(
        OptionError, match=r"MemoryModel.verify: the plan has pairs of lengths .*Give a plan of single"
    ):
        MODEL.verify(step, plan)


def test_a_plan_without_batch_sizes_is_refused() -> None:
    with pytest.raises(OptionError, match="the plan has no batch sizes"):
        MODEL.verify(print, seqpar.plan_buckets(LENGTHS, 2))
