"""The shipped suite on our own kernels, and on a toy backend as a third party would write it."""

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar import associative_scan_reference, linear_recurrence_reference, matrix_recurrence_reference
from seqpar.buckets import kernels as bucket_kernels
from seqpar.dispatch import registry
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.dispatch.registry import Backend
from seqpar.linear_recurrence_operation import BACKWARD
from seqpar.tall import framework_kernels, implicit_kernels
from seqpar.testing import BackendConformance
from seqpar.testing.conformance import EXAMPLES
from seqpar.testing.examples import Example
from seqpar.testing.linear_examples import LinearExample
from seqpar.testing.matrix_examples import MatrixExample
from seqpar_host.configs import ChunkedConfig

REFERENCE = [
    kernel
    for module in (linear_recurrence_reference, matrix_recurrence_reference)
    for kernel in (*module.KERNELS, *module.BACKWARD_KERNELS)
] + [*associative_scan_reference.KERNELS, *bucket_kernels.KERNELS]


class ToyWalk(Kernel):
    """A loop over time, for plain walks over NumPy arrays."""

    operation = "linear_recurrence"
    backend = "toy"
    method = "sequential"
    form = "arrays"
    summary = "a loop, as an example"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "numpy":
            return "works on NumPy arrays"
        odd = [word for word in problem.options if word not in ("h0", "reverse", "broadcast")]
        return f"knows nothing of {', '.join(odd)}" if odd else None

    def rank(self, problem: Problem) -> float:
        return 50.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        a, b, h0, _ = operands
        shape = np.broadcast_shapes(a.shape, b.shape)
        state = np.float32 if b.dtype.itemsize == 2 else b.dtype
        c, u = (np.moveaxis(np.broadcast_to(x, shape), spec.axis, 0).astype(state) for x in (a, b))
        h = np.empty(u.shape, state)
        k = np.zeros(u.shape[1:], state) if h0 is None else np.broadcast_to(h0, u.shape[1:]).copy()
        for t in range(len(u))[:: -1 if spec.reverse else 1]:
            h[t] = k = c[t] * k + u[t]
        return np.moveaxis(h, 0, spec.axis).astype(b.dtype), k


class ToyBackward(Kernel):
    """The backward pass by the rules of the operation."""

    operation = "linear_recurrence_backward"
    backend = "toy"
    method = "sequential"
    form = "arrays"
    summary = "the rules, as an example"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 50.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return BACKWARD.by_rules(xp, spec, operands)


def toy_backend(*kinds: type[Kernel]) -> Backend:
    return Backend(
        name="toy", version="1.0", kernels=lambda: [kind() for kind in kinds or (ToyWalk, ToyBackward)]
    )


class TestToy(BackendConformance):
    backend = toy_backend()


class TestReference(BackendConformance):
    backend = Backend(name="reference", version=seqpar.__version__, kernels=lambda: REFERENCE)


class TestFramework(BackendConformance):
    """What a framework's own linear algebra computes, and the same in the standard alone."""

    backend = Backend(
        name="framework",
        version=seqpar.__version__,
        # Packed vectors have a definition, which the suite itself goes by.
        kernels=lambda: [
            *framework_kernels.KERNELS,
            *(kernel for kernel in implicit_kernels.KERNELS if kernel.backend == "framework"),
        ],
        provides=("framework", "reference"),
    )


class TestHost(BackendConformance):
    backend = registry.backends()["host"]
    configs = (ChunkedConfig(chunk=16),)


if find_spec("torch") is not None:

    class TestHostOnTorch(TestHost):
        def kernels(self) -> Sequence[Kernel]:
            # Buckets are planned on NumPy arrays, whatever the lengths came in.
            return [kernel for kernel in super().kernels() if kernel.operation != "plan_buckets"]

        def array(self, x: Any) -> Any:
            if x.dtype.name == "bfloat16":
                return self.array(x.view(np.int16)).view(self.torch.bfloat16)
            # Tensors have no negative strides.
            return self.torch.from_numpy(
                x if min(x.strides, default=0) >= 0 and x.flags.writeable else x.copy()
            )

        def numpy(self, x: Any) -> Any:
            return (x.float() if x.dtype == self.torch.bfloat16 else x).numpy()

        @property
        def torch(self) -> Any:
            return importlib.import_module("torch")


