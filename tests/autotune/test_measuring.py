"""Times as the tuner takes them, by a clock and on a device of make-believe; and the memory they are taken on."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

import seqpar
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.plain_bindings import NumpyBinding
from seqpar.dispatch.profile import HardwareProfile
from seqpar_autotune.buffers import MOST_BYTES, Guarded, cache_of, rotation, sets_needed
from seqpar_autotune.measuring import MOST_REPEATS, SAMPLE, Sampler, clock_of, is_time
from seqpar_autotune.workload import Workload

SETS = tuple((np.full(3, i),) for i in range(4))


class Bench:
    """A device that takes `cost(number of the call)` seconds per call, and a host that waits for it or does not."""

    framework = "bench"

    def __init__(self, cost: Callable[[int], float], device: str = "cpu", events: bool = False) -> None:
        self.cost = cost
        self.kind = device
        self.events = events
        self.now = 0.0
        self.pending = 0.0
        self.calls: list[Any] = []
        self.waits = 0
        self.marks: list[tuple[int, int]] = []

    def device(self, x: Any) -> str:
        return self.kind

    def stopwatch(self, x: Any) -> "Bench | None":
        return self if self.events else None

    def call(self, operands: Sequence[Any]) -> Sequence[Any]:
        self.pending += self.cost(len(self.calls))
        self.calls.append(operands[0])
        return (operands[0],)

    def finish(self, x: Any) -> None:
        self.waits += 1
        self.now += self.pending
        self.pending = 0.0

    def start(self, calls: int) -> None:
        self.marks.append((len(self.calls), calls))

    def stop(self) -> float:
        found, self.pending = self.pending, 0.0
        # The host is slow to notice.
        self.now += found + 0.01
        return found

    def clock(self) -> float:
        return self.now

    def sampler(self) -> Sampler:
        return Sampler(cast(Binding, self), self.call, SETS, clock=self.clock)


@pytest.mark.parametrize("seconds", [1e-7, 3e-6, 4e-4])
def test_calls_shorter_than_a_sample_are_repeated(seconds: float) -> None:
    bench = Bench(lambda call: seconds)
    sampler = bench.sampler()
    sampler.warm_up()
    start = bench.now
    assert sampler.sample() == pytest.approx(seconds)
    assert bench.now - start >= SAMPLE


def test_a_long_call_is_not_repeated() -> None:
    bench = Bench(lambda call: 0.5)
    sampler = bench.sampler()
    sampler.warm_up()
    assert sampler.repeats == 1
    assert len(bench.calls) <= 4


def test_what_is_compiled_by_the_first_call_is_not_timed() -> None:
    bench = Bench(lambda call: 20.0 if call == 0 else 1e-4)
    assert bench.sampler().sample() == pytest.approx(1e-4)


def test_calls_go_on_until_they_take_no_less() -> None:
    # A clock that rises for the first hundred milliseconds.
    bench = Bench(lambda call: 2e-3 * (1 + 3 * max(0.0, 1 - bench.now / 0.1)))
    assert bench.sampler().sample() == pytest.approx(2e-3, rel=0.05)


def test_what_never_gets_steady_is_timed_all_the_same() -> None:
    bench = Bench(lambda call: 0.04 * 0.8**call)
    assert is_time(bench.sampler().sample())
    assert len(bench.calls) < 10_000


def test_on_the_host_every_call_is_waited_for() -> None:
    bench = Bench(lambda call: 1e-4)
    bench.sampler().sample()
    assert bench.waits == len(bench.calls)
    assert clock_of(cast(Binding, bench), SETS[0]) == "wall"


def test_on_a_device_calls_queue_up_and_the_last_is_waited_for() -> None:
    bench = Bench(lambda call: 1e-4, device="cuda")
    sampler = bench.sampler()
    sampler.warm_up()
    waits = bench.waits
    assert sampler.sample() == pytest.approx(1e-4)
    assert (bench.waits - waits, sampler.repeats >= 10) == (1, True)


def test_a_device_with_a_clock_of_its_own_is_asked_for_the_time() -> None:
    bench = Bench(lambda call: 1e-4, device="cuda", events=True)
    sampler = bench.sampler()
    assert clock_of(cast(Binding, bench), SETS[0]) == "events"
    assert sampler.sample() == pytest.approx(1e-4)
    before, calls = bench.marks[-1]
    assert (len(bench.calls) - before, calls) == (sampler.repeats, sampler.repeats)


def test_sets_of_operands_are_used_in_turns() -> None:
    bench = Bench(lambda call: 1e-4)
    bench.sampler().sample()
    assert [int(x[0]) for x in bench.calls[:9]] == [0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("clock", [lambda: 0.0, lambda: math.nan, iter(range(10**6, 0, -1)).__next__])
def test_clocks_that_stand_still_or_go_back_give_no_time(clock: Callable[[], float]) -> None:
    bench = Bench(lambda call: 1e-4)
    sampler = Sampler(cast(Binding, bench), bench.call, SETS, clock=clock)
    assert not is_time(sampler.sample())
    assert len(bench.calls) < 10 * MOST_REPEATS


@pytest.mark.parametrize("seconds", [0.0, -1e-3, math.nan, math.inf])
def test_no_such_thing_is_a_time(seconds: float) -> None:
    assert not is_time(seconds)


def test_together_the_sets_are_three_times_the_cache_and_not_more_than_memory_allows() -> None:
    assert sets_needed(10 << 20, cache=40 << 20) == 12
    assert sets_needed(1 << 40, cache=40 << 20) == 1
    assert sets_needed(1 << 26, cache=1 << 40) * (1 << 26) <= MOST_BYTES


def test_the_last_cache_of_a_profile_is_read_in_every_spelling() -> None:
    def profile(**facts: str | int) -> HardwareProfile:
        return HardwareProfile(device="cpu", name="", facts=tuple(facts.items()), tools=())

    assert cache_of(profile(L1="32K", L2="2M", L3="36608K")) == 36608 << 10
    assert cache_of(profile(L2=52428800)) == 52428800
    assert cache_of(profile(cores=3)) == cache_of(None) > 0


def test_sets_have_the_same_layout_and_memory_of_their_own() -> None:
    b = np.ones((8, 100, 4), np.float32).transpose(2, 1, 0)
    workload = Workload.of(seqpar.linear_recurrence, np.broadcast_to(np.float32(0.5), b.shape), b)
    first, second = rotation(workload, seed=0, cache=workload.nbytes // 2)[:2]
    for x, y in zip(first, second, strict=True):
        assert (x is None and y is None) or (x.strides == y.strides and not np.shares_memory(x, y))
    assert first[0].strides == (0, 0, 0)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "bool", "int64"])
def test_guarded_memory_is_as_asked_for_and_shows_what_is_written_beside_it(dtype: str) -> None:
    guarded = Guarded(NumpyBinding())
    memory = guarded.empty((3, 5), dtype, np.zeros(1))
    assert (memory.shape, memory.dtype.name, memory.flags.c_contiguous) == ((3, 5), dtype, True)
    assert not np.isfinite(memory).any() or memory.dtype.kind in "bi"
    memory[...] = 0
    assert not guarded.overrun()
    behind = np.lib.stride_tricks.as_strided(memory, (16,), memory.strides[1:])
    behind[15] = 0
    assert guarded.overrun()
    guarded.forget()
    assert not guarded.overrun()
