"""The kernels as jax-triton is given them, compiled for a GPU that need not be there, by Triton alone and by jax-triton."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
pytest.importorskip("jax")

TESTS = Path(__file__).parents[1]
COUNTS = ("wide_copies", "copies", "loads", "wide_loads", "stores", "wide_stores", "shuffles", "barriers")


def lines(*command: str) -> list[dict[str, Any]]:
    """What a script prints in a process whose Triton compiles: with the interpreter it cannot."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *command], cwd=TESTS, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_machine_code_is_that_of_a_launch() -> None:
    """The kernel around each kernel costs nothing, and no integer that is 1, or beyond 32 bits, is in the way."""
    ours = lines("triton_cubins.py", "triton_jax_programs", "90")
    theirs = lines("triton_cubins.py", "triton_jax_programs", "90", "--as-jax-triton")
    assert len({line["kernel"] for line in theirs}) >= 12
    for x, y in zip(ours, theirs, strict=True):
        assert (x["program"], x["kernel"]) == (y["program"], y["kernel"])
        assert y["spilled_bytes"] <= x["spilled_bytes"]
        if "one" not in x["program"].split():  # where integers are constants some code falls away
            assert {key: y[key] for key in COUNTS} == {key: x[key] for key in COUNTS}, x


def test_a_program_for_a_gpu_consists_of_kernels() -> None:
    """Through jax-triton itself, whatever the call: it lowers for a GPU where none is, if JAX has support for them."""
    if find_spec("jax_triton") is None:
        pytest.skip("jax-triton is not installed: pip install jax-triton")
    if not hasattr(import_module("jaxlib.gpu_triton"), "TritonKernel"):
        pytest.skip("this JAX knows no GPUs: pip install jax-cuda13-plugin, of the version of jaxlib")
    programs = lines("triton_jax_programs.py")
    assert len(programs) == 6
    for program in programs:
        assert program["kernels"] >= 1, program
        assert not program["loops"], program
