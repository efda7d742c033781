"""The tables that come with seqpar: every row loads, its kernel can run it, and a call finds it."""

import json
from pathlib import Path

import pytest

from seqpar.dispatch import store
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.row import problem_of
from seqpar_autotune.cache_checks import verify
from seqpar_autotune.cache_contents import latest_decisions

TABLES = Path(store.__file__).parent / "tables"
SHIPPED = sorted(TABLES.glob("*/*.jsonl"))


def test_every_shipped_row_loads_and_its_kernel_can_run_it() -> None:
    if not TABLES.exists():
        assert SHIPPED == []
        return
    # What another version of the code measured is still a good choice; a kernel whose framework is not here cannot be asked.
    assert [str(found) for found in verify(TABLES) if not found.harmless] == []


def test_every_decision_is_reachable_on_the_hardware_it_was_measured_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "TABLES", TABLES)
    for folder in sorted({path.parent for path in SHIPPED}):
        profile = store.profile_in(folder)
        assert profile is not None, folder.name
        monkeypatch.setattr(store, "profile_for", lambda *of, profile=profile: profile)
        invalidate()
        decided = [path.name for path in sorted(folder.glob("*.jsonl")) if reachable(path)]
        assert decided, f"{folder.name} decides nothing: it is shipped for nothing"
    monkeypatch.undo()
    invalidate()


def reachable(path: Path) -> int:
    """How many decisions a file holds; that look-ups find them is asserted."""
    operation = path.name.partition(".")[0]
    decided = latest_decisions(line.record for line in store.lines(path)).values()
    for record in decided:
        found = next(store.lookup(problem_of(operation, record["problem"]), record["numerics"]), None)
        if record["kept"]:
            assert found is None, record
        else:
            assert found is not None and found.provenance == "shipped", record
            assert (found.backend, found.method) == (record["backend"], record["method"])
            assert json.loads(json.dumps(found.config)) == record["config"]
    return len(decided)


def test_tables_are_package_data() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["seqpar.dispatch"]
    package = Path(store.__file__).parent
    covered = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in TABLES.rglob("*") if path.is_file()} <= covered
    assert {"tables/*/*.jsonl", "tables/*/profile.json"} <= set(patterns)
