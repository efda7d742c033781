"""CuPy on a GPU: streams, strides, gradients through `seqpar.vjp`. NumPy stands in on the CPU."""

from typing import Any

import numpy as np
import pytest

import seqpar
import seqpar_host.compile
from places import CUPY, Place, over
from seqpar.testing import oracle
from seqpar.testing.linear_examples import LinearExample
from seqpar.testing.matrix_examples import MatrixExample

pytestmark = over(CUPY)


def numbers(seed: int, shape: tuple[int, ...] = (3, 301, 40)) -> Any:
    return LinearExample(shape=shape).numbers(seed, shape, "float32")


@pytest.mark.parametrize("memory", ["rows", "swapped", "transposed", "backwards", "gaps", "repeated"])
def test_arrays_keep_values_and_strides_on_their_way_to_the_device(memory: Any, place: Place) -> None:
    x = LinearExample(shape=(3, 4, 6), memory=memory).operands()[1]
    there = place.array(x)
    assert there.strides == x.strides
    assert np.array_equal(place.numpy(there), x)


def test_views_with_negative_strides_are_read_as_they_are(place: Place) -> None:
    own_a, own_b = numbers(1)[:, ::-1, ::-1], numbers(2)[::-1, ::-1]
    a, b = place.array(own_a), place.array(own_b)
    assert min(a.strides) < 0
    exact, bound = oracle.walk(own_a, own_b, axis=1), oracle.error_bound(own_a, own_b, axis=1)
    h = seqpar.linear_recurrence(a, b)
    assert type(h) is type(a)
    oracle.assert_within(place.numpy(h), exact[0], bound[0], "h")


def test_kernels_run_on_the_current_stream(place: Place) -> None:
    fresh = numbers(3), numbers(4)
    a, b = place.array(numbers(1)), place.array(numbers(2))
    new_a, new_b = (place.array(x) for x in fresh)
    seqpar.linear_recurrence(a, b)
    if place.on_gpu:
        place.module.cuda.Device().synchronize()
    with place.lingering():
        # Kernels on any other stream would read a and b before these copies.
        a[...], b[...] = new_a, new_b
        h = seqpar.linear_recurrence(a, b)
    exact, bound = oracle.walk(*fresh, axis=1), oracle.error_bound(*fresh, axis=1)
    oracle.assert_within(place.numpy(h), exact[0], bound[0], "h")


@pytest.mark.parametrize("shape", [(2, 257, 5), (1, 20_000, 2)], ids=str)
def test_pullbacks_agree_with_the_definition(shape: tuple[int, ...], place: Place) -> None:
    example = LinearExample(shape=shape, h0=True, g_final=False)
    a, b, h0, _, g = *example.operands(), example.backward_operands()[5]
    h, pull_back = seqpar.vjp(seqpar.linear_recurrence, *(place.array(x) for x in (a, b, h0)))
    own_h = place.numpy(h)
    oracle.assert_within(own_h, example.answers.exact[0], example.answers.bounds[0], "h")
    answers = example.backward_answers
    for name, x, exact, bound in zip(("da", "db", "dh0"), pull_back(place.array(g)), *answers, strict=True):
        # The definition starts from the exact states; these are rounded ones.
        oracle.assert_within(place.numpy(x), exact, 2 * bound, name)


def test_matrices_agree_with_the_definition(place: Place) -> None:
    for n in (1, 2, 3, 4, 8, 16, 17):
        example = MatrixExample(shape=(3, 70, n, 1))
        A, b = (place.array(x) for x in example.operands()[:2])
        h = seqpar.matrix_recurrence(A, b, columns=True)
        oracle.assert_within(place.numpy(h), example.answers.exact[0], example.answers.bounds[0], f"n = {n}")


def test_a_call_of_another_length_compiles_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = place.array(numbers(1)), place.array(numbers(2))
    first = seqpar.linear_recurrence(a, b)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled again")

    if place.on_gpu:
        monkeypatch.setattr(place.module.cuda.compiler, "_compile_module_with_cache", refuse)
    else:
        monkeypatch.setattr(seqpar_host.compile, "_compile", refuse)
    again = seqpar.linear_recurrence(a, b)
    shorter = seqpar.linear_recurrence(a[:, :300], b[:, :300])
    np.testing.assert_allclose(place.numpy(again), place.numpy(first), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(place.numpy(shorter), place.numpy(first)[:, :300], rtol=1e-4, atol=1e-5)