if find_spec("jax") is not None:

    class OnJax(BackendConformance):
        """Arrays of JAX on the CPU, also where there is a GPU. They have no strides."""

        examples = [example for example in EXAMPLES if example.memory == "rows"]

        def array(self, x: Any) -> Any:
            jax = importlib.import_module("jax")
            return jax.device_put(x, jax.devices("cpu")[0])

    class TestXla(OnJax):
        """Every example compiles, for one to six seconds: few have matrices, and the parallel methods share them out."""

        backend = registry.backends()["jax"]
        examples = [
            *(example for example in OnJax.examples if not isinstance(example, MatrixExample)),
            MatrixExample(shape=(2, 33, 3, 2), h0=True, resets=0.1),
            MatrixExample(shape=(2, 33, 3, 1), dtype="float64", reverse=True, transposed=True),
            MatrixExample(shape=(3, 20, 2, 1), narrow={"A": (1, 1, 2, 2)}, resets=0.1),
            MatrixExample(shape=(3, 20, 2, 1), narrow={"A": (1, 20, 2, 2), "b": (3, 1, 2, 1)}, g_final=False),
            MatrixExample(shape=(2, 20, 3, 1), dtype="complex64", h0=True),
            MatrixExample(shape=(20, 2, 2, 1), axis=0, dtype="bfloat16", dtype_a="float32", h0=True),
            MatrixExample(shape=(2, 50, 3, 1), resets=0.1, h0=True, spoiled=True),
            MatrixExample(shape=(1, 4096, 2, 1), growing=True, h0=True),
            MatrixExample(shape=(2, 20, 17, 1)),
            MatrixExample(shape=(2, 0, 3, 1), h0=True),
            MatrixExample(shape=(2, 4, 0, 1), h0=True),
            MatrixExample(shape=(2, 20, 3, 2), adjoint=True, transposed=True, resets=0.1, h0=True),
            MatrixExample(shape=(2, 20, 3, 1), dtype="complex64", adjoint=True, reverse=True, h0=True),
        ]

        def examples_of(self, kernel: Kernel) -> list[Example]:
            part = {"chunked": slice(0, None, 2), "tree": slice(1, None, 2)}.get(kernel.method, slice(None))
            return super().examples_of(kernel)[part]

    class TestHostOnJax(OnJax):
        backend = registry.backends()["host"]

        def kernels(self) -> Sequence[Kernel]:
            return [kernel for kernel in super().kernels() if kernel.xla]


# --- the suite itself ---------------------------------------------------------------------------------------------------


class Wrong(ToyWalk):
    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        h, final = super().run(xp, spec, config, operands)
        return h * (1 + 1e-4), final


class Forgetful(ToyWalk):
    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return super().run(xp, spec, config, (*operands[:2], None, None))


class WrongBackward(ToyBackward):
    method = "chunked"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        da, db, dh0 = super().run(xp, spec, config, operands)
        return da, db, dh0 * (1 + 1e-4)


class WrongWay(Kernel):
    """Reads matrices by columns where they lie in rows."""

    operation = "matrix_recurrence"
    backend = "toy"
    method = "sequential"
    form = "arrays"
    summary = "a transposition too many"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        walk = spec._replace(transposed=not spec.transposed)
        return matrix_recurrence_reference.KERNELS[0].run(xp, walk, config, operands)


class Unwilling(ToyWalk):
    def refuses(self, problem: Problem, config: Any) -> str | None:
        return "would rather not"


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> Iterator[BackendConformance]:
    """The suite for a toy backend with the kernels that the test names."""
    found = BackendConformance()
    found.backend = toy_backend(*request.param)  # type: ignore[misc]
    registry.add_backend(found.backend)
    yield found
    registry.remove_backend("toy")


