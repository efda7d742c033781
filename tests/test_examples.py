"""The examples run, and show what they say."""

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def kalman() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "kalman_filter.py"))


def test_the_kalman_filter_equals_the_sequential_one_on_every_framework(kalman: dict[str, Any]) -> None:
    found = kalman["differences"](2_000)
    assert set(found) == {name for name in ("numpy", "torch", "jax") if find_spec(name)}
    assert max(found.values()) < 1e-10


def test_the_kalman_filter_equals_the_sequential_one_over_100_000_steps(kalman: dict[str, Any]) -> None:
    assert kalman["differences"](only=("numpy",))["numpy"] < 1e-10


def test_the_difference_is_seen_where_the_filters_differ(
    kalman: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_observation_lost(model: Any, y: Any) -> Any:
        means, covariances = exact(model, y)
        means[-1] = means[-2]
        return means, covariances

    exact = kalman["filtered_step_by_step"]
    monkeypatch.setitem(kalman["differences"].__globals__, "filtered_step_by_step", last_observation_lost)
    assert kalman["differences"](50, only=("numpy",))["numpy"] > 1e-3


def test_the_command_prints_differences_and_times() -> None:
    command = [sys.executable, str(EXAMPLES / "kalman_filter.py"), "--steps", "40", "--only", "numpy"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "40 steps one after the other: 0." in text
    assert "numpy: associative_scan 0." in text
    assert "largest difference" in text
