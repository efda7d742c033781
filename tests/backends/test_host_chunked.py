"""Time in chunks: the definition's results, whatever the chunk, and non-finite values where it has them."""

import numpy as np
import pytest

from host_memory import coefficients, launch, numbers, state_of, walk
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar_host import ChunkedConfig
from seqpar_host.kernels import Chunked

SHAPES = [((2, 61, 5), 1), ((2, 50, 37), 1), ((5, 143), 1), ((200,), 0), ((40, 20), 0), ((2, 33, 3, 7), 1)]


def chunked(spec, chunk, a, b, h0=None, resets=None, threads=None):
    shape = np.broadcast_shapes(a.shape, b.shape)
    h = np.full(shape, np.nan, b.dtype)
    final = np.full(without(shape, spec.axis), np.nan, state_of(b.dtype))
    launch(Chunked(), spec, [a, b, h0, resets, h, final], threads, ChunkedConfig(chunk=chunk))
    return h, final


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_chunks_of_any_length_equal_the_definition(dtype, shape, axis):
    random = np.random.default_rng(0)
    a, b = coefficients(random, shape, dtype, "value"), numbers(random, shape, dtype)
    h0 = numbers(random, without(shape, axis), state_of(b.dtype).name)
    resets = random.random(shape) < 0.05
    for chunk in (1, 7, 16, 50, 1000):
        for flags in ({}, {"reverse": True}, {"adjoint": True}, {"convex": True}):
            expected = oracle.walk(a, b, h0, resets, axis=axis, **flags)
            bounds = oracle.error_bound(a, b, h0, resets, axis=axis, roundings=16, **flags)
            for actual, right, bound in zip(
                chunked(Walk(axis, **flags), chunk, a, b, h0, resets), expected, bounds, strict=True
            ):
                oracle.assert_within(actual, right, bound)


def test_one_chunk_is_the_sequential_walk_to_the_bit():
    random = np.random.default_rng(1)
    a, b = coefficients(random, (3, 90), "float32", "logit"), numbers(random, (3, 90), "float32")
    for spec in (Walk(1, gate="logit"), Walk(1, gate="logit", reverse=True)):
        for x, y in zip(chunked(spec, 90, a, b), walk(spec, a, b), strict=True):
            assert np.array_equal(x, y)


def test_products_that_overflow_leave_finite_states_finite():
    a, b = np.full((2, 4096), 3, np.float32), np.zeros((2, 4096), np.float32)
    assert not chunked(Walk(1), 1024, a, b)[0].any()
    a = np.tile(np.array([1e30, 1e-30], np.float32), (2, 2048))
    one = np.ones(2, np.float32)
    h, _ = chunked(Walk(1), 1023, a, b, one)
    oracle.assert_within(h, oracle.walk(a, b, one, axis=1)[0], oracle.error_bound(a, b, one, axis=1)[0])
    # The local states of a chunk overflow, the states do not.
    a, b = np.full((2, 4096), 3, np.float64), np.full((2, 4096), -2, np.float64)
    assert np.array_equal(chunked(Walk(1), 1024, a, b, np.ones(2))[0], np.ones((2, 4096)))


def test_nothing_passes_a_reset_between_chunks():
    random = np.random.default_rng(2)
    a, b = coefficients(random, (2, 400), "float32", "value"), numbers(random, (2, 400), "float32")
    b[:, 10], a[:, 30] = np.nan, np.inf
    resets = np.zeros((2, 400), bool)
    resets[:, 333] = True
    h, final = chunked(Walk(1), 50, a, b, None, resets)
    right, last = walk(Walk(1), a, b, None, resets)
    assert np.array_equal(np.isfinite(h), np.isfinite(right))
    assert np.array_equal(h[:, 350:], right[:, 350:])
    assert np.array_equal(final, last)


def test_no_steps_and_empty_batches():
    x, h0 = np.zeros((3, 0), np.float32), np.arange(3, dtype=np.float32)
    assert np.array_equal(chunked(Walk(1), 8, x, x, h0)[1], h0)
    x = np.zeros((0, 40), np.float32)
    assert chunked(Walk(1), 8, x, x)[0].shape == (0, 40)
