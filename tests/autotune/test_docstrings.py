"""The examples in the docstrings of what users of the tuner call, and of what stands behind it, run."""

import doctest
import importlib
from pathlib import Path

import pytest

from seqpar_autotune import tuner


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuner, "least_seconds", lambda workload: None)


@pytest.mark.parametrize("name", ["explicit", "limits", "recording", "report", "tuner"])
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"seqpar_autotune.{name}")
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted
    assert not failed
