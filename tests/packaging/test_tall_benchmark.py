"""The figures of `qr` and `lstsq` on small problems: that they run, check what they time, and are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seqpar
from seqpar_bench import tall
from seqpar_bench import tall_peers as peers
from seqpar_bench.record import Record


def test_speed_figures_run_and_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    monkeypatch.setattr(tall, "ROWS", 2_000)
    monkeypatch.setattr(tall, "OTHERS", ((2_000, 16),))
    monkeypatch.setattr(tall, "BATCHES", ((10, 64, 8),))
    monkeypatch.setattr(tall, "CONDITIONS", (1e2,))
    record = Record("qr")
    for part in (tall.numpy_qr, tall.framework_qr, tall.least_squares, tall.accuracy, tall.other_sizes):
        part(record, 1)
    record.write(tmp_path / "r.json")
    figures = json.loads((tmp_path / "r.json").read_text())["figures"]
    assert [figure["number"] for figure in figures] == ["1"] * 5 + ["2"] * 2 + ["3"] * 3


def test_rows_made_on_the_fly_are_measured_in_a_process_of_their_own() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells how large a process was")
    code = "import json; from seqpar_bench import tall_stream as s; s.IN_MEMORY = 4096; print(json.dumps(s.measure(70_000)))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = json.loads(run.stdout)
    assert 0 < found["pushes"] < found["with making random rows"]
    assert found["windows"] > 0
    assert found["in memory"] > 0
    assert 1e7 < found["peak"] < 2e9


@pytest.mark.parametrize("wrong", ["q", "r"])
def test_an_answer_that_is_off_is_not_timed(wrong: str) -> None:
    a = tall.dense(500, 8, "float32")
    q, r = (np.array(x) for x in seqpar.qr(a))
    (q if wrong == "q" else r)[0, 0] += 0.01
    with pytest.raises(AssertionError, match="Q is not orthonormal" if wrong == "q" else "R is not"):
        tall.check(a, q, r)
    with pytest.raises(AssertionError, match="R\\^T R"):
        tall.check_r(a, r * 1.001)


def test_conditioned_matrices_have_the_condition_asked_for() -> None:
    a, _ = peers.conditioned(3_000, 12, 1e3, 0)
    assert np.linalg.cond(a) == pytest.approx(1e3, rel=1e-2)


def test_normal_equations_that_fail_say_so_by_nan() -> None:
    a, b = peers.conditioned(3_000, 12, 1e7, 0)
    a[:, 0] = 0
    assert np.isnan(peers.normal_equations(a, b)).all()
