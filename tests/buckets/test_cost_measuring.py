"""What `measure_cost` times, and when: on a simulated device, whose clock says all times beforehand."""

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import ArrayTypeError, MeasurementError, NotEligibleError, OptionError
from simulated_device import BINDING, Device, slow_device

LENGTHS, BATCHES = [64, 256, 1024], [4, 32]
SIZES = [(length, batch) for length in LENGTHS for batch in BATCHES]


def recurrent(length: float, batch: float) -> float:
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


@pytest.fixture
def device() -> Iterator[Device]:
    with slow_device() as found:
        yield found


def measured(device: Device, step: Any, *args: Any, **options: Any) -> seqpar.CostModel:
    args = args or (LENGTHS, BATCHES)
    return seqpar.measure_cost(step, *args, clock=device.clock, **options)


def assert_recurrent(model: seqpar.CostModel) -> None:
    assert dict(zip(model.sizes, model.seconds, strict=True)) == pytest.approx(
        {size: recurrent(*size) for size in model.sizes}, abs=3e-6
    )


# --- waiting ---------------------------------------------------------------------------------------------------------------


def test_what_a_step_returns_is_waited_for(device: Device) -> None:
    model = measured(device, lambda n, b: {"loss": (device.launch(recurrent(n, b)), 3.0)})
    assert_recurrent(model)
    assert model(512, 16) == pytest.approx(recurrent(512, 16), rel=0.01)


def test_a_step_that_returns_nothing_is_waited_for_by_everything_that_is_loaded(device: Device) -> None:
    def step(length: int, batch: int) -> None:
        device.launch(recurrent(length, batch))

    assert_recurrent(measured(device, step))


def test_a_number_on_the_host_does_not_mean_that_the_device_is_done(device: Device) -> None:
    def step(length: int, batch: int) -> Any:
        device.launch(recurrent(length, batch))
        return np.float32(0.5), {"accuracy": 0.7}

    assert_recurrent(measured(device, step))


def test_a_function_of_the_users_may_wait_instead(device: Device) -> None:
    finished = []

    def synchronise() -> None:
        finished.append(device.pending)
        device.now += device.pending
        device.pending = 0

    model = measured(device, lambda n, b: device.launch(recurrent(n, b)), synchronise=synchronise)
    assert_recurrent(model)
    assert device.waits == 0
    assert all(pending > 0 for pending in finished)


def test_arrays_that_nobody_has_computed_are_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BINDING, "deferred", lambda x: True, raising=False)
    with pytest.raises(NotEligibleError, match="slowlib array that nobody has computed yet. Compute it"):
        measured(device, lambda n, b: device.launch(1.0))


async def coroutine(length: int, batch: int) -> float:
    return 1.0


def generator(length: int, batch: int) -> Iterator[float]:
    yield 1.0


def future(length: int, batch: int) -> Future[float]:
    return Future()


@pytest.mark.parametrize("step", [coroutine, generator, future])
def test_work_that_is_only_promised_is_refused(step: Any) -> None:
    with pytest.raises(
        NotEligibleError, match=rf"(?i)step returns a {step.__name__}, whose work is not done"
    ):
        seqpar.measure_cost(step, [64], [4])


