"""The figures of `solve_recurrence` on small problems: that they run, check what they time, and are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqpar_bench import solving, solving_cases, solving_evidence
from seqpar_bench import solving_peers as peers
from seqpar_bench.record import Record


def test_all_loops_compute_the_same_recurrence() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    for system in (solving_cases.elman(2, 40), solving_cases.gru(3, 4, steps=40)):
        expected = system.walked()
        ways = (
            (peers.numpy_loop, np, np.asarray),
            (peers.torch_loop, torch, torch.from_numpy),
            (peers.jax_scan, jax.numpy, jax.numpy.asarray),
        )
        for loop, namespace, array in ways:
            problem = system.problem(namespace, array, "float64")
            states = loop(problem.step, problem.params, problem.x, problem.h0)
            assert solving_cases.largest(states, expected).max() <= 1e-14


@pytest.mark.parametrize("method", [peers.deer, peers.quasi_deer])
def test_newton_peers_converge_where_the_recurrence_forgets(method: object) -> None:
    jax = pytest.importorskip("jax")
    system = solving_cases.gru(1, 4, steps=60)
    problem = system.problem(jax.numpy, jax.numpy.asarray, "float64")
    states, count = method(problem.step, problem.params, problem.x, problem.h0)  # type: ignore[operator]
    assert 0 < int(count) < 20
    assert solving_cases.largest(states, system.walked()).max() <= 1e-3


def test_a_peer_that_runs_into_the_cap_says_so() -> None:
    jax = pytest.importorskip("jax")
    problem = solving_cases.gru(5, 8, steps=300).problem(jax.numpy, jax.numpy.asarray, "float32")
    _, count = peers.deer(problem.step, problem.params, problem.x, problem.h0, cap=5)
    assert int(count) == -5


def test_speed_figures_run_and_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    monkeypatch.setattr(solving, "STEPS", 300)
    monkeypatch.setattr(solving, "hard_cases", lambda: {"chaos": solving_cases.chaos(steps=100, n=8)})
    record = Record("solve_recurrence")
    solving.own_step(record, 1)
    solving.never_slower(record, 1)
    record.write(tmp_path / "r.json")
    figures = json.loads((tmp_path / "r.json").read_text())["figures"]
    assert [figure["number"] for figure in figures] == ["1"] * 5 + ["3"] * 3
    assert all(figure["value"] > 0 for figure in figures)


def test_evidence_is_a_table_in_which_every_answer_is_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(solving_evidence, "GRUS", ((1.0, 4),))
    monkeypatch.setattr(solving_evidence, "POINT", 60)
    monkeypatch.setattr(solving_evidence, "LONG", 200)
    some = [solving_evidence.NumPy(), solving_evidence.Torch()]
    monkeypatch.setattr(solving_evidence, "frameworks", lambda: iter(some))
    for table in ("METHODS", "SHOOTING"):
        shorter = {
            name: (60 if steps == 1000 else 200, options)
            for name, (steps, options) in getattr(solving_evidence, table).items()
        }
        monkeypatch.setattr(solving_evidence, table, shorter)
    record = Record("solve_recurrence")
    solving_evidence.evidence(record, 1)
    record.write(tmp_path / "r.json")
    rows = json.loads((tmp_path / "r.json").read_text())["tables"]["evidence"]
    assert {row["asked"] for row in rows} == {*solving_evidence.METHODS, *solving_evidence.SHOOTING, "auto"}
    assert [figure.value for figure in record.figures] == [0, 0]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says how much memory was used")
def test_memory_of_a_training_step_is_measured() -> None:
    pytest.importorskip("torch")
    # In a process of its own: the memory that others have freed in this one serves without a peak.
    code = "import json; from seqpar_bench import solving_memory as m; m.STEPS = 4000; print(json.dumps(m.measure()))"
    command = [sys.executable, "-c", code]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert measured["states"] == 4 * 4 * 4000 * 32
    assert measured["peak"] > 0
