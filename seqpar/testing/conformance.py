"""The conformance suite: what every kernel must do, whoever wrote it.

Each test forces one kernel of the backend under test through the public call, on problems it does not refuse, and holds
the answer against `seqpar.testing.oracle`.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend
from seqpar.errors import NotEligibleError
from seqpar.testing import oracle

Options = dict[str, Any]

PROBLEMS: list[tuple[tuple[int, ...], str, Options]] = [
    ((2, 33, 5), "float32", {}),
    ((2, 33, 5), "float64", {"reverse": True}),
    ((3, 257, 17), "float32", {"resets": 0.05}),
    ((3, 257, 17), "float32", {"resets": 0.05, "reverse": True, "h0": True}),
    ((2, 40, 3), "float64", {"gate": "log"}),
    ((2, 40, 3), "float32", {"gate": "log", "convex": True}),
    ((2, 40, 3), "float32", {"gate": "logit", "convex": True, "h0": True}),
    ((2, 40, 3), "float64", {"convex": True, "resets": 0.2}),
    ((7, 101), "float32", {"axis": -1}),
    ((101, 2, 7), "float64", {"axis": 0, "h0": True}),
    ((1, 1, 1), "float64", {"h0": True}),
    ((2, 64, 4), "complex64", {}),
    ((2, 64, 4), "complex128", {"h0": True, "reverse": True}),
    ((2, 64, 4), "float16", {"h0": True}),
]


class BackendConformance:
    """Subclass it, set `backend`, and let pytest collect the subclass.

    `array` and `numpy` convert between NumPy and the arrays the backend works on; NumPy itself by default.
    """

    backend: ClassVar[Backend]

    def array(self, x: Any) -> Any:
        """An array of the backend's framework."""
        return x

    def numpy(self, x: Any) -> Any:
        """The values of such an array."""
        return np.asarray(x)

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

    def kernels(self, operation: str) -> list[Kernel]:
        """The backend's kernels of one operation."""
        assert self.backend.kernels is not None, f"{self.backend.name} provides no kernels"
        return [kernel for kernel in self.backend.kernels() if kernel.operation == operation]

    def test_kernels_say_what_they_are(self) -> None:
        assert self.backend.kernels is not None
        found = list(self.backend.kernels())
        assert found, "a backend without kernels has nothing to conform"
        labels = [(kernel.operation, kernel.backend, kernel.method) for kernel in found]
        assert len(set(labels)) == len(labels), f"two kernels with one name: {labels}"
        names = self.backend.provides or (self.backend.name,)
        for kernel in found:
            assert kernel.backend in names, (
                f"{kernel.label} is not reached by backend={kernel.backend!r}: see `provides`"
            )
            assert kernel.form in ("arrays", "buffers")
            assert kernel.summary, f"{kernel.label} has no line for the capability table"

    @pytest.mark.parametrize(("shape", "dtype", "options"), PROBLEMS, ids=str)
    def test_states_agree_with_the_definition(
        self, shape: tuple[int, ...], dtype: str, options: Options
    ) -> None:
        for kernel in self.kernels("linear_recurrence"):
            case = _Case(self, shape, dtype, options)
            result = case.run(kernel)
            if result is None:
                continue
            exact, bound = (
                oracle.walk(*case.canonical, **case.walk),
                oracle.error_bound(*case.canonical, **case.walk),
            )
            for name, actual, expected, most in zip(("h", "final"), result, exact, bound, strict=True):
                oracle.assert_within(self.numpy(actual), expected, most, f"{kernel.label} {name}")

    @pytest.mark.parametrize(("shape", "dtype", "options"), PROBLEMS, ids=str)
    def test_gradients_agree_with_the_definition(
        self, shape: tuple[int, ...], dtype: str, options: Options
    ) -> None:
        for kernel in self.kernels("linear_recurrence_backward"):
            case = _Case(self, shape, dtype, options)
            walk = self.kernels("linear_recurrence")
            if not walk or case.run(walk[0]) is None or dtype.startswith("complex"):
                continue
            given = dict(case.options, return_final=True, backend=kernel.backend)
            primals = (*case.operands, case.h0) if case.h0 is not None else case.operands
            result, pullback = seqpar.vjp(seqpar.linear_recurrence, *primals, **given)
            g = case.random(shape, dtype, 7)
            g_final = case.random(case.stateless, "float32" if dtype == "float16" else dtype, 8)
            grads = pullback(type(result)(self.array(g), self.array(g_final)))
            h = self.numpy(result.h)
            exact = oracle.backward(*case.canonical, h, g, g_final, **_without_adjoint(case.walk))
            bound = oracle.backward_error_bound(*case.canonical, g, g_final, **_without_adjoint(case.walk))
            names = ("da", "db", "dh0")[: len(grads)]
            for name, actual, expected, most in zip(names, grads, exact, bound, strict=False):
                oracle.assert_within(self.numpy(actual), expected, most, f"{kernel.label} {name}")

    def test_a_reset_stops_nan(self) -> None:
        for kernel in self.kernels("linear_recurrence"):
            case = _Case(self, (2, 50, 3), "float32", {"resets": 0.1}, spoil=True)
            result = case.run(kernel)
            if result is None:
                continue
            expected = oracle.walk(*case.canonical, **case.walk)[0]
            assert np.isfinite(self.numpy(result[0])[np.isfinite(expected)]).all(), kernel.label

    def test_repeated_calls_agree_to_the_bit_where_that_is_promised(self) -> None:
        for kernel in self.kernels("linear_recurrence"):
            case = _Case(self, (4, 300, 33), "float32", {})
            first = case.run(kernel)
            if first is None or not kernel.deterministic:
                continue
            for _ in range(3):
                again = case.run(kernel)
                assert again is not None and np.array_equal(self.numpy(first[0]), self.numpy(again[0])), (
                    kernel.label
                )

    def test_results_are_fresh_memory(self) -> None:
        for kernel in self.kernels("linear_recurrence"):
            for steps in (1, 2):
                case = _Case(self, (2, steps, 3), "float32", {"h0": True})
                result = case.run(kernel)
                if result is None or not isinstance(result[0], np.ndarray):
                    continue
                arrays = [*case.operands, case.h0, *result]
                for i, x in enumerate(arrays):
                    assert not any(np.shares_memory(x, y) for y in arrays[max(i + 1, 3) :]), kernel.label


