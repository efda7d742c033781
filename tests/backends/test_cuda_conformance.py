"""The shipped suite on the CUDA kernels, compiled for the host: the same source, the same plan, NumPy memory."""

from collections.abc import Sequence
from typing import ClassVar

import pytest

import seqpar
from cuda_emulator import EmulatedRuntime, compiler
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend
from seqpar.testing import BackendConformance
from seqpar_cupy import ChunkedConfig
from seqpar_cupy.kernels import kernels

RUNTIME = EmulatedRuntime()


@pytest.fixture(autouse=True)
def _compiler() -> None:
    compiler()


class TestEmulated(BackendConformance):
    backend: ClassVar[Backend] = Backend(
        name="emulated", version=seqpar.__version__, kernels=lambda: kernels(RUNTIME), provides=("cuda",)
    )
    configs = (ChunkedConfig(segments=3),)

    def kernels(self) -> Sequence[Kernel]:
        return kernels(RUNTIME)
