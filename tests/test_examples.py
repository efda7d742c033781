"""The examples run, and show what they say."""

import math
import os
import re
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


def test_bucketed_training_in_two_processes_learns() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, str(EXAMPLES / "bucketed_training.py"), "--processes", "2"]
    command += ["--epochs", "3", "--samples", "400", "--buckets", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":  # a machine whose own name leads nowhere has this interface all the same
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    assert "3 buckets" in done.stdout
    losses = [
        float(loss) for loss in re.findall(r"^epoch \d: loss (\d\.\d+), right", done.stdout, re.MULTILINE)
    ]
    assert len(losses) == 3
    assert losses[2] < losses[0] < 2 * math.log(4)
