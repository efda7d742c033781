"""What holds in every framework and on every device: kernels are chosen, and right on awkward memory and numbers."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import seqpar
from places import EVERYWHERE, Place, over
from seqpar.dispatch.choice import REFERENCE_RANK, choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import operations
from seqpar.testing import oracle
from seqpar.testing.linear_examples import LinearExample
from seqpar.testing.matrix_examples import MatrixExample
from seqpar.testing.recurrence_examples import RecurrenceExample

KERNELS = {"torch:cuda": "triton", "jax:gpu": "triton" if find_spec("jax_triton") else "xla", "cupy": "cuda"}
"""The backend that serves a place; on the CPU it is the host's. JAX has XLA's code only where jax-triton is not installed."""

pytestmark = over(EVERYWHERE)


def of_place(place: Place, *arrays: Any) -> list[Any]:
    return [place.array(x) for x in arrays]


def numbers(seed: int, shape: tuple[int, ...], dtype: str) -> Any:
    return LinearExample(shape=shape).numbers(seed, shape, dtype)


def skip_unless_known(place: Place, dtype: str) -> None:
    if place.framework in ("numpy", "cupy") and dtype == "bfloat16":
        pytest.skip("this framework has no bfloat16")


def check(place: Place, h: Any, a: Any, b: Any, axis: int, what: str, **options: Any) -> None:
    """The states are within their bound of the definition."""
    exact, bound = oracle.walk(a, b, axis=axis, **options), oracle.error_bound(a, b, axis=axis, **options)
    oracle.assert_within(place.numpy(h), exact[0], bound[0], what)


def ways(a: Any, b: Any, **options: Any) -> list[dict[str, Any]]:
    """The automatic choice, and what forces each kernel over raw memory that can run this call, save for interpreted ones."""
    choice = seqpar.explain(seqpar.linear_recurrence, a, b, **options).choice
    found = [c for c in choice.candidates if c.refusal is None and c.rank < REFERENCE_RANK]
    kernels = [c.kernel for c in found if c.kernel.form == "buffers"]
    return [{}, *({"backend": kernel.backend, "method": kernel.method} for kernel in kernels)]


# --- what is chosen -------------------------------------------------------------------------------------------------------


DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [LinearExample, MatrixExample], ids=lambda kind: kind.operation)
def test_a_call_that_asks_for_nothing_gets_a_kernel_forward_and_backward(
    kind: type[RecurrenceExample], dtype: str, place: Place
) -> None:
    skip_unless_known(place, dtype)
    example = kind.of(batch=4, time=512, width=8, dtype=dtype)
    rounds = (example.operation, example.operands()), (example.fused_backward, example.backward_operands())
    for name, operands in rounds:
        given = [place.array(x) for x in operands]
        binding = binding_for(type(given[0]))
        problem = problem_of(binding, operations[str(name)], example.walk, given)
        choice = choose(problem)
        assert choice.kernel.backend == KERNELS.get(str(place), "host"), str(choice)


# --- memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_odd_sizes_and_views_that_start_off_any_boundary_are_right(
    dtype: str, axis: int, place: Place
) -> None:
    skip_unless_known(place, dtype)
    views = [
        (slice(None), slice(None), slice(1, None)),
        (slice(1, None), slice(1, -1), slice(None)),
        (slice(None), slice(None, None, 2), slice(1, 6)),
    ]
    wide = [numbers(seed, (3, 67, 9), dtype) for seed in (1, 2)]
    for view in views:
        a, b = (place.array(x)[view] for x in wide)
        own_a, own_b = (x[view] for x in wide)
        for forced in ways(a, b, axis=axis):
            h = seqpar.linear_recurrence(a, b, axis=axis, **forced)
            check(place, h, own_a, own_b, axis, f"{forced} {view}")


@pytest.mark.parametrize("steps", [1, 2, 31, 33, 127, 128, 129, 1023, 4097])
def test_every_kernel_is_right_for_lengths_around_the_sizes_of_its_blocks(steps: int, place: Place) -> None:
    resets = np.random.default_rng(3).random((2, steps)) < 0.03
    own_a, own_b = numbers(1, (2, steps, 3), "float32"), numbers(2, (2, steps, 3), "float32")
    a, b, mask = of_place(place, own_a, own_b, resets)
    for forced in ways(a, b, resets=mask):
        for reverse in (False, True):
            options: dict[str, Any] = {"reverse": reverse}
            h = seqpar.linear_recurrence(a, b, resets=mask, **options, **forced)
            check(place, h, own_a, own_b, 1, f"{forced} {options}", resets=resets[..., None], **options)


@pytest.mark.parametrize("axis", [0, 1])
def test_offsets_beyond_2_to_the_31_are_right(axis: int, place: Place) -> None:
    """The end of a sequence that forgets within a hundred steps, against the definition on the end alone."""
    width, block, tail = 64, 4099, 300
    copies = 2**31 // (width * block) + 2 if place.on_gpu else 3
    needed = 2 * width * block * copies
    if place.on_gpu and place.free_bytes() < 6 * needed:
        pytest.skip(f"needs {6 * needed / 1e9:.0f} GB of free memory")
    shape = (block, width) if axis == 0 else (width, block)
    own_a, own_b = (
        numbers(1, (1, width) if axis == 0 else (width, 1), "float16"),
        numbers(2, shape, "float16"),
    )
    a, part = of_place(place, own_a / 2, own_b)
    xp = binding_for(type(part)).namespace(part)
    b = xp.tile(part, (copies, 1) if axis == 0 else (1, copies))
    if place.on_gpu and seqpar.explain(seqpar.linear_recurrence, a, b, axis=axis).backend == "xla":
        pytest.skip("XLA's code holds several copies of its operands")
    end = (slice(-tail, None), slice(None)) if axis == 0 else (slice(None), slice(-tail, None))
    for forced in ways(a, b, axis=axis):
        h = seqpar.linear_recurrence(a, b, axis=axis, **forced)
        late = (
            (slice(-tail + 150, None), slice(None)) if axis == 0 else (slice(None), slice(-tail + 150, None))
        )
        exact = oracle.walk(own_a / 2, own_b[end], axis=axis)[0]
        got = place.numpy(h[late])
        del h
        np.testing.assert_allclose(got, exact[end][late], rtol=2e-3, atol=1e-6, err_msg=str(forced))


def test_results_lie_where_the_operands_do_on_a_second_device_too(place: Place) -> None:
    """While another device is the current one."""
    where = type(place)(place.name, number=1)
    if where.missing():
        pytest.skip(f"one device: {where.missing()}")
    own_a, own_b = numbers(1, (2, 300, 5), "float32"), numbers(2, (2, 300, 5), "float32")
    a, b = of_place(where, own_a, own_b)
    h = seqpar.linear_recurrence(a, b)
    assert h.device == b.device
    check(where, h, own_a, own_b, 1, "second device")


# --- numbers --------------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_reaches_exactly_what_it_reaches_in_the_definition(place: Place) -> None:
    own_a, own_b = numbers(1, (2, 1031, 6), "float32"), numbers(2, (2, 1031, 6), "float32")
    own_b[0, 500, 1], own_b[0, 77, 2], own_a[1, 900, 3], own_a[1, 1030, 4] = np.nan, np.inf, np.nan, -np.inf
    resets = np.zeros((2, 1031), bool)
    resets[:, 1000] = True
    a, b, mask = of_place(place, own_a, own_b, resets)
    for forced in ways(a, b, resets=mask):
        h = seqpar.linear_recurrence(a, b, resets=mask, **forced)
        check(place, h, own_a, own_b, 1, str(forced), resets=resets[..., None])


def test_products_that_overflow_do_no_harm_where_the_states_are_finite(place: Place) -> None:
    own_a, own_b = np.full((1, 4096, 3), 3.0, "float32"), np.zeros((1, 4096, 3), "float32")
    a, b = of_place(place, own_a, own_b)
    for forced in ways(a, b):
        h = place.numpy(seqpar.linear_recurrence(a, b, **forced))
        assert not h.any(), forced


@pytest.mark.parametrize("shape", [(4, 4096, 96), (1, 20_000, 2), (3, 1, 5)], ids=str)
def test_kernels_that_promise_it_repeat_to_the_bit(shape: tuple[int, ...], place: Place) -> None:
    a, b = of_place(place, numbers(1, shape, "float32"), numbers(2, shape, "float32"))
    with seqpar.options(numerics="deterministic"):
        for forced in ways(a, b):
            first = place.numpy(seqpar.linear_recurrence(a, b, **forced)).copy()
            for _ in range(5 if place.on_gpu else 1):
                again = place.numpy(seqpar.linear_recurrence(a, b, **forced))
                assert np.array_equal(first, again), forced
