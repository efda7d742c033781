"""The figures of `seqpar.cells` on tiny problems: that they run, refuse to time wrong answers, and are written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqpar_bench import (
    cells,
    cells_cases,
    cells_peers,
    cells_startup,
    cells_table,
    cells_ways,
    figures,
)
from seqpar_bench.record import Record

pytest.importorskip("torch")
pytest.importorskip("jax")


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_everybody_computes_the_network_that_torch_does(name: str) -> None:
    case = cells_cases.network(name, 5, 3, 40, scale=2.0)
    truth = cells_ways.TorchModule(case, "float64").forward().answer()
    for way in (
        cells_ways.NumPyLoop(case),
        cells_ways.TorchModule(case),
        cells_ways.jax_scan(case),
        cells_ways.jax_scan(case, together=True),
    ):
        cells.check("peer", way.forward().answer(), truth)
    wide = {key: p.astype(np.float64) for key, p in case.params.items()}
    mine = cells_peers.NUMPY[name](wide, case.x.astype(np.float64))
    # Torch's two biases were added up in float32.
    assert np.abs(mine - truth["outputs"]).max() <= 1e-7


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_everybody_has_the_gradients_that_torch_has(name: str) -> None:
    case = cells_cases.network(name, 4, 2, 30)
    truth = cells_ways.TorchModule(case, "float64").training().answer()
    assert set(truth) == {"x", *case.params}
    ways = (cells_ways.Torch(case), cells_ways.jax_seqpar(case), cells_ways.jax_scan(case))
    for way in ways:
        cells.check("way", way.training().answer(), truth)


def test_wrong_answers_are_not_timed() -> None:
    right = {"outputs": np.zeros((1, 5, 3), np.float32)}
    wrong = {"outputs": right["outputs"] + np.float32(2e-5)}
    with pytest.raises(AssertionError, match="somebody: outputs is 2e-05 from the truth"):
        cells.check("somebody", wrong, right)
    with pytest.raises(AssertionError, match="15 numbers of outputs are not the sequential method's"):
        cells.same_bits("case", {cells.OURS: wrong, cells.OWN: right})
    case = cells_cases.network("gru", 3, 1, 5)
    with pytest.raises(AssertionError, match="from what the cell makes of the state before"):
        cells.steps_follow("case", case, right)


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        (cells.torch_gru, ["1"] * 8),
        (cells.torch_gru_small, ["2"] * 2),
        (cells.jax_gru, ["3"] * 7),
        (cells.torch_lstm, ["4"] * 3),
        (cells.never_slower, ["5"] * 24),
        (cells_startup.first_calls, ["7"] * 2),
        (cells_table.table, []),
    ],
)
def test_figures_run_and_are_written(part: Callable[..., None], numbers: list[str], tmp_path: Path) -> None:
    record = Record("cells")
    part(record, 1, cells_cases.QUICK)
    record.write(tmp_path / "cells.json")
    written = json.loads((tmp_path / "cells.json").read_text())
    assert [figure["number"] for figure in written["figures"]] == numbers
    assert all(figure["value"] > 0 for figure in written["figures"])
    # Every figure that is a time or a ratio of times names the samples it was made of.
    groups = {figure["group"] for figure in written["figures"] if figure["group"]}
    assert groups <= set(written["seconds"])
    if part is cells_table.table:
        assert len(written["tables"]["cells"]) == 2 * 2 * 2 * 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says how much memory was used")
def test_memory_of_a_training_step_is_measured() -> None:
    # In a process of its own: the memory that others have freed in this one serves without a peak.
    command = [sys.executable, "-m", "seqpar_bench.cells_memory", "6000"]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert measured["states"] == 4 * 4 * 6000 * 32
    assert measured["peak"] > measured["states"]


def test_the_command_runs_tiny_problems_and_says_nothing_of_their_speed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "restrict", lambda threads: None)
    out = tmp_path / "cells.json"
    arguments = ["cells", "--quick", "--only", "2", "--rounds", "1", "--out", str(out)]
    assert figures.main(arguments) == 0
    assert json.loads(out.read_text())["problems"] == []


def test_other_operations_have_no_quick_mode() -> None:
    with pytest.raises(SystemExit):
        figures.main(["associative_scan", "--quick"])
