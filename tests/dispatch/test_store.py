"""Tuned results are read back: exact sizes, bracketed neighbours, damage survived."""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import store as reading
from seqpar.dispatch.choice import choose
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.profile import HardwareProfile, host_profile
from seqpar.dispatch.registry import Backend, add_backend, remove_backend
from seqpar.linear_recurrence_reference import Chunked, ChunkedLoop


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
    monkeypatch.setattr(reading, "TABLES", tmp_path / "shipped")
    monkeypatch.setattr(reading, "_told", set())
    (tmp_path / host_profile().digest).mkdir()

    def write(*lines: Any, run: str = "test", profile: HardwareProfile | None = None) -> None:
        directory = tmp_path / (profile or host_profile()).digest
        if profile is not None:
            directory.mkdir(exist_ok=True)
            (directory / "profile.json").write_text(json.dumps(profile.to_dict()))
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


def with_tools(**tools: str) -> HardwareProfile:
    here = host_profile()
    return dataclasses.replace(here, tools=tuple({**dict(here.tools), **tools}.items()))


def test_the_latest_decision_on_a_problem_holds(store: Any) -> None:
    store(record(config={"chunk": 5}, when="2026-09-02"), run="a")
    store(record(config={"chunk": 7}, when="2026-09-01"), run="b")
    assert choice().config == ChunkedLoop(chunk=5)


def test_a_default_that_was_kept_ends_the_search_for_results(store: Any, tmp_path: Path) -> None:
    store(record(config={"chunk": 5}, when="2026-09-01"), run="a")
    assert choice().provenance == "tuned"
    store(
        record(adopted=False, kept=True, backend="host", method="sequential", config={}, when="2026-09-02"),
        run="b",
    )
    assert (choice().provenance, choice().method) == ("tuned", "sequential")
    # Also near by: between a size that keeps it and one that does not, the nearer one decides.
    store(record(1024, config={"chunk": 32}), run="c")
    assert choice(80).provenance == "heuristic"
    assert choice(900).config == ChunkedLoop(chunk=32)


def test_a_choice_among_deterministic_kernels_comes_behind_one_among_all(store: Any) -> None:
    store(
        record(config={"chunk": 5}, numerics="any", when="2026-09-01"),
        record(config={"chunk": 7}, numerics="deterministic", when="2026-09-02"),
    )
    assert choice().config == ChunkedLoop(chunk=5)
    with seqpar.options(numerics="deterministic"):
        assert choice().config == ChunkedLoop(chunk=7)


class Unrepeatable(Chunked):
    backend, deterministic = "dice", False


@pytest.fixture
def dice() -> Iterator[None]:
    """A backend whose kernel is not bitwise repeatable."""
    add_backend(Backend(name="dice", version="1", kernels=lambda: (Unrepeatable(),)))
    yield
    remove_backend("dice")


@pytest.mark.usefixtures("dice")
def test_no_result_makes_a_deterministic_call_take_an_unrepeatable_kernel(store: Any) -> None:
    for changes in ({}, {"numerics": "deterministic"}):
        store(record(backend="dice", **changes), record(128, backend="dice", **changes))
        assert (choice().backend, choice(65).backend, choice(65).provenance) == ("dice", "dice", "nearest")
        with seqpar.options(numerics="deterministic"):
            assert (choice().provenance, choice(65).provenance) == ("heuristic", "heuristic")
            assert "stored, and of no use: dice.chunked" in str(choice())


@pytest.mark.usefixtures("dice")
def test_explain_passes_over_results_in_the_order_of_the_choice(store: Any) -> None:
    store(
        record(config={"chunk": 7}),
        record(backend="dice", numerics="deterministic"),
    )
    with seqpar.options(numerics="deterministic"):
        found = choice()
    assert found.config == ChunkedLoop(chunk=7)
    assert [what.partition("(")[0] for what in found.passed_over] == ["dice.chunked"]


def test_another_machine_is_none_of_ours(store: Any) -> None:
    other = dataclasses.replace(host_profile(), name="another chip")
    store(record(), profile=other)
    found = choice()
    assert found.provenance == "heuristic"
    assert "name another chip (here " in str(found.closest)


def test_compilers_of_the_same_minor_version_are_alike_and_named(store: Any) -> None:
    own = dict(host_profile().tools)["numba"]
    alike = own.rpartition(".")[0] + ".99"
    store(record(config={"chunk": 6}), profile=with_tools(numba=alike))
    found = choice()
    assert (found.provenance, found.config) == ("tuned", ChunkedLoop(chunk=6))
    assert f"with numba {alike} (here {own})" in str(found)
    store(record(config={"chunk": 5}))
    assert choice().config == ChunkedLoop(chunk=5)


