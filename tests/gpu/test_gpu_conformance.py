"""The conformance suite on arrays of a GPU: our kernels for it, XLA's code, and the reference algorithms.

`test_conformance.py` runs the same suite on the CPU, and the GPU kernels themselves, interpreted, in the tests of their backends.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import pytest

import seqpar
from places import CUPY, EVERYWHERE, JAX, TORCH, Place
from seqpar import associative_scan_reference, linear_recurrence_reference, matrix_recurrence_reference
from seqpar.dispatch import registry
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend
from seqpar.testing import BackendConformance
from seqpar.testing.bucketing_examples import BucketExample
from seqpar.testing.cell_examples import CellExample, CellGradientsExample
from seqpar.testing.conformance import EXAMPLES
from seqpar.testing.examples import Example
from seqpar.testing.implicit_examples import PackedExample, ProductExample
from seqpar.testing.linear_examples import LinearExample
from seqpar.testing.matrix_examples import MatrixExample
from seqpar.testing.tall_examples import QRExample, RExample
from seqpar_cupy import ChunkedConfig as CudaSegments
from seqpar_triton import CellShootingConfig as TritonChunks
from seqpar_triton import WalkConfig as TritonSegments

REFERENCE = Backend(
    name="reference",
    version=seqpar.__version__,
    kernels=lambda: [
        *linear_recurrence_reference.KERNELS,
        *linear_recurrence_reference.BACKWARD_KERNELS,
        *matrix_recurrence_reference.KERNELS,
        *matrix_recurrence_reference.BACKWARD_KERNELS,
        *associative_scan_reference.KERNELS,
    ],
)


def backend_of(name: str) -> Backend:
    """A backend by its name; an empty one, at which the suite fails, if nobody brings it."""
    nothing: list[Kernel] = []
    return registry.backends().get(
        name, Backend(name=name, version=seqpar.__version__, kernels=lambda: nothing)
    )


class OnPlace(BackendConformance):
    """The suite on arrays of a place. Where there is no such place, each of its tests is one that skips and says so."""

    place: ClassVar[Place]
    needs: ClassVar[tuple[str, ...]] = ()
    """Modules besides the framework."""

    @classmethod
    def missing(cls) -> str | None:
        lacking = [name for name in cls.needs if find_spec(name) is None]
        return cls.place.missing() or (f"{lacking[0]} is not installed" if lacking else None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        why = self.missing()
        if why is None:
            super().pytest_generate_tests(metafunc)
            return
        names = [x for x in ("forward", "backward", "kernel", "example") if x in metafunc.fixturenames]
        if names:
            nothing = pytest.param(*[None] * len(names), marks=pytest.mark.skip(reason=why), id="nowhere")
            metafunc.parametrize(names, [nothing])

    @pytest.fixture(autouse=True)
    def _somewhere(self) -> None:
        if (why := self.missing()) is not None:
            pytest.skip(why)

    def array(self, x: Any) -> Any:
        return self.place.array(x)

    def numpy(self, x: Any) -> Any:
        return self.place.numpy(x)


@pytest.mark.gpu
class TestTritonOnTorch(OnPlace):
    place = TORCH[1]
    backend = backend_of("triton")


@pytest.mark.gpu
class TestTritonInSegmentsOnTorch(TestTritonOnTorch):
    """However short the sequences."""

    configs = (TritonSegments(segments=3), TritonChunks(chunk=16))

    def kernels(self) -> Sequence[Kernel]:
        return [kernel for kernel in super().kernels() if kernel.config in (TritonSegments, TritonChunks)]


@pytest.mark.gpu
class TestCudaOnCupy(OnPlace):
    place = CUPY[1]
    backend = backend_of("cupy")
    examples = [example for example in EXAMPLES if "bfloat16" not in str(example)]


@pytest.mark.gpu
class TestCudaInSegmentsOnCupy(TestCudaOnCupy):
    configs = (CudaSegments(segments=3),)

    def kernels(self) -> Sequence[Kernel]:
        return [kernel for kernel in super().kernels() if kernel.config is CudaSegments]


class OnJaxGpu(OnPlace):
    """Arrays of JAX have no strides."""

    place = JAX[1]
    examples = [example for example in EXAMPLES if example.memory == "rows"]


@pytest.mark.gpu
class TestTritonOnJax(OnJaxGpu):
    needs = ("jax_triton",)
    backend = backend_of("triton")

    def kernels(self) -> Sequence[Kernel]:
        return [kernel for kernel in super().kernels() if "cuda" in kernel.xla]


@pytest.mark.gpu
class TestXla(OnJaxGpu):
    """Every example compiles, for one to six seconds: each method gets its own part of them."""

    backend = backend_of("jax")

    def examples_of(self, kernel: Kernel) -> list[Example]:
        start = ("sequential", "chunked", "tree").index(kernel.method)
        return super().examples_of(kernel)[start::9]


class OfReference(OnPlace):
    """The algorithms are tested on the CPU; here, that they and their binding work with memory that is not the host's."""

    backend = REFERENCE

    def examples_of(self, kernel: Kernel) -> list[Example]:
        start = ("sequential", "chunked", "tree").index(kernel.method)
        return [x for x in super().examples_of(kernel)[start::9] if max(x.shape) < 300]


