"""The figures of `plan_buckets` on small problems: that they run, check what they time, and are written and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import seqpar
from seqpar_bench import (
    buckets,
    buckets_batches,
    buckets_cases,
    buckets_chart,
    buckets_pens,
    buckets_planning,
    buckets_ranks,
    buckets_strokes,
    buckets_tables,
    buckets_time,
)
from seqpar_bench import buckets_peers as peers
from seqpar_bench.buckets_cases import SPEECH, TEXT, Workload
from seqpar_bench.figures import OPERATIONS
from seqpar_bench.record import Record

SMALL = Workload(3.0, 0.5, 2, 60, 300)


def test_workloads_are_drawn_in_their_order() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.lognormal(5, 1, 200_000), rng.lognormal(6, 1.2, 1_000_000)
    assert np.array_equal(buckets_cases.samples(SPEECH), np.clip(np.rint(first), 16, 1024))
    assert np.array_equal(buckets_cases.samples(TEXT), np.clip(np.rint(second), 1, 32768))
    assert len(buckets_cases.histogram(SPEECH)[0]) == 1009
    assert len(buckets_cases.histogram(TEXT)[0]) == 12_258


def test_optima_are_those_of_reference_and_no_other_choice_pads_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "OPTIMA", {SPEECH: buckets.OPTIMA[SPEECH]})
    record = Record("buckets")
    buckets.optima(record, 1)
    assert [figure.value for figure in record.figures] == [0.0] * 4
    for row in record.tables["padding"]:
        assert row["optimum"] < min(row["uniform"], row["quantile"], row["equal_duration"])
    _, rows = buckets_tables.padding(record.tables["padding"])
    assert rows[1][2:4] == ("16.42 %", "19.90 %")


def test_the_count_of_wrong_plans_counts_wrong_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "INSTANCES", 40)
    record = Record("buckets")
    buckets.every_choice(record, 1)
    assert record.figures[-1].value == 0
    right = peers.brute_force

    def greedy(*args: object) -> tuple[float, tuple[int, ...]]:
        cost, ends = right(*args)  # type: ignore[arg-type]
        return cost * 1.001 + 0.001, ends

    monkeypatch.setattr(peers, "brute_force", greedy)
    buckets.every_choice(record, 1)
    assert record.figures[-1].value == 40


@pytest.mark.parametrize("seed", range(20))
def test_the_table_of_all_pairs_has_the_optimum_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distinct, number = int(rng.integers(1, 11)), int(rng.integers(1, 6))
    lengths = np.sort(rng.choice(np.arange(1, 60), distinct, replace=False))
    counts = rng.integers(1, 50, distinct)
    cost, boundaries = peers.numpy_dp(lengths, counts, number, block=3)
    price = lengths.astype(float)
    assert cost == peers.brute_force(lengths, counts, price, number)[0]
    ends = tuple(np.searchsorted(lengths, boundaries).tolist())
    assert peers.cost_of(lengths, counts, price, ends) == cost
    assert len(ends) <= number


def test_times_of_plans_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = buckets_cases.samples(SMALL, (SMALL,))
    histogram = np.unique(drawn, return_counts=True)
    monkeypatch.setattr(buckets_planning, "LIMITS", ((SMALL, 4, 1e9),))
    monkeypatch.setattr(buckets_planning, "FEW", 2)
    monkeypatch.setattr(buckets_planning, "samples", lambda workload: drawn)
    monkeypatch.setattr(buckets_planning, "histogram", lambda workload: histogram)
    children = {"1": buckets_planning.measure(1), "first": {"speech": 0.1, "text": 0.2}}
    monkeypatch.setattr(buckets_planning, "_child", lambda what, **environment: children[what])
    record = Record("buckets")
    buckets_planning.planning(record, 1)
    (figure,) = record.figures
    ways = record.samples[figure.group]
    assert figure.value == 1e3 * ways["plan_buckets"].median
    assert len(ways) == 4
    assert len(record.samples["2 plans in NumPy"]) == 2
    assert record.samples[f"2 first plan of a process, {TEXT.name}"]["nothing in the cache"].median == 0.2


def test_the_first_plan_of_a_process_is_timed_in_one() -> None:
    found = buckets_planning._child("first")
    assert 0 < found["text"] < 60
    assert 0 < found["speech"] < 60


def test_characters_follow_from_their_seed_and_end_with_the_pen_up() -> None:
    characters = buckets_pens.written(60, 3)
    again = buckets_pens.written(60, 3)
    assert all(np.array_equal(x, y) for x, y in zip(characters.steps, again.steps, strict=True))
    assert np.array_equal(characters.labels, again.labels)
    assert not np.array_equal(characters.labels, buckets_pens.written(60, 4).labels)
    assert all(s.shape[1] == 3 and s.dtype == np.float32 and s[-1, 2] == 1 for s in characters.steps)
    strokes = {
        label: {
            int(s[:, 2].sum())
            for s, own in zip(characters.steps, characters.labels, strict=True)
            if own == label
        }
        for label in set(characters.labels.tolist())
    }
    assert all(len(found) == 1 for found in strokes.values())
    lengths = buckets_pens.written(1500, 0).lengths
    assert buckets_pens.LEAST == lengths.min() < lengths.max() == buckets_pens.MOST
    # A few are many times as long as most.
    assert lengths.mean() > 1.3 * np.median(lengths)


def small_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    for name, value in (
        ("TRAIN", 96),
        ("JUDGE", 40),
        ("BATCH", 8),
        ("UNITS", 6),
        ("EPOCHS", 2),
        ("BUCKETS", (1, 4)),
    ):
        monkeypatch.setattr(buckets_strokes, name, value)


def test_every_way_to_make_batches_trains_on_each_character_once_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_training(monkeypatch)
    characters = buckets_pens.written(90, 0)
    for batches in buckets_strokes.ways(characters, 0).values():
        orders = [next(batches), next(batches)]
        assert orders[0] != orders[1]
        for steps in orders:
            assert sorted(i for own, _, _ in steps for i in own) == list(range(90))
            assert all(characters.lengths[own].max() <= boundary for own, boundary, _ in steps)


def test_training_on_strokes_is_written_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small_training(monkeypatch)
    record = Record("buckets")
    buckets_strokes.strokes(record, 2)
    rows = record.tables["pen strokes"]
    assert [row["batches"] for row in rows] == [buckets_strokes.RANDOM, "1 bucket", "4 buckets"]
    assert rows[2]["padding"] < rows[0]["padding"] < rows[1]["padding"]
    assert all(np.shape(row["losses"]) == (2, 2) for row in rows)
    record.write(tmp_path / "buckets.json")
    assert buckets_chart.main([str(tmp_path / "buckets.json")]) == 0
    assert (tmp_path / "buckets_strokes.png").stat().st_size > 10_000
    _, table = buckets_tables.strokes(
        json.loads((tmp_path / "buckets.json").read_text())["tables"]["pen strokes"]
    )
    assert table[0][4] == "not by all"


def test_the_goal_is_reached_after_the_first_epoch_below_it() -> None:
    run = {"losses": [0.9, 0.3, 0.5, 0.2], "seconds": [1.0, 2.0, 4.0, 8.0]}
    assert buckets_strokes._reached(run) == (2, 3.0)
    assert buckets_strokes._reached({**run, "losses": [0.9] * 4}) is None


@pytest.fixture
def small_times(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("torch")
    monkeypatch.setattr(buckets_time, "SIZES", [(4, 8), (4, 2), (16, 8), (16, 2), (60, 2), (60, 1)])
    for module in (buckets_time, buckets_ranks):
        monkeypatch.setattr(module, "samples", lambda workload: buckets_cases.samples(SMALL, (SMALL,)))
        monkeypatch.setattr(module, "BUCKETS", 3)
        monkeypatch.setattr(module, "BUDGET", dict.fromkeys((SPEECH, TEXT), 240))
    monkeypatch.setattr(buckets_time, "TRAINED", 40)
    buckets_time.cost_of.cache_clear()
    yield
    buckets_time.cost_of.cache_clear()


@pytest.mark.usefixtures("small_times")
def test_least_time_and_least_padding_are_compared_in_training() -> None:
    record = Record("buckets")
    buckets_time.least_time(record, 1)
    assert [figure.number for figure in record.figures] == ["3"] * 4
    rows = record.tables["time against padding"]
    assert [row["least"] for row in rows] == ["time", "padding"] * 4
    for time, padding in pairwise(rows):
        if time["least"] == "time":
            assert time["padding"] >= padding["padding"]
    assert len(buckets_tables.savings(rows)[1]) == 8


def test_ranks_with_one_order_have_one_shape_and_do_all_samples() -> None:
    lengths = buckets_cases.samples(SMALL, (SMALL,))
    plan = seqpar.plan_buckets(lengths, 3, max_tokens=240)
    batches = buckets_ranks.together(plan, lengths)
    assert batches.shape[1:] == (buckets_ranks.RANKS, 3)
    assert (batches[:, :, :2] == batches[:, :1, :2]).all()
    assert batches[..., 2].sum() == lengths.sum()
    own = buckets_ranks.alone(plan, lengths)
    assert (own[:, :, 0] != own[:, :1, 0]).any()
    assert own[..., 2].sum() <= lengths.sum()


@pytest.mark.usefixtures("small_times")
def test_ranks_have_figures_for_one_order_and_for_their_own() -> None:
    record = Record("buckets")
    buckets_ranks.eight_ranks(record, 1)
    assert [figure.sense for figure in record.figures].count("at least") == 4
    assert all(figure.value == 1 for figure in record.figures if figure.sense == "at least")
    assert len(buckets_tables.ranks(record.tables["eight ranks"])[1]) == 8


def test_efficiency_is_the_share_of_time_that_ranks_work() -> None:
    assert buckets_ranks.efficiency(np.array([[1.0, 1.0], [4.0, 0.0]])) == 3 / 5


@pytest.mark.parametrize("part", [buckets_batches.sampling, buckets_batches.padding, buckets_batches.packing])
def test_other_cases_run_and_are_written(
    part: Callable[[Record, int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    for name, value in (("MANY", 3000), ("ROWS", 5), ("PACKED", 12), ("CHANNELS", 4)):
        monkeypatch.setattr(buckets_batches, name, value)
    record = Record("buckets")
    part(record, 1)
    record.write(tmp_path / "buckets.json")
    groups = json.loads((tmp_path / "buckets.json").read_text())["seconds"]
    assert groups
    assert all(name.startswith("extra ") for name in groups)


def test_all_parts_are_figures_of_the_command() -> None:
    parts = OPERATIONS["buckets"]
    assert list(parts) == ["1", "2", "3", "4", "extra"]
    assert buckets_strokes.strokes in parts["3"]