def test_another_minor_version_of_a_compiler_is_a_miss(store: Any) -> None:
    store(record(), profile=with_tools(numba="0.1.0"))
    assert choice().provenance == "heuristic"
    assert any("numba 0.1.0" in what for what in choice().closest.differences)


def test_shipped_results_come_behind_the_users(store: Any, tmp_path: Path) -> None:
    table = tmp_path / "shipped" / "any-name"
    table.mkdir(parents=True)
    (table / "profile.json").write_text(json.dumps(with_tools(seqpar="9.9").to_dict()))
    (table / "linear_recurrence.x.jsonl").write_text(json.dumps(record(config={"chunk": 9})))
    invalidate()
    assert (choice().provenance, choice().config) == ("shipped", ChunkedLoop(chunk=9))
    store(record())
    assert (choice().provenance, choice().config) == ("tuned", ChunkedLoop(chunk=5))


def test_a_later_schema_is_passed_over_with_one_warning_that_names_versions(store: Any) -> None:
    store(record(schema=2), record(128, schema=2), record())
    with pytest.warns(RuntimeWarning, match=r"schema 2; this version reads schema 1") as told:
        assert choice().provenance == "tuned"
    assert len(told) == 1


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "null",
        '"text"',
        "{}",
        "\x00\xff",
        '{"schema": true}',
        json.dumps(record(problem=None)),
        json.dumps(record(config=3)),
        json.dumps(record(config={"chunk": {"a": 1}})),
        json.dumps(record(problem=record()["problem"] | {"outer": float("inf")})),
        json.dumps(record(problem=record()["problem"] | {"dtypes": [["float32"]]})),
        json.dumps(record(problem=record()["problem"] | {"options": [{}]})),
        json.dumps(record(noise=10**400)),
        json.dumps(record(vs_default="0.5")),
        json.dumps(record())[:-9],
        "[" * 100_000,
        "\0" * 512 + json.dumps(record()),
        "\ufeff" + json.dumps(record()),
    ],
    ids=lambda line: line[-30:],
)
def test_no_line_makes_a_call_fail(store: Any, line: str) -> None:
    store(record(), line)
    with pytest.warns(RuntimeWarning, match="line 2 of linear_recurrence.test.jsonl"):
        assert choice().provenance == "tuned"


def test_lines_that_windows_wrote_are_read(store: Any) -> None:
    store(json.dumps(record(chunk=3)) + "\r", json.dumps(record(128)) + "\r")
    assert [choice(time).provenance for time in (64, 128)] == ["tuned", "tuned"]


def test_only_what_says_so_outright_is_adopted(store: Any) -> None:
    store(record(adopted="false"), record(adopted=False, kept="false"), record(verdict="wrong"))
    assert choice().provenance == "heuristic"


def test_numbers_that_no_float_holds_are_far_away(store: Any) -> None:
    huge = record()
    huge["problem"] = huge["problem"] | {"outer": 10**400}
    store(huge, record(128, config={"chunk": 7}))
    assert choice(130).closest.row.sizes == (2, 128, 3)


def test_a_profile_that_nobody_can_read_is_none(store: Any, tmp_path: Path) -> None:
    store(record())
    for number, text in enumerate(("", "[1]", "[" * 100_000, '{"facts": 3}', "\0")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "profile.json").write_text(text)
        (tmp_path / str(number) / "linear_recurrence.a.jsonl").write_text(
            json.dumps(record(config={"chunk": 9}))
        )
    invalidate()
    assert choice().config == ChunkedLoop(chunk=5)


