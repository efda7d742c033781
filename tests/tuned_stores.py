"""Stores for tests: a user's directory of its own, and problems and results to put into it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import store as reading
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import HardwareProfile, host_profile
from seqpar_autotune.rows import Record
from seqpar_autotune.store import Recorder

OTHER = HardwareProfile(
    device="cuda", name="Card 9", facts=(("processors", 2),), tools=(("triton", "3.6.0"),)
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of the user's store, empty; no shipped tables."""
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(reading, "TABLES", tmp_path / "shipped")
    monkeypatch.setattr(reading, "_told", set())
    reading.forget()
    yield tmp_path / "store"
    monkeypatch.undo()
    reading.forget()


def explained(time: int = 64) -> Any:
    x = np.full((2, time, 3), 0.5, np.float32)
    return seqpar.explain(seqpar.linear_recurrence, x, x)


def problem(time: int = 64, **changes: Any) -> Problem:
    found: Problem = dataclasses.replace(explained(time).problem, **changes)
    return found


def chunked(chunk: int = 5, **changes: Any) -> Record:
    given: dict[str, Any] = {"backend": "reference", "method": "chunked", "config": {"chunk": chunk}}
    return Record(**(given | {"seconds": (1e-6, 2e-6)} | changes))


def default(**changes: Any) -> Record:
    given: dict[str, Any] = {"backend": "host", "method": "sequential", "seconds": (3e-6,), "default": True}
    return Record(**(given | changes))


def recorder(time: int = 64, profile: HardwareProfile | None = None, **options: Any) -> Recorder:
    return Recorder("linear_recurrence", problem(time), profile or host_profile(), **options)


def written(*records: Record, time: int = 64, run: str = "a", profile: HardwareProfile | None = None) -> None:
    with recorder(time, profile, run=run) as one:
        for record in records:
            assert one.write(record)
    invalidate()
