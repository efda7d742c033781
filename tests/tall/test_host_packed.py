"""Householder vectors as the host kernels pack them: products with Q, and that the definition reads what they write."""

import numpy as np
import pytest

import seqpar
from host_tall import factorise, multiply, pack
from host_xla import target
from seqpar.tall.implicit_operations import Product
from seqpar.tall.operations import Factorisation
from seqpar.tall.packed_householder import factorised, multiplied
from seqpar_host.tall_kernels import TallPacked, TallProduct
from tall.gallery import NAMES, matrices

# One block and several, one part and two, whole panels and not; columns of x in one strip and in several.
SHAPES = [(5, 3, 2), (16, 16, 16), (600, 33, 5), (300, 40, 100), (40_000, 9, 7), (700, 256, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_products_are_those_of_the_explicit_q(m, n, k, dtype):
    random = np.random.default_rng(0)
    a = random.standard_normal((2, m, n)).astype(dtype)
    q, right = factorise(a)
    packed, r = pack(a)
    assert np.array_equal(r, right)
    bound = 10 * n * np.finfo(dtype).eps
    x, z = (random.standard_normal((2, rows, k)).astype(dtype) for rows in (n, m))
    wide = q.astype(np.float64)
    for found, product, size in (
        (multiply(packed, x, m, False), wide @ x, np.linalg.norm(x, axis=-2)),
        (multiply(packed, z, m, True), wide.mT @ z, np.linalg.norm(z, axis=-2)),
    ):
        assert (np.linalg.norm(found - product, axis=-2) <= bound * size).all()


def test_the_product_with_the_identity_is_q_to_the_bit():
    a = np.random.default_rng(0).standard_normal((17_000, 33)).astype(np.float32)
    q, _ = factorise(a)
    assert np.array_equal(multiply(pack(a)[0], np.eye(33, dtype=np.float32), 17_000, False), q)


@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_of_the_gallery_keeps_lengths(name):
    a = matrices(600, 33)[name]
    packed, r = pack(a)
    x = np.random.default_rng(0).standard_normal((33, 4))
    y = multiply(packed, x, 600, False)
    assert np.allclose(y.T @ y, x.T @ x, rtol=0, atol=1e-11)
    assert np.allclose(multiply(packed, y, 600, True), x, rtol=0, atol=1e-12)
    assert np.allclose(multiply(packed, r, 600, False), a, rtol=0, atol=1e-12 * max(1, np.abs(a).max()))


@pytest.mark.parametrize(("m", "n"), [(5, 3), (40, 33), (600, 20)])
def test_the_definition_reads_what_the_kernel_packs_and_the_kernel_what_it_packs(m, n):
    random = np.random.default_rng(0)
    a = random.standard_normal((m, n))
    x, z = random.standard_normal((n, 3)), random.standard_normal((m, 3))
    (v, t, signs), _ = pack(a)
    by_kernel = (v, np.nan_to_num(t), signs)
    *by_definition, _ = factorised(np, a)
    for packed in (by_kernel, tuple(by_definition)):
        for given, adjoint in ((x, False), (z, True)):
            right = multiplied(np, *packed, given, m, adjoint)
            assert np.allclose(multiply(packed, given, m, adjoint), right, rtol=0, atol=1e-13 * n)


def test_a_number_that_is_none_spoils_products_with_its_own_q_alone():
    random = np.random.default_rng(0)
    a = random.standard_normal((3, 600, 20))
    a[1, 500, 3] = np.nan
    packed, _ = pack(a)
    y = multiply(packed, random.standard_normal((3, 20, 2)), 600, False)
    z = multiply(packed, random.standard_normal((3, 600, 2)), 600, True)
    for found in (y, z):
        assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()


def test_threads_change_no_bit_of_products(monkeypatch):
    monkeypatch.setattr("seqpar_host.tall_plan.THREAD_NANOSECONDS", 1)
    monkeypatch.setattr("seqpar_host.threads.usable_cores", lambda: 256)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    random = np.random.default_rng(0)
    a = random.standard_normal((2, 40_000, 20)).astype(np.float32)
    x, z = (random.standard_normal((2, rows, 70)).astype(np.float32) for rows in (20, 40_000))

    def run(threads):
        packed, r = pack(a, threads)
        # Records that a part does not need are not written.
        products = multiply(packed, x, 40_000, False, threads), multiply(packed, z, 40_000, True, threads)
        return packed[0], np.nan_to_num(packed[1]), packed[2], r, *products

    right = run(1)
    for threads in (2, 3, 50):
        assert all(np.array_equal(x, y) for x, y in zip(run(threads), right, strict=True))


def test_what_is_multiplied_may_have_any_strides_and_be_shared():
    random = np.random.default_rng(0)
    a = random.standard_normal((2, 600, 9))
    packed, _ = pack(a)
    x, z = random.standard_normal((1, 9, 5)), random.standard_normal((1, 600, 5))
    for given, adjoint in ((x, False), (z, True)):
        right = multiply(packed, np.repeat(given, 2, axis=0), 600, adjoint)
        for view in (given, np.asfortranarray(given), given[..., ::-1].copy()[..., ::-1]):
            assert np.array_equal(multiply(packed, view, 600, adjoint), right)


def test_jitted_results_are_those_of_numpy_to_the_bit():
    jax = pytest.importorskip("jax")
    random = np.random.default_rng(1)
    a, x = random.standard_normal((3, 300, 17)), random.standard_normal((3, 17, 2))
    (v, t, signs), r = pack(a)
    function, _ = target(TallPacked(), Factorisation(), [a], [v, t, signs, r, np.zeros(3, np.int32)])
    for actual, right in zip(jax.jit(function)(a)[:4], (v, t, signs, r), strict=True):
        assert np.array_equal(actual, right, equal_nan=True)
    y = multiply((v, t, signs), x, 300, False)
    operands = [None, None, v, t, signs, x]
    function, _ = target(TallProduct(), Product(False, 300, True), operands, [y])
    assert np.array_equal(jax.jit(function)(v, t, signs, x)[0], y)


def test_the_public_function_keeps_q_as_householder_vectors():
    random = np.random.default_rng(0)
    a = random.standard_normal((3, 600, 20))
    q = seqpar.qr(a, mode="implicit", backend="host")
    assert [x.shape for x in q.factors] == [x.shape for x in pack(a)[0]]
    assert np.array_equal(q.materialize(), factorise(a)[0])
    x = random.standard_normal((3, 600, 2))
    assert np.array_equal(q.apply_adjoint(x), multiply(pack(a)[0], x, 600, True))