@pytest.mark.gpu
class TestReferenceOnTorch(OfReference):
    place = TORCH[1]


@pytest.mark.gpu
class TestReferenceOnCupy(OfReference):
    place = CUPY[1]
    examples = TestCudaOnCupy.examples


# --- the same on the CPU, so that what is above is known to work ----------------------------------------------------------


class TestTheSuiteOnTorch(OnPlace):
    place = TORCH[0]
    backend = backend_of("host")
    examples = [
        LinearExample(shape=(3, 40, 18), memory="gaps", h0=True),
        LinearExample(shape=(2, 64, 4), dtype="bfloat16", memory="backwards", h0=True),
        MatrixExample(shape=(2, 33, 3, 2), h0=True, resets=0.1),
        CellExample(shape=(2, 33, 5), resets=0.1),
        CellGradientsExample(shape=(2, 33, 5)),
        QRExample(shape=(2, 33, 5), memory="transposed"),
        RExample(shape=(2, 33, 5), right=1, weights=True, seed=True),
        PackedExample(shape=(2, 33, 5)),
        ProductExample(shape=(2, 33, 5), adjoint=True),
    ]

    def kernels(self) -> Sequence[Kernel]:
        """All but the search for buckets, which is given arrays of NumPy wherever the lengths are."""
        return [kernel for kernel in super().kernels() if kernel.operation != BucketExample.operation]


class TestTheSuiteOnJax(TestTheSuiteOnTorch):
    place = JAX[0]

    def kernels(self) -> Sequence[Kernel]:
        return [kernel for kernel in super().kernels() if kernel.xla]


def test_a_place_that_is_not_there_leaves_one_skipped_test_for_each() -> None:
    """What a machine without a GPU sees, whatever this one has."""

    class Nowhere(OnPlace):
        place = TORCH[0]
        needs = ("no_such_module",)

    calls: list[Any] = []

    class Asked:
        fixturenames = ("forward", "example")

        def parametrize(self, *given: Any) -> None:
            calls.append(given)

    Nowhere().pytest_generate_tests(Asked())  # type: ignore[arg-type]
    ((names, (only,)),) = calls
    assert names == ["forward", "example"]
    assert only.marks[0].kwargs["reason"] == "no_such_module is not installed"


@pytest.mark.parametrize("place", [p for p in EVERYWHERE if not p.on_gpu and not p.missing()], ids=str)
@pytest.mark.parametrize("memory", ["rows", "swapped", "transposed", "backwards", "gaps", "repeated"])
def test_arrays_keep_values_and_strides_on_their_way_to_a_place(place: Place, memory: Any) -> None:
    x = LinearExample(shape=(3, 4, 6), memory=memory).operands()[1]
    there = place.array(x)
    assert np.array_equal(place.numpy(there), x)
    if place.framework == "torch" and memory != "backwards":
        assert [x.itemsize * n for n in there.stride()] == list(x.strides)