def test_files_that_were_put_together_while_they_were_read_are_read_again(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(record(), run="a")
    folder = tmp_path / host_profile().digest
    real = Path.read_bytes

    def slow(path: Path) -> bytes:
        if path.name == "linear_recurrence.a.jsonl" and path.exists():
            path.rename(folder / "linear_recurrence.b-pruned.jsonl")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", slow)
    assert choice().provenance == "tuned"


def test_what_another_thread_writes_during_a_look_up_is_not_overlooked(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(record())
    real = Path.read_bytes

    def slow(path: Path) -> bytes:
        data = real(path)
        if path.suffix == ".jsonl" and b'"chunk": 5' in data:
            store(record(config={"chunk": 7}))
        return data

    monkeypatch.setattr(Path, "read_bytes", slow)
    x = np.full((2, 64, 3), 0.5, np.float32)
    before = seqpar.linear_recurrence(x, x)
    assert (choice().provenance, choice().config) == ("tuned", ChunkedLoop(chunk=7))
    assert np.allclose(seqpar.linear_recurrence(x, x), before)


@pytest.mark.parametrize("what", ["directory", "link to nothing", "link to itself"])
def test_what_is_no_file_costs_nothing_of_the_others(store: Any, tmp_path: Path, what: str) -> None:
    store(record())
    path = tmp_path / host_profile().digest / "linear_recurrence.b.jsonl"
    if what == "directory":
        path.mkdir()
    else:
        path.symlink_to(path if what == "link to itself" else "nothing")
    with pytest.warns(RuntimeWarning, match=r"linear_recurrence\.b\.jsonl cannot be read"):
        assert choice().provenance == "tuned"


@pytest.mark.parametrize("config", [{"chunk": "many"}, {"chunk": [1, 2]}, {"chunk": -1}, {"chunk": 2.5}])
def test_values_that_are_none_of_a_knob_are_a_miss_that_explain_tells_of(
    store: Any, config: dict[str, Any]
) -> None:
    store(record(config=config))
    found = choice()
    assert found.provenance == "heuristic"
    assert "stored, and of no use: reference.chunked" in str(found)


def test_on_a_miss_explain_names_each_field_that_differs(store: Any) -> None:
    store(record(64), record(4096, config={"chunk": 32}))
    x = np.full((2, 5000, 3), 0.5)
    found = seqpar.explain(seqpar.linear_recurrence, x, x, reverse=True)
    assert found.closest.row.sizes == (2, 4096, 3)
    assert found.closest.differences == (
        "dtypes float32, float32, -, - (here float64, float64, -, -)",
        "options none (here reverse)",
        "time 4096 (here 5000)",
    )
    assert "closest stored result: reference.chunked(chunk=32)" in str(found)


def test_explain_tells_on_what_grounds_a_result_was_adopted(store: Any) -> None:
    store(record(vs_default=0.71, noise=0.006, when="2026-09-21T10:00:00Z"))
    assert "because: measured at 0.71 of the default's time, noise 0.6% on 2026-09-21" in str(choice())


def test_after_the_first_call_no_file_is_touched(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store(record())
    x = np.full((2, 64, 3), 0.5, np.float32)
    y = np.full((2, 65, 3), 0.5, np.float32)  # found and not found are kept alike
    first = [seqpar.linear_recurrence(x, x), seqpar.linear_recurrence(y, y)]
    problems = [choice(64).problem, choice(65).problem]

    def touched(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a file was touched")

    for name in ("open", "stat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, touched)
    monkeypatch.setattr("builtins.open", touched)
    monkeypatch.setattr(Path, "open", touched)
    monkeypatch.setattr(Path, "iterdir", touched)
    again = [seqpar.linear_recurrence(x, x), seqpar.linear_recurrence(y, y)]
    assert [choose(problem).provenance for problem in problems] == ["tuned", "heuristic"]
    monkeypatch.undo()
    assert all(np.array_equal(p, q) for p, q in zip(first, again, strict=True))


def test_without_a_store_neither_profile_nor_versions_are_asked_for(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "profile_for", lambda *of: pytest.fail("asked"))
    invalidate()
    x = np.full((2, 64, 3), 0.5, np.float32)
    seqpar.linear_recurrence(x, x)


def test_a_user_without_a_home_computes_all_the_same(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQPAR_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nowhere() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", nowhere)
    invalidate()
    assert choice().provenance == "heuristic"
    with pytest.raises(seqpar.errors.OptionError, match="SEQPAR_CACHE_DIR"):
        reading.user_directory()


def test_the_home_of_a_user_that_there_is_not_is_no_directory(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", "~no-such-user-here/results")
    invalidate()
    assert choice().provenance == "heuristic"
    with pytest.raises(seqpar.errors.OptionError, match="SEQPAR_CACHE_DIR"):
        reading.user_directory()


def test_results_for_a_gpu_are_read_by_its_own_profile(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card = HardwareProfile(
        device="cuda", name="card", facts=(("processors", 2),), tools=(("triton", "3.6.0"),)
    )
    given = record()
    given["problem"] |= {"device": "cuda", "framework": "torch"}
    store(given, record(config={"chunk": 9}), profile=card)
    monkeypatch.setattr(
        reading, "profile_for", lambda framework, device: card if device == "cuda" else host_profile()
    )
    problem = dataclasses.replace(choice().problem, framework="torch", device="cuda")
    assert [row.config for row in reading.lookup(problem)] == [{"chunk": 5}]
    assert list(reading.lookup(dataclasses.replace(problem, framework="jax"))) == []