EXAMPLE = LinearExample(shape=(101, 2, 7), dtype="float64", axis=0, h0=True)


@pytest.mark.parametrize("suite", [(Wrong,), (Forgetful,), (WrongWay,)], indirect=True)
def test_the_suite_catches_a_broken_kernel(suite: BackendConformance) -> None:
    (kernel,) = suite.kernels()
    example = suite.example(kernel, batch=2, time=101, width=7, dtype="float64")
    with pytest.raises(AssertionError, match=r"toy\.sequential h"):
        suite.test_states_agree_with_the_definition(kernel, example)


@pytest.mark.parametrize("suite", [(ToyBackward, WrongBackward)], indirect=True)
def test_the_suite_runs_the_backward_kernel_that_it_names(suite: BackendConformance) -> None:
    right, wrong = suite.kernels()
    suite.test_gradients_agree_with_the_definition(right, EXAMPLE)
    with pytest.raises(AssertionError, match=r"toy\.chunked dh0"):
        suite.test_gradients_agree_with_the_definition(wrong, EXAMPLE)


@pytest.mark.parametrize("suite", [(Unwilling,)], indirect=True)
def test_the_suite_fails_a_kernel_that_refuses_everything(suite: BackendConformance) -> None:
    with pytest.raises(AssertionError, match=r"toy\.sequential .* runs no example:\n.*: would rather not"):
        suite.test_no_kernel_refuses_everything(suite.kernels()[0])
    with pytest.raises(pytest.skip.Exception, match=r"toy\.sequential: would rather not"):
        suite.test_states_agree_with_the_definition(suite.kernels()[0], EXAMPLE)


# --- how backends are found -----------------------------------------------------------------------------------------------


def test_a_backend_added_by_hand_takes_part_in_choices_until_it_is_removed() -> None:
    x = np.full((2, 5, 3), 0.5)
    registry.add_backend(toy_backend())
    try:
        assert seqpar.explain(seqpar.linear_recurrence, x, x, backend="toy").method == "sequential"
        assert seqpar.explain(seqpar.linear_recurrence, x, x).backend == "host"
        with pytest.raises(seqpar.errors.NotEligibleError, match="toy.sequential: knows nothing of convex"):
            seqpar.linear_recurrence(x, x, convex=True, backend="toy")
    finally:
        registry.remove_backend("toy")
    with pytest.raises(seqpar.errors.OptionError, match="backend='toy' is not one of"):
        seqpar.linear_recurrence(x, x, backend="toy")


def distribution(folder: Path, name: str, entry: str) -> None:
    """Make an installed distribution, as `pip` leaves it, whose one entry point is a backend."""
    info = folder / f"{name}_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[seqpar.backends]\n{name} = {entry}\n")


def run_with(path: list[Path], script: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=environment, cwd=path[0])


def test_a_backend_of_another_distribution_is_found_through_its_entry_point(tmp_path: Path) -> None:
    distribution(tmp_path, "toy", "test_conformance:toy_backend")
    script = """
        import numpy as np, seqpar
        x = np.full((2, 5, 3), 0.5)
        assert seqpar.explain(seqpar.linear_recurrence, x, x, backend="toy").choice.kernel.label == "toy.sequential"
        assert np.allclose(seqpar.linear_recurrence(x, x, backend="toy"), seqpar.linear_recurrence(x, x))
    """
    run_with([tmp_path, Path(__file__).parent], script)


def test_a_backend_that_does_not_load_is_one_warning_and_no_failure(tmp_path: Path) -> None:
    distribution(tmp_path, "bad", "no_such_module:backend")
    script = """
        import warnings, numpy as np, seqpar
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                seqpar.linear_recurrence(np.full(3, 0.5), np.ones(3))
        assert [w for w in caught if "'bad' (no_such_module:backend) does not load" in str(w.message)], caught
        assert len(caught) == 1, caught
    """
    run_with([tmp_path], script)
