"""Tuned results are read back: exact sizes, bracketed neighbours, damage survived."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.profile import host_profile
from seqpar.linear_recurrence_reference import ChunkedLoop


def record(time: int = 64, **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "verdict": "ok",
        "adopted": True,
        "backend": "reference",
        "method": "chunked",
        "config": {"chunk": 5},
        "problem": {
            "framework": "numpy",
            "device": "cpu",
            "dtypes": ["float32", "float32", None, None],
            "layout": "inner",
            "options": [],
            "outer": 2,
            "time": time,
            "inner": 3,
        },
    } | changes


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes lines into a user store of its own; choices are forgotten before and after."""
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    directory = tmp_path / host_profile().digest
    directory.mkdir()

    def write(*lines: Any, run: str = "test") -> None:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (directory / f"linear_recurrence.{run}.jsonl").write_text(text + "\n")
        invalidate()

    yield write
    monkeypatch.undo()
    invalidate()


def choice(time: int = 64) -> Any:
    x = np.full((2, time, 3), 0.5, np.float32)
    return seqpar.explain(seqpar.linear_recurrence, x, x)


def test_an_exact_result_is_used_and_says_so(store: Any) -> None:
    store(record())
    found = choice()
    assert (found.provenance, found.backend, found.config) == ("tuned", "reference", ChunkedLoop(chunk=5))
    x = np.full((2, 64, 3), 0.5, np.float32)
    assert np.allclose(seqpar.linear_recurrence(x, x), seqpar.linear_recurrence(x, x, backend="host"))


def test_other_facts_are_another_problem(store: Any) -> None:
    store(record())
    x = np.full((2, 64, 3), 0.5)
    assert seqpar.explain(seqpar.linear_recurrence, x, x).provenance == "heuristic"
    assert choice(65).provenance == "heuristic"


def test_sizes_between_two_results_take_the_nearer_one(store: Any) -> None:
    store(record(64, config={"chunk": 5}), record(1024, config={"chunk": 32}))
    assert (choice(100).provenance, choice(100).config) == ("nearest", ChunkedLoop(chunk=5))
    assert choice(900).config == ChunkedLoop(chunk=32)
    assert choice(2000).provenance == "heuristic"
    assert choice(10).provenance == "heuristic"


def test_failed_and_rejected_candidates_are_never_chosen(store: Any) -> None:
    store(record(verdict="wrong"), record(adopted=False), record(verdict="timeout"))
    assert choice().provenance == "heuristic"


def test_a_knob_or_a_kernel_that_is_gone_is_a_miss(store: Any) -> None:
    store(record(config={"chunk": 5, "warps": 4}), record(backend="elsewhere"))
    assert choice().provenance == "heuristic"


def test_an_ineligible_stored_config_is_a_miss(store: Any) -> None:
    store(record(config={"chunk": 0}))
    assert choice().provenance == "heuristic"


def test_a_damaged_line_is_passed_over_with_one_warning(store: Any) -> None:
    store('{"schema": 1, "verd', record())
    with pytest.warns(
        RuntimeWarning, match=r"line 1 of linear_recurrence\.test\.jsonl is not a tuned result"
    ):
        assert choice().provenance == "tuned"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choice(65).provenance == "heuristic"


def test_a_user_result_wins_over_the_heuristic_only_where_nothing_was_asked(store: Any) -> None:
    store(record())
    x = np.full((2, 64, 3), 0.5, np.float32)
    assert seqpar.explain(seqpar.linear_recurrence, x, x, backend="host").backend == "host"


def test_runs_of_several_processes_are_merged(store: Any) -> None:
    store(record(64), run="one")
    store(record(128, config={"chunk": 7}), run="two")
    assert choice(64).config == ChunkedLoop(chunk=5)
    assert choice(128).config == ChunkedLoop(chunk=7)