def test_an_array_that_nobody_knows_how_to_wait_for_asks_for_synchronise(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(x: Any) -> None:
        raise NotEligibleError("seqpar: how to wait is not known. Give synchronise=")

    monkeypatch.setattr(BINDING, "finish", finish, raising=False)
    with pytest.raises(NotEligibleError, match="measure_cost: .*synchronise="):
        measured(device, lambda n, b: device.launch(1.0))


# --- what is timed ---------------------------------------------------------------------------------------------------------


def test_compiling_is_timed_apart(device: Device) -> None:
    seen = set()

    def step(length: int, batch: int) -> Any:
        compile_time = 0.0 if (length, batch) in seen else 0.25
        seen.add((length, batch))
        return device.launch(recurrent(length, batch) + compile_time)

    model = measured(device, step)
    assert_recurrent(model)
    assert model.shape_price == pytest.approx(0.25, abs=1e-5)
    assert model.first_call == pytest.approx(0.25 + np.median(model.seconds), abs=1e-5)


def test_calls_are_made_until_they_are_steady(device: Device) -> None:
    """As with a graph that is captured in the second call, and tried out in the third."""
    calls: dict[Any, int] = {}

    def step(length: int, batch: int) -> Any:
        n = calls[length, batch] = calls.get((length, batch), 0) + 1
        return device.launch({1: 1.0, 2: 0.5, 3: 0.2}.get(n, recurrent(length, batch)))

    model = measured(device, step, repeats=1)
    assert_recurrent(model)
    assert set(calls.values()) == {6}  # three slow ones, two that are alike, one that is timed


def test_one_slow_call_does_not_count(device: Device) -> None:
    calls = iter(range(10**6))
    model = measured(
        device, lambda n, b: device.launch(recurrent(n, b) * (50 if next(calls) % 17 == 0 else 1))
    )
    assert_recurrent(model)
    assert model.notes == ()


def test_times_that_vary_are_said(device: Device) -> None:
    calls = iter(range(10**6))
    model = measured(
        device, lambda n, b: device.launch(recurrent(n, b) * (1.0, 3.0, 2.0)[next(calls) // 6 % 3]), repeats=6
    )
    assert "vary, typically by" in " ".join(model.notes)


def test_rounds_are_interleaved(device: Device) -> None:
    order: list[Any] = []

    def step(length: int, batch: int) -> Any:
        order.append((length, batch))
        return device.launch(recurrent(length, batch))

    measured(device, step, warmup=0, repeats=2)
    rounds = [order[i : i + 6] for i in (0, 6, 12)]
    assert len(order) == 18
    assert rounds[0] == rounds[1] == rounds[2]
    assert sorted(rounds[0]) == SIZES


def test_inputs_are_made_for_every_call_and_not_timed(device: Device) -> None:
    made = []

    def inputs(length: int, batch: int) -> Any:
        device.now += 5.0
        device.launch(7.0)  # a transfer that is still under way
        made.append((length, batch))
        return length, batch, device.launch(1.0)

    def step(length: int, batch: int, x: Any) -> Any:
        return device.launch(recurrent(length, batch))

    model = measured(device, step, inputs=inputs, repeats=2, warmup=0)
    assert_recurrent(model)
    assert len(made) == 18


@pytest.mark.parametrize("made", [lambda n, b: {"length": n, "batch": b}, lambda n, b: [n, b]])
def test_inputs_are_given_as_they_are_made(device: Device, made: Any) -> None:
    assert_recurrent(
        measured(device, lambda length, batch: device.launch(recurrent(length, batch)), inputs=made)
    )


def test_an_array_as_inputs_is_one_argument(device: Device) -> None:
    model = measured(
        device, lambda x: device.launch(recurrent(*x.shape)), inputs=lambda n, b: np.zeros((n, b))
    )
    assert_recurrent(model)


def test_the_budget_ends_rounds_and_says_so(device: Device) -> None:
    calls = []

    def step(length: int, batch: int) -> Any:
        calls.append((length, batch))
        return device.launch(1.0)

    model = measured(device, step, seconds=8.0, repeats=50)
    assert len(calls) == 4 * 2 + 2 + 6  # while there is time two to warm up, then one, and a round
    assert "seconds=8 were over after 1 of 50 rounds." in model.notes
    assert len(model.sizes) == 6


# --- sizes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [
        (np.array(LENGTHS), tuple(BATCHES)),
        (range(64, 66), {4, 8}),
        (64, [4, 8]),
        (np.int64(64), 4),
        ([(64, 4), (256, 32)],),
        (zip([64, 256], np.array([4, 32]), strict=True),),
        ([64, 64, 256], [4, 4]),
    ],
)
def test_sizes_come_in_many_ways(device: Device, sizes: Any) -> None:
    model = measured(device, lambda n, b: device.launch(recurrent(n, b)), *sizes)
    assert_recurrent(model)
    assert all(type(n) is int and type(b) is int for n, b in model.sizes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (([], [4]), "there is no length or no batch size"),
        (([64], []), "there is no length or no batch size"),
        (([],), "there is no length or no batch size"),
        (([0], [4]), "lengths=0 is not a whole number of at least 1"),
        (([64], [-1]), "batches=-1 is not"),
        (([64.0], [4]), "lengths=64.0 is not"),
        ((None, [4]), "lengths=None are no whole numbers"),
        (
            ([64, 256],),
            r"without batches, lengths are pairs .* measure_cost\(step, \[64, 256, 1024\], \[4, 32\]\)",
        ),
        ((64,), "without batches, lengths are pairs"),
    ],
)
def test_sizes_that_are_none_are_refused(sizes: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        seqpar.measure_cost(lambda n, b: None, *sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats=0 is not a whole number of at least 1"),
        ({"warmup": -1}, "warmup=-1 is not"),
        ({"seconds": 0}, "seconds=0 is not a number above zero"),
        ({"seconds": "1"}, "seconds='1' is not"),
    ],
)
def test_options_that_are_none_are_refused(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        seqpar.measure_cost(lambda n, b: None, [64], [4], **options)


def test_functions_are_functions() -> None:
    with pytest.raises(ArrayTypeError, match="step=3 is not a function"):
        seqpar.measure_cost(3, [64], [4])  # type: ignore[arg-type]
    with pytest.raises(ArrayTypeError, match="inputs=3 is not a function"):
        seqpar.measure_cost(print, [64], [4], inputs=3)  # type: ignore[arg-type]
    with pytest.raises(ArrayTypeError, match="clock=None is not a function"):
        seqpar.measure_cost(print, [64], [4], clock=None)  # type: ignore[arg-type]


# --- failures --------------------------------------------------------------------------------------------------------------


def test_a_step_that_raises_is_named_with_its_size_and_keeps_what_was_measured(device: Device) -> None:
    def step(length: int, batch: int) -> Any:
        if (length, batch) == (1024, 4):
            raise ValueError("odd shape")
        return device.launch(recurrent(length, batch))

    with pytest.raises(
        MeasurementError, match=r"step\(1024, 4\) raised ValueError: odd shape.*batch size 4"
    ) as caught:
        measured(device, step)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.measured == pytest.approx({size: recurrent(*size) for size in SIZES[:3]}, abs=3e-6)


def test_inputs_that_raise_are_named(device: Device) -> None:
    def inputs(length: int, batch: int) -> Any:
        raise KeyError("nothing so long")

    with pytest.raises(MeasurementError, match=r"inputs\(64, 4\) raised KeyError"):
        measured(device, print, inputs=inputs)


def test_an_error_that_comes_late_is_the_steps(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(x: Any) -> None:
        raise RuntimeError("illegal address")

    monkeypatch.setattr(BINDING, "finish", finish, raising=False)
    with pytest.raises(MeasurementError, match=r"step\(64, 4\) raised RuntimeError: illegal address"):
        measured(device, lambda n, b: device.launch(1.0))


def test_interrupting_is_not_an_error_of_the_step(device: Device) -> None:
    def step(length: int, batch: int) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(device, step)


def test_a_size_that_does_not_fit_into_memory_is_left_out(device: Device) -> None:
    device.capacity = device.held + 1024 * 32 - 1
    calls = []

    def step(length: int, batch: int) -> Any:
        calls.append((length, batch))
        return device.launch(recurrent(length, batch), length * batch)

    model = measured(device, step, [64, 256, 1024, 2048], BATCHES)
    assert_recurrent(model)
    assert (1024, 32) not in model.sizes
    assert (2048, 32) not in model.sizes
    assert calls.count((1024, 32)) == 1
    assert calls.count((2048, 32)) == 0  # larger still
    assert device.released == 1
    assert "(1024, 32), (2048, 32) did not fit into memory" in model.notes[0]


def test_where_nothing_fits_there_is_no_model(device: Device) -> None:
    device.capacity = 0
    with pytest.raises(MeasurementError, match="no size fits into memory"):
        measured(device, lambda n, b: device.launch(1.0, 1))


def test_a_wrapped_error_of_memory_is_one(device: Device) -> None:
    def step(length: int, batch: int) -> Any:
        try:
            if batch == 32:
                raise MemoryError
        except MemoryError as error:
            raise RuntimeError("the step failed") from error
        return device.launch(recurrent(length, batch))

    assert measured(device, step).sizes == ((64, 4), (256, 4), (1024, 4))


def test_a_clock_that_goes_back_is_refused() -> None:
    ticks = iter(range(10**6, 0, -1))
    with pytest.raises(OptionError, match="Give a clock that rises"):
        seqpar.measure_cost(lambda n, b: None, [64], [4], clock=lambda: float(next(ticks)))


def test_a_step_that_takes_no_time_is_refused() -> None:
    with pytest.raises(MeasurementError, match="takes no time"):
        seqpar.measure_cost(lambda n, b: None, [64], [4], clock=lambda: 0.0)


# --- progress --------------------------------------------------------------------------------------------------------------


def test_nothing_is_printed_where_no_terminal_is(device: Device, capfd: pytest.CaptureFixture[str]) -> None:
    measured(device, lambda n, b: device.launch(1.0))
    assert capfd.readouterr() == ("", "")


def test_lines_are_printed_without_rich(
    device: Device, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    measured(device, lambda n, b: device.launch(1.0), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "measure_cost: 1/36 length 64, batch 4"
    assert err.splitlines()[-1].startswith("measure_cost: 36/36")


def test_rich_shows_how_far_it_is(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Progress:
        def __init__(self, *columns: Any, console: Any) -> None:
            told.append(console)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            told.append("closed")

        def add_task(self, name: str, total: int, text: str) -> int:
            told.append((name, total))
            return 7

        def update(self, task: int, advance: int, text: str) -> None:
            told.append(text)

    names = ("BarColumn", "MofNCompleteColumn", "TextColumn", "TimeElapsedColumn")
    columns = dict.fromkeys(names, lambda *_: None)
    monkeypatch.setitem(sys.modules, "rich", ModuleType("rich"))
    monkeypatch.setitem(sys.modules, "rich.progress", SimpleNamespace(Progress=Progress, **columns))
    monkeypatch.setitem(
        sys.modules, "rich.console", SimpleNamespace(Console=lambda stderr: {"stderr": stderr})
    )
    measured(device, lambda n, b: device.launch(1.0), [64], [4], progress=True, repeats=2)
    assert told == [{"stderr": True}, ("measure_cost", 3), *["length 64, batch 4"] * 3, "closed"]


def test_a_terminal_is_told_unless_it_wants_quiet(
    device: Device, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    measured(device, lambda n, b: device.launch(1.0), progress=False)
    assert capfd.readouterr().err == ""
    measured(device, lambda n, b: device.launch(1.0))
    assert "36/36" in capfd.readouterr().err


# --- real steps ------------------------------------------------------------------------------------------------------------


def test_a_step_of_torch_on_this_machine_takes_longer_for_more() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(64, 64)

    def step(x: Any) -> Any:
        loss = layer(x).square().mean()
        loss.backward()
        return loss

    model = seqpar.measure_cost(
        step, [16, 2048], [2, 32], inputs=lambda n, b: torch.ones(b, n, 64), repeats=3
    )
    times = dict(zip(model.sizes, model.seconds, strict=True))
    assert times[2048, 32] > 3 * times[16, 2] > 0  # 2,048 times the work
    assert model(2048, 32) > 3 * model(16, 2)


def test_a_new_shape_costs_a_step_of_jax_its_compilation() -> None:
    jax = pytest.importorskip("jax")

    @jax.jit
    def step(x: Any) -> Any:
        return jax.numpy.tanh(x @ x.T).sum()

    model = seqpar.measure_cost(step, [(16, 2), (32, 4), (64, 8)], inputs=lambda n, b: jax.numpy.ones((n, b)))
    assert model.shape_price > 0.5 * model.first_call > 0
    assert model.first_call > 3 * max(model.seconds)