class _Case:
    """One problem: operands in the backend's framework, and as the oracle takes them."""

    def __init__(
        self,
        suite: BackendConformance,
        shape: tuple[int, ...],
        dtype: str,
        options: Options,
        *,
        spoil: bool = False,
    ) -> None:
        options = dict(options)
        self.axis = options.get("axis", -2) % len(shape)
        self.stateless = shape[: self.axis] + shape[self.axis + 1 :]
        a, b = self.random(shape, dtype, 1), self.random(shape, dtype, 2)
        if options.get("gate") == "log":
            a = a - a.dtype.type(1)
        rate = options.pop("resets", None)
        feature = self.axis != len(shape) - 1
        masked = shape[:-1] if feature else shape
        resets = None if rate is None else np.random.default_rng(3).random(masked) < rate
        if spoil:
            b[:, 2], a[:, 5] = np.nan, np.inf
        h0 = (
            self.random(self.stateless, "float32" if dtype == "float16" else dtype, 4)
            if options.pop("h0", 0)
            else None
        )
        self.operands = (suite.array(a), suite.array(b))
        self.h0 = None if h0 is None else suite.array(h0)
        self.options = options | ({} if resets is None else {"resets": suite.array(resets)})
        self.canonical = (a, b, h0, resets[..., None] if resets is not None and feature else resets)
        self.walk = {k: v for k, v in options.items() if k != "axis"} | {"axis": self.axis}

    @staticmethod
    def random(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
        rng = np.random.default_rng([seed, *shape])
        x = rng.uniform(-1, 1, shape)
        return (x * np.exp(1j * rng.uniform(0, 6.28, shape)) if dtype.startswith("complex") else x).astype(
            dtype
        )

    def run(self, kernel: Kernel) -> tuple[Any, Any] | None:
        """Results of this kernel, or None where it says that it cannot run the problem."""
        try:
            result = seqpar.linear_recurrence(
                *self.operands,
                self.h0,
                return_final=True,
                backend=kernel.backend,
                method=kernel.method,
                **self.options,
            )
        except NotEligibleError as error:
            assert f"{kernel.label}: " in str(error), "a refusal must say why"
            return None
        return result.h, result.final


def _without_adjoint(walk: Options) -> Options:
    return {k: v for k, v in walk.items() if k != "adjoint"}
