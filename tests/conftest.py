"""Shared by all tests: JAX in 64-bit mode and quick to compile, hypothesis without deadlines, the ladder as a fixture."""

import importlib
import os
from collections.abc import Iterator
from importlib.util import find_spec

import hypothesis
import pytest

import quick_xla
from ladder import Rung, rungs

# On a GPU, JAX would take most of the memory that PyTorch and CuPy are tested in too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

hypothesis.settings.register_profile("seqpar", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("seqpar")

if find_spec("jax") is not None:
    importlib.import_module("jax").config.update("jax_enable_x64", True)

# XLA reads its flags once, when `rungs` starts it; processes that tests start have its defaults.
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", f"{quick_xla.LOOPS} {os.environ.get('XLA_FLAGS', '')}")
    on_gpu = any(rung.on_gpu for rung in rungs())

if not on_gpu:
    # Triton's kernels run in its interpreter; it looks when a kernel is defined.
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if find_spec("jax") is not None:
        # LLVM optimises nothing.
        importlib.import_module("jax").config.update("jax_disable_most_optimizations", True)

LADDER = [pytest.param(rung, marks=[pytest.mark.gpu] if rung.on_gpu else []) for rung in rungs()]


@pytest.fixture(autouse=True, scope="session")
def no_tuned_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Choices are those of a fresh installation, whatever this user has tuned and whatever tables are shipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQPAR_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        patch.setattr("seqpar.dispatch.store.TABLES", tmp_path_factory.mktemp("tables"))
        yield


@pytest.fixture(params=LADDER, ids=lambda rung: rung.value)
def rung(request: pytest.FixtureRequest) -> Rung:
    """Every array library at hand, one after the other."""
    return request.param
