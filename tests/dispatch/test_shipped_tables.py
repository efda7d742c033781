"""The tables that come with seqpar: every row loads, its kernel can run it, and a call finds it."""

import json
from pathlib import Path

import pytest

from seqpar.dispatch import store
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.row import problem_of
from seqpar_autotune.cache_contents import latest_decisions, verify

TABLES = Path(store.__file__).parent / "tables"
SHIPPED = sorted(TABLES.glob("*/*.jsonl"))


def test_every_shipped_row_loads_and_its_kernel_can_run_it() -> None:
    if not TABLES.exists():
        assert SHIPPED == []
        return
    # What another version of the code measured is still a good choice; a kernel whose framework is not here cannot be asked.
    assert [str(found) for found in verify(TABLES) if not found.harmless] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in SHIPPED}), ids=lambda path: path.name)
def test_every_decision_is_reachable_on_the_hardware_it_was_measured_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = store.profile_in(folder)
    assert profile is not None
    monkeypatch.setattr(store, "TABLES", TABLES)
    monkeypatch.setattr(store, "profile_for", lambda framework, device: profile)
    invalidate()
    decided = 0
    try:
        for path in sorted(folder.glob("*.jsonl")):
            operation = path.name.partition(".")[0]
            records = [line.record for line in store.lines(path)]
            for record in latest_decisions(records).values():
                decided += 1
                found = next(store.lookup(problem_of(operation, record["problem"]), record["numerics"]), None)
                if record["adopted"]:
                    assert found is not None and (found.backend, found.method) == (
                        record["backend"],
                        record["method"],
                    )
                    assert json.loads(json.dumps(found.config)) == record["config"]
                else:
                    assert found is None, record
    finally:
        monkeypatch.undo()
        invalidate()
    assert decided, "a table that decides nothing is shipped for nothing"


def test_tables_are_package_data() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["seqpar.dispatch"]
    package = Path(store.__file__).parent
    covered = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in TABLES.rglob("*") if path.is_file()} <= covered
    assert {"tables/*/*.jsonl", "tables/*/profile.json"} <= set(patterns)
