"""Shared by all tests: JAX in 64-bit mode, hypothesis without deadlines, the ladder as a fixture."""

import importlib
import os
from importlib.util import find_spec

import hypothesis
import pytest

from ladder import Rung, rungs

# On a GPU, JAX would take most of the memory that PyTorch and CuPy are tested in too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

hypothesis.settings.register_profile("seqpar", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("seqpar")

if find_spec("jax") is not None:
    importlib.import_module("jax").config.update("jax_enable_x64", True)

# Where no GPU is, Triton's kernels run in its interpreter; it looks when a kernel is defined.
if not any(rung.on_gpu for rung in rungs()):
    os.environ.setdefault("TRITON_INTERPRET", "1")

LADDER = [pytest.param(rung, marks=[pytest.mark.gpu] if rung.on_gpu else []) for rung in rungs()]


@pytest.fixture(params=LADDER, ids=lambda rung: rung.value)
def rung(request: pytest.FixtureRequest) -> Rung:
    """Every array library at hand, one after the other."""
    return request.param
