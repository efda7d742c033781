"""The benchmark's own tools: clocks, ratios, answers, records, tables."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from seqpar_bench import figures, peers, record, tables
from seqpar_bench.answers import WrongAnswerError, check
from seqpar_bench.cases import QUICK, Case
from seqpar_bench.measure import MeasurementError, Samples, interleave


class Clock:
    """A clock that only the work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    slow, fast = Samples((4.0, 40.0, 4.0)), Samples((1.0, 10.0, 2.0))
    assert slow.over(fast) == 4.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_samples_that_are_no_times_are_refused(bad: float) -> None:
    with pytest.raises(MeasurementError):
        Samples((1.0, bad))


def test_every_round_times_every_case_once() -> None:
    clock = Clock()
    order: list[str] = []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        clock.work(seconds)

    cases = {"a": lambda: work("a", 1.0), "b": lambda: work("b", 3.0)}
    times = interleave(cases, rounds=4, clock=clock)
    assert times["a"].seconds == (1.0,) * 4
    assert times["b"].over(times["a"]) == 3.0
    assert order[4:] == ["a", "b", "b", "a", "a", "b", "b", "a"]  # two calls of each come before, untimed


def test_short_calls_are_repeated_until_a_sample_is_long_enough() -> None:
    clock = Clock()
    calls = itertools.count()

    def short() -> None:
        next(calls)
        clock.work(1e-6)

    times = interleave({"short": short}, rounds=1, sample_seconds=1e-3, clock=clock)
    assert times["short"].median == pytest.approx(1e-6)
    assert next(calls) > 900


def test_zero_rounds_are_refused() -> None:
    with pytest.raises(MeasurementError, match="rounds=0"):
        interleave({"a": lambda: None}, rounds=0)


def test_check_accepts_float32_rounding_and_refuses_a_wrong_step() -> None:
    a, b = QUICK.arrays()
    h = peers.numpy_loop(a, b)
    assert check(h, a, b) <= 1
    h[0, 100, 0] += 1e-3
    with pytest.raises(WrongAnswerError):
        check(h, a, b)


def test_check_refuses_nan() -> None:
    a, b = QUICK.arrays()
    h = peers.numpy_loop(a, b)
    h[0, 0, 0] = np.nan
    with pytest.raises(WrongAnswerError):
        check(h, a, b)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_all_peers_compute_the_same_recurrence(axis: int) -> None:
    case = Case("small", (3, 7, 5), axis=axis, dtype="float64")
    a, b = case.arrays()
    expected = peers.numpy_loop(a, b, axis)
    torch = pytest.importorskip("torch")
    for loop in (peers.torch_loop, peers.torch_addcmul_loop):
        np.testing.assert_allclose(loop(torch.from_numpy(a), torch.from_numpy(b), axis).numpy(), expected)
    pytest.importorskip("jax")
    for peer in (peers.jax_scan, peers.jax_associative_scan):
        np.testing.assert_allclose(np.asarray(peer(a, b, axis)), expected, rtol=1e-5)
    constant = np.full_like(a, 0.5)
    np.testing.assert_allclose(peers.scipy_lfilter(0.5, b, axis), peers.numpy_loop(constant, b, axis))


def test_a_record_keeps_every_sample_and_names_no_machine(tmp_path: Path) -> None:
    run = record.Record("linear_recurrence")
    samples = Samples((1.0, 2.0, 3.0))
    run.add([record.Figure("1", "a speed-up", 2.0, 1.5, group="g")], {"g": {"seqpar": samples}})
    run.write(tmp_path / "deep" / "r.json")
    text = (tmp_path / "deep" / "r.json").read_text()
    read = json.loads(text)
    assert read["seconds"]["g"]["seqpar"]["samples"] == [1.0, 2.0, 3.0]
    assert read["figures"][0]["reached"] is True
    assert str(tmp_path) not in text
    assert set(read["machine"]) >= {"cpu", "cores", "simd", "python"}


def test_a_figure_is_reached_on_the_right_side_of_its_target() -> None:
    assert record.Figure("1", "", 0.7, 0.7).reached
    assert not record.Figure("1", "", 0.69, 0.7).reached
    assert record.Figure("5", "", 14.0, 15, "at most").reached
    assert not record.Figure("5", "", float("nan"), 15, "at most").reached


def test_profile_name_is_a_folder_name() -> None:
    assert record.profile_name().replace("-", "").isalnum()


def test_unknown_figure_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        figures.main(["--only", "12"])
    assert "no figure 12" in capsys.readouterr().err


def test_tables_align_in_plain_text_and_in_markdown() -> None:
    header, rows = ("name", "value"), [("a", "1"), ("longer", "22")]
    assert tables.plain(header, rows).splitlines() == [
        "name    value",
        "------  -----",
        "a       1",
        "longer  22",
    ]
    assert len({len(line) for line in tables.markdown(header, rows).splitlines()}) == 1
