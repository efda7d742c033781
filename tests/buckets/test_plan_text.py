"""What a plan shows of itself: printed, as JSON, as a picture."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqpar
from seqpar import BucketPlan, plan_buckets
from seqpar.errors import MissingExtraError, OptionError

LENGTHS = [3, 5, 5, 8, 90, 100]


def time(length: float, batch: float) -> float:
    return 2e-3 + length * (1e-5 + 1e-7 * batch)


def lognormal() -> Any:
    return np.clip(np.rint(np.random.default_rng(0).lognormal(5, 1, 5000)), 16, 1024).astype(int)


# --- printed --------------------------------------------------------------------------------------------------------------


def test_a_plan_prints_as_a_table() -> None:
    assert str(plan_buckets(LENGTHS, 2, max_tokens=200, ranks_per_step=2)) == (
        "BucketPlan: 2 buckets for 6 sequences, 9.05% padding\n"
        "  up to  sequences  padding  batch  batches  cost of one  share\n"
        "      8          4    34.4%     25        1            8  13.8%\n"
        "    100          2     5.0%      2        1          100  86.2%\n"
        "cost: 232 padded steps\n"
        "with whole batches on 2 ranks: 800 (+244.83%)\n"
        "other numbers of buckets: 1 +158.6%, 3 -4.3%, 4 -8.2%\n"
        "other ways to choose: uniform +72.4%, quantile +35.8%, equal duration +137.1%,\n"
        "    powers of two (3) -1.7%"
    )


def test_a_plan_by_time_prints_seconds_and_what_the_shapes_cost() -> None:
    text = str(plan_buckets(lognormal(), cost=time, max_tokens=4096, shape_price=0.5))
    assert "of it for shapes" in text
    assert "us" in text and " s," in text


def test_a_printed_plan_is_plain_and_narrow() -> None:
    plans = [
        plan_buckets(lognormal(), 32, cost=time, max_tokens=4096, ranks_per_step=8, shape_price=0.1),
        plan_buckets([2**60, 5], 2),
        plan_buckets(lognormal(), max_length=900, on_overflow="truncate", max_buckets=2, max_tokens=9000),
        plan_buckets([5], 1),
    ]
    for plan in plans:
        assert str(plan).isascii()
        assert max(map(len, str(plan).splitlines())) <= 100
        assert all(line == line.rstrip() for line in str(plan).splitlines())
        assert all(" ".join(note.split()) in " ".join(str(plan).split()) for note in plan.notes)


def test_repr_is_one_short_line() -> None:
    assert repr(plan_buckets(LENGTHS, 2)) == "BucketPlan((8, 100), padding=9.05%)"
    assert len(repr(plan_buckets(lognormal(), 32, max_tokens=4096))) < 150


# --- JSON -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=30).filter(any),
    st.integers(1, 6),
    st.sampled_from([None, 2**41]),
    st.sampled_from(["error", "truncate", "drop"]),
    st.floats(0, 1e6),
)
def test_a_plan_survives_json(
    lengths: list[int], buckets: int, tokens: int | None, overflow: str, price: float
) -> None:
    plan = plan_buckets(lengths, buckets, max_tokens=tokens, on_overflow=overflow, shape_price=price)
    again = BucketPlan.from_json(plan.to_json())
    assert again == plan
    assert again.key == plan.key
    assert again.to_json() == plan.to_json()
    assert str(again) == str(plan)
    assert again.bucket_of(lengths).tolist() == plan.bucket_of(lengths).tolist()


@pytest.mark.parametrize("table", [False, True])
def test_measured_costs_are_kept(table: bool, tmp_path: Path) -> None:
    model = seqpar.CostModel.fit({(n, b): time(n, b) for n in (10, 100, 1000) for b in (1, 8)})
    cost = model.table() if table else model
    plan = plan_buckets(lognormal(), 4, cost=cost, max_tokens=4096)
    plan.save(tmp_path / "plan.json")
    again = BucketPlan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.cost is not None and not isinstance(again.cost, str)
    assert again.cost(77, 5) == cost(77, 5)


def test_a_cost_that_is_a_function_is_left_out_and_a_note_says_so() -> None:
    plan = plan_buckets(lognormal(), 4, cost=time, max_tokens=4096)
    again = BucketPlan.from_json(plan.to_json())
    assert again.cost is None
    assert again.notes == ("the cost was a function, which a file cannot hold",)
    assert (again.boundaries, again.predicted_cost, again.key) == (
        plan.boundaries,
        plan.predicted_cost,
        plan.key,
    )
    assert BucketPlan.from_json(again.to_json()) == again
    assert "cost of one" in str(again)


@pytest.mark.parametrize("kind", ["mine", "memory_model", ["cost_model"], None])
def test_a_cost_that_could_not_be_read_back_is_left_out(kind: Any) -> None:
    class Mine:
        def __call__(self, length: int, batch: int) -> float:
            return 1.0 * length * batch

        def to_json(self) -> dict[str, Any]:
            return {"kind": kind, "a": 1}

    again = BucketPlan.from_json(plan_buckets(LENGTHS, 2, batch_size=2, cost=Mine()).to_json())
    assert again.cost is None
    assert again.notes == ("the cost was a function, which a file cannot hold",)


def test_a_plan_is_saved_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link, real = tmp_path / "plan.json", tmp_path / "kept" / "plan.json"
    for before in ("an old plan", None):  # a link to a file, and to none
        if before is None:
            real.unlink(missing_ok=True)
        else:
            real.write_text(before)
            link.symlink_to(Path("kept") / "plan.json")
        plan = plan_buckets(LENGTHS, 2)
        plan.save(link)
        assert link.is_symlink() and BucketPlan.load(real) == plan
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept", "plan.json", "plan.json"]


def test_a_plan_pickles() -> None:
    plan = plan_buckets(LENGTHS, 2)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_a_plan_of_a_newer_seqpar_is_refused() -> None:
    found = json.loads(plan_buckets(LENGTHS, 2).to_json())
    found["version"] = 99
    with pytest.raises(OptionError, match=r"saved by a newer seqpar \(version 99.*Update seqpar"):
        BucketPlan.from_json(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "this is JSON, but no plan"),
        ({"version": "x"}, "version='x' of the format is none"),
        ({"boundaries": [8, 8]}, "damaged .*boundaries do not rise"),
        ({"boundaries": [8, 10.5]}, r"damaged .*10\.5 is not a whole number"),
        ({"boundaries": []}, "damaged .*"),
        ({"counts": [1]}, "damaged .*columns"),
        ({"counts": [1, -1]}, "damaged .*-1 is not a whole number"),
        ({"prices": None}, "damaged"),
        ({"rivals": {"uniform": {}}}, "damaged .*boundaries"),
        ({"cost": 3}, "damaged .*cost=3"),
        ({"cost": {"kind": "magic"}}, "kind='magic'"),
        ({"on_overflow": "wrap"}, "damaged .*on_overflow='wrap'"),
        ({"limit": 0}, "damaged .*limit=0"),
        ({"limit": 2000}, "damaged .*limit=2000"),
        ({"predicted_cost": None}, "damaged .*a cost is None"),
        ({"shape_price": -1}, "damaged .*a cost is -1"),
        ({"shape_price": float("nan")}, "damaged .*a cost is nan"),
        ({"prices": [float("inf"), 1.0]}, "damaged .*a cost is inf"),
        ({"exact_cost": [], "batch_sizes": [1, 1]}, r"damaged .*a cost is \[\]"),
        ({"exact_cost": 3.0}, "damaged .*batch_sizes=None, exact_cost=3"),
        ({"batch_sizes": [0, 1], "exact_cost": 3.0}, r"damaged .*batch_sizes=\(0, 1\)"),
        ({"dropped": 1.5}, "damaged .*dropped=1.5"),
        ({"whole_batches": "no"}, "damaged .*whole_batches='no'"),
        ({"surprise": 1}, "damaged .*it has 'surprise'"),
    ],
)
def test_a_damaged_plan_is_refused(change: dict[str, Any], message: str) -> None:
    found = {**json.loads(plan_buckets(LENGTHS, 2).to_json()), **change}
    with pytest.raises(OptionError, match=rf"^BucketPlan\.from_json: .*{message}|^cost_from_json: {message}"):
        BucketPlan.from_json(json.dumps(found))


def test_a_file_that_was_cut_off_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan_buckets(LENGTHS, 2).save(path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(OptionError, match=r"BucketPlan\.load\('.*plan\.json'\): this is no JSON"):
        BucketPlan.load(path)
    path.write_text("[1, 2]")
    with pytest.raises(OptionError, match="no plan"):
        BucketPlan.load(path)
    with pytest.raises(FileNotFoundError):
        BucketPlan.load(tmp_path / "none.json")


def test_a_failure_while_saving_leaves_the_old_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    plan_buckets(LENGTHS, 2).save(path)
    before = path.read_text()

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        plan_buckets(LENGTHS, 3).save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


# --- picture --------------------------------------------------------------------------------------------------------------


def test_a_plan_draws_its_histogram_its_boundaries_and_its_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan = plan_buckets(lognormal(), 8, max_tokens=4096)
    figure = plan.plot(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    histogram, curve = figure.axes
    assert histogram.get_xscale() == "log"
    lines = sorted(line.get_xdata()[0] for line in histogram.lines)
    assert lines == list(plan.boundaries)
    (steps,) = [p for p in histogram.patches if type(p).__name__ == "StepPatch"]
    values, edges, _ = steps.get_data()
    assert float((values * np.log(edges[1:] / edges[:-1])).sum()) == pytest.approx(plan.samples)
    best = curve.lines[0].get_ydata() * min(plan.curve)
    assert best == pytest.approx(plan.curve)
    labels = [text.get_text() for text in curve.get_legend().get_texts()]
    assert labels == ["the optimum", "this plan", "uniform", "quantile", "equal duration", "powers of two"]


@pytest.mark.parametrize("lengths", [[5], [0, 1], [7, 7, 8], list(range(200, 400)), [1, 2**50]])
def test_any_plan_can_be_drawn(lengths: list[int], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan_buckets(lengths, 3).plot(tmp_path / "plan.svg")
    plan_buckets(lengths, boundaries=[lengths[-1] + 1]).plot(tmp_path / "own.svg")
    assert (tmp_path / "plan.svg").stat().st_size > 1000


def test_drawing_needs_no_display_and_leaves_no_figure_open() -> None:
    pytest.importorskip("matplotlib")
    code = "import sys, seqpar; seqpar.plan_buckets([3, 5, 90], 2).plot(); print('matplotlib.pyplot' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == "False"


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqpar\[report\]'"):
        plan_buckets(LENGTHS, 2).plot()
