"""The conformance suite: what every kernel must do, whoever wrote it.

Each test forces one kernel on one example of its operation through the binding of the suite's arrays, and holds the answer
against `seqpar.testing.oracle`. An example that the kernel refuses is skipped with the kernel's reason; a kernel that refuses
all of them fails.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend
from seqpar.errors import NotEligibleError
from seqpar.testing import oracle
from seqpar.testing.bucketing_examples import BUCKET_EXAMPLES
from seqpar.testing.cell_examples import CELL_EXAMPLES
from seqpar.testing.examples import Array, Example
from seqpar.testing.implicit_examples import IMPLICIT_EXAMPLES
from seqpar.testing.linear_examples import LINEAR_EXAMPLES
from seqpar.testing.matrix_examples import MATRIX_EXAMPLES
from seqpar.testing.scan_examples import SCAN_EXAMPLES
from seqpar.testing.tall_examples import TALL_EXAMPLES

EXAMPLES: tuple[Example, ...] = (
    *LINEAR_EXAMPLES,
    *MATRIX_EXAMPLES,
    *SCAN_EXAMPLES,
    *CELL_EXAMPLES,
    *TALL_EXAMPLES,
    *IMPLICIT_EXAMPLES,
    *BUCKET_EXAMPLES,
)


class BackendConformance:
    """Subclass it, set `backend`, and let pytest collect the subclass.

    `array` and `numpy` convert between NumPy and the arrays the backend works on; NumPy itself by default. Let `array` keep
    the strides where the framework has strides. `configs` holds configs to run with instead of a method's own, for methods
    whose own does nothing on sequences of a thousand steps; `examples` what to run.
    """

    backend: ClassVar[Backend]
    configs: ClassVar[Sequence[Any]] = ()
    examples: ClassVar[Sequence[Example]] = EXAMPLES
    repeated: ClassVar[tuple[int, int, int]] = (16, 130, 5)
    """Batch, time and width of the example whose results must not change from call to call."""

    def array(self, x: Any) -> Any:
        """An array of the backend's framework."""
        return x

    def numpy(self, x: Any) -> Any:
        """The values of such an array."""
        return np.asarray(x)

    def kernels(self) -> Sequence[Kernel]:
        """The kernels under test: all that the backend has, unless a subclass picks some."""
        assert self.backend.kernels is not None, f"{self.backend.name} provides no kernels"
        return self.backend.kernels()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per kernel, forward, backward or either, and where it is asked for per example of its operation."""
        for role in ("forward", "backward", "kernel"):
            if role not in metafunc.fixturenames:
                continue
            wanted = {"forward": False, "backward": True}.get(role)
            kernels = [k for k in self.kernels() if wanted is None or self.is_backward(k) == wanted]
            names = [f"{kernel.operation}:{kernel.label}" for kernel in kernels]
            if "example" not in metafunc.fixturenames:
                metafunc.parametrize(role, kernels, ids=names)
                continue
            pairs = [(kernel, example) for kernel in kernels for example in self.examples_of(kernel)]
            names = [f"{kernel.operation}:{kernel.label}-{example}" for kernel, example in pairs]
            metafunc.parametrize((role, "example"), pairs, ids=names)

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        if self.backend.name in registry.backends():
            yield
            return
        registry.add_backend(self.backend)
        try:
            yield
        finally:
            registry.remove_backend(self.backend.name)

    # --- the tests ----------------------------------------------------------------------------------------------------

    def test_kernels_say_what_they_are(self) -> None:
        found = list(self.kernels())
        assert found, "a backend without kernels has nothing to conform"
        labels = [(kernel.operation, kernel.backend, kernel.method) for kernel in found]
        assert len(set(labels)) == len(labels), f"two kernels with one name: {labels}"
        names = self.backend.provides or (self.backend.name,)
        for kernel in found:
            assert self.examples_of(kernel), f"{kernel.label} computes an unknown {kernel.operation}"
            assert kernel.backend in names, (
                f"{kernel.label} is not reached by backend={kernel.backend!r}: see `provides`"
            )
            assert kernel.form in ("arrays", "buffers")
            assert kernel.summary, f"{kernel.label} has no line for the capability table"

    def test_no_kernel_refuses_everything(self, kernel: Kernel) -> None:
        reasons = []
        for example in self.examples_of(kernel):
            if 0 in example.shape or not example.plain:
                continue  # empty arrays reach no kernel, so they prove nothing
            try:
                self.force(kernel, example, self.operands(kernel, example))
                return
            except NotEligibleError as error:
                reasons.append(f"\n  {example}: {_refusal(kernel, error)}")
        raise AssertionError(f"{kernel.label} ({kernel.operation}) runs no example:{''.join(reasons)}")

    def test_states_agree_with_the_definition(self, forward: Kernel, example: Example) -> None:
        self.check(forward, self.run(forward, example), example)

    def test_gradients_agree_with_the_definition(self, backward: Kernel, example: Example) -> None:
        self.check(backward, self.run(backward, example), example)

    def test_repeated_calls_agree_to_the_bit_where_that_is_promised(self, kernel: Kernel) -> None:
        if not kernel.deterministic:
            pytest.skip(f"{kernel.label} does not promise it")
        batch, time, width = self.repeated
        example = self.example(kernel, batch=batch, time=time, width=width)
        first = [self.numpy(x).copy() for x in self.run(kernel, example)]
        for _ in range(3):
            for x, y in zip(first, self.run(kernel, example), strict=True):
                assert np.array_equal(x, self.numpy(y)), kernel.label

    @pytest.mark.parametrize("steps", [0, 1, 2])
    def test_results_are_fresh_memory(self, kernel: Kernel, steps: int) -> None:
        example = self.example(kernel, batch=2, time=steps, width=3)
        operands = self.operands(kernel, example)
        given = [self.numpy(x) for x in operands if x is not None]
        results = [self.numpy(x) for x in self.run(kernel, example, operands)]
        for i, result in enumerate(results):
            for other in (*given, *results[:i]):
                assert not np.shares_memory(result, other), kernel.label

    def test_operands_are_left_alone(self, kernel: Kernel) -> None:
        example = self.example(kernel, batch=2, time=33, width=5)
        operands = self.operands(kernel, example)
        before = [None if x is None else self.numpy(x).copy() for x in operands]
        self.run(kernel, example, operands)
        for x, y in zip(before, operands, strict=True):
            assert x is None or np.array_equal(x, self.numpy(y)), kernel.label

    def test_the_public_call_reaches_the_kernel(self, forward: Kernel) -> None:
        # Scans are no operation of arrays: their function is the caller's.
        known = operations.get(forward.operation)
        if known is not None and not known.wished_for:
            pytest.skip(f"no public call names a kernel of {forward.operation}: it follows from the operands")
        example = self.example(forward, batch=2, time=33, width=5)
        operands = self.operands(forward, example)
        self.run(forward, example, operands)
        function, given, options = example.public(operands)
        forced: dict[str, Any] = {"backend": forward.backend, "method": forward.method, **options}
        assert seqpar.explain(function, *given, **forced).choice.kernel.label == forward.label
        self.check(forward, example.results(function(*given, **forced)), example)

    # --- what they are made of ----------------------------------------------------------------------------------------

    def examples_of(self, kernel: Kernel) -> list[Example]:
        """The examples of the operation that a kernel computes, or whose backward pass it computes."""
        return [
            example
            for example in self.examples
            if kernel.operation == example.operation
            or (kernel.operation == example.fused_backward and example.plain)
        ]

    def example(self, kernel: Kernel, **fields: Any) -> Example:
        """An example for a kernel: batch, time, width, and fields that examples of its operation have."""
        return type(self.examples_of(kernel)[0]).of(**fields)

    def is_backward(self, kernel: Kernel) -> bool:
        """Does it compute the fused backward pass of another operation?"""
        return any(kernel.operation == example.fused_backward for example in self.examples)

    def operands(self, kernel: Kernel, example: Example) -> list[Array | None]:
        """The operands of an example for a kernel's operation, in the suite's framework."""
        given = example.backward_operands() if self.is_backward(kernel) else example.operands()
        return [None if x is None else self.array(x) for x in given]

    def force(self, kernel: Kernel, example: Example, operands: Sequence[Array | None]) -> Sequence[Array]:
        """Results of this kernel and no other."""
        config = next((config for config in self.configs if type(config) is kernel.config), None)
        wish = Request(method=kernel.method, backend=kernel.backend, config=config, source="explicit")
        return example.run(kernel, operands, wish)

    def run(
        self, kernel: Kernel, example: Example, operands: Sequence[Array | None] | None = None
    ) -> Sequence[Array]:
        """The same, or the end of the test where the kernel says that it cannot run the example."""
        try:
            return self.force(kernel, example, operands or self.operands(kernel, example))
        except NotEligibleError as error:
            pytest.skip(_refusal(kernel, error))

    def check(self, kernel: Kernel, results: Sequence[Array], example: Example) -> None:
        """Every result is within its bound."""
        backward = self.is_backward(kernel)
        answers = example.backward_answers if backward else example.answers
        found = example.compared([self.numpy(x) for x in results], backward)
        for name, actual, exact, bound in zip(example.names(backward), found, *answers, strict=True):
            oracle.assert_within(actual, exact, bound, f"{kernel.label} {name}")


def _refusal(kernel: Kernel, error: NotEligibleError) -> str:
    """The kernel's own reason among those of all kernels."""
    lines = [line.strip() for line in str(error).splitlines()]
    own = [line for line in lines if line.startswith(f"{kernel.label}: ")]
    assert own, f"{kernel.label} refuses and does not say why: {error}"
    return own[0]
