"""The table of long GRUs, rehearsed on the CPU: it times everybody, and nobody who is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from seqpar_bench import deer_table, deer_ways
from seqpar_bench.answers import WrongAnswerError
from seqpar_bench.deer_ways import PASSES, Answer, Problem
from seqpar_bench.gpu.frameworks import JAX, Torch
from seqpar_bench.measure import Samples

WAYS = {
    "seqpar in PyTorch",
    "seqpar in PyTorch, step by step",
    "torch.nn.GRU",
    "seqpar in JAX",
    "jax.lax.scan",
}


def long_problem(monkeypatch: pytest.MonkeyPatch, steps: int = 300) -> Problem:
    """One that is longer than what is held against the truth as a whole."""
    monkeypatch.setattr(deer_ways, "LONGEST_TRUTH", 250)
    monkeypatch.setattr(deer_ways, "TAIL", 100)
    monkeypatch.setattr(deer_ways, "SLAB", 128)
    return Problem(3, 2, steps, Torch(False), JAX(False))


def test_the_command_times_everybody_forward_and_with_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deer_table, "QUICK", deer_table.Sizes((3,), (2,), (20,)))
    assert deer_table.main([str(tmp_path), "--quick"]) == 0
    record = json.loads((tmp_path / "deer_table.json").read_text())
    assert record["problems"] == []
    timed = {(row["way"], row["which"]) for row in record["rows"] if row["seconds"]["median"] > 0}
    assert timed == {(way, which) for way in WAYS for which in PASSES}
    assert (tmp_path / "deer_table.txt").read_text() in capsys.readouterr().out
    assert str(tmp_path) not in (tmp_path / "deer_table.json").read_text()


def test_everybody_is_right_over_sequences_longer_than_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = long_problem(monkeypatch)
    for way in problem.ways():
        for which in PASSES:
            assert problem.check(way.read(way.make(which)(), which), which) < 1e-5, way.name


@pytest.mark.parametrize("steps", [40, 300], ids=["short", "long"])
def test_wrong_answers_are_found(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = long_problem(monkeypatch, steps)
    ours = next(iter(problem.ways()))
    outputs = ours.read(ours.make("forward")(), "forward").outputs.clone()
    outputs[1, steps // 2, 2] += 1e-3
    with pytest.raises(WrongAnswerError, match="off by 0.001"):
        problem.check(Answer(outputs=outputs), "forward")
    which = PASSES[1]
    answer = ours.read(ours.make(which)(), which)
    with pytest.raises(WrongAnswerError, match="off by"):
        problem.check(answer._replace(dx=answer.dx * 1.01), which)
    with pytest.raises(WrongAnswerError, match="off by nan"):
        problem.check(answer._replace(du=answer.du * float("nan")), which)


def test_a_way_that_is_wrong_or_fails_has_no_time_and_ours_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, which: Any) -> Any:
        raise RuntimeError("no such GPU")

    monkeypatch.setattr(Problem, "_module", broken)
    monkeypatch.setattr(Problem, "_chosen", broken)
    run = deer_table.Run(tmp_path, 60, gpu=False)
    deer_table.measure(run, [(3, 2, 20)], Torch(False), None, rounds=False)
    assert len(run.rows) == 6
    assert not any(row.samples for row in run.rows)
    assert len(run.problems) == 4
    assert all("seqpar in PyTorch" in problem for problem in run.problems)


def test_what_would_take_too_long_is_left_out_with_an_estimate(tmp_path: Path) -> None:
    run = deer_table.Run(tmp_path, 60, gpu=False)
    problem = Problem(3, 2, 60, Torch(False), None)
    row = deer_table.Row(3, 2, 20, "forward", "torch.nn.GRU", Samples((20.0,)))
    run.rows.append(row)
    found = {r.way: r for r in deer_table.rows_of(run, problem, "forward", deer_table.Budget(0))}
    assert found["torch.nn.GRU"].note == "about 60 s: left out"
    assert found["seqpar in PyTorch"].samples
