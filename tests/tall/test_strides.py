"""Operands in any order of memory: the host kernels make of them what they make of row-major ones, to the bit."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

import seqpar
from host_memory import launch
from host_tall import factorise, pack, triangle
from ladder import Rung
from seqpar.tall.implicit_operations import Product
from seqpar_host.tall_kernels import TallProduct

RNG = np.random.default_rng(0)


def orders(x: Any) -> Any:
    """x with its axes in memory in every order, with gaps, reversed, and repeated where it may be."""
    for order in itertools.permutations(range(x.ndim)):
        back = np.argsort(order)
        yield np.ascontiguousarray(x.transpose(order)).transpose(back)
    for axis in range(x.ndim):
        wide = np.full([2 * n if i == axis else n for i, n in enumerate(x.shape)], np.nan, x.dtype)
        half = wide[(slice(None),) * axis + (slice(None, None, 2),)]
        half[...] = x
        yield half
        yield np.flip(np.ascontiguousarray(np.flip(x, axis)), axis)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("shape", [(3, 40, 5), (2, 300, 18), (3, 6, 6), (2, 600, 1), (4, 1, 1)], ids=str)
def test_matrices_in_any_order_have_the_same_factors(shape: tuple[int, ...], dtype: str) -> None:
    a = RNG.standard_normal(shape).astype(dtype)
    right = factorise(a)
    for given in orders(a):
        assert all(np.array_equal(x, y) for x, y in zip(factorise(given), right, strict=True))
        if dtype == "float32":
            packed, r = pack(given)
            assert np.array_equal(r, pack(a)[1])
            assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(packed, pack(a)[0], strict=True))


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_a_triangle_honours_the_strides_of_every_operand(dtype: str) -> None:
    a, b, seed = (RNG.standard_normal((2, *s)).astype(dtype) for s in ((300, 4), (300, 2), (6, 6)))
    weights = RNG.uniform(size=(2, 300)).astype(a.real.dtype)
    given = {"a": a, "b": b, "weights": weights, "seed": seed}
    right = triangle(**given)
    for name, x in given.items():
        for other in orders(x):
            assert np.array_equal(triangle(**{**given, name: other}), right), (name, other.strides)


@pytest.mark.parametrize(("m", "n"), [(13, 13), (300, 3), (17_000, 20), (20, 1)])
def test_products_honour_the_strides_of_every_factor_and_of_what_is_multiplied(m: int, n: int) -> None:
    q = seqpar.qr(RNG.standard_normal((2, m, n)), mode="implicit", backend="host")
    for x, product in (
        (RNG.standard_normal((2, n, 3)), "apply"),
        (RNG.standard_normal((2, m, 3)), "apply_adjoint"),
    ):
        right = getattr(q, product)(x)
        for other in orders(x):
            assert np.array_equal(getattr(q, product)(other), right)
        for i, factor in enumerate(q.factors):
            for other in orders(factor) if factor.size < 10_000 else (np.asfortranarray(factor),):
                turned = dataclasses.replace(q, factors=(*q.factors[:i], other, *q.factors[i + 1 :]))
                assert np.array_equal(getattr(turned, product)(x), right), (i, other.strides)


def test_the_kernel_of_products_refuses_factors_that_it_would_misread() -> None:
    (v, t, signs), _ = pack(RNG.standard_normal((300, 4)))
    x, y = np.ones((4, 1)), np.empty((300, 1))
    with pytest.raises(ValueError, match="row-major"):
        launch(TallProduct(), Product(False, 300, True), [None, None, np.asfortranarray(v), t, signs, x, y])


def test_what_the_definition_packs_is_multiplied_by_the_kernel() -> None:
    a = RNG.standard_normal((13, 13))
    q = seqpar.qr(a, mode="implicit", backend="reference")
    # One square block: NumPy leaves what it concatenates of it by columns.
    assert q.factors[0].flags.c_contiguous
    assert np.allclose(q.apply(q.R), a, rtol=0, atol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    "rung", [r for r in (Rung.TORCH, Rung.JAX) if r.available()], ids=lambda rung: rung.value
)
def test_vmap_along_any_axis_of_the_factors_is_a_loop(rung: Rung, axis: int) -> None:
    import importlib

    a = RNG.standard_normal((4, 300, 3))
    framework = importlib.import_module(rung.value)
    vmap = framework.vmap

    def moved(x: Any) -> Any:
        if rung is Rung.JAX:
            return framework.numpy.moveaxis(x, 0, axis if x.ndim > axis else 0)
        return x.movedim(0, axis).contiguous()

    given = rung.array(a)
    q = vmap(lambda a: seqpar.qr(a, mode="implicit"))(given)
    leaves = [moved(x) for x in (q.R, *q.factors)]

    def around(r: Any, *factors: Any) -> Any:
        one = dataclasses.replace(seqpar.qr(given[0], mode="implicit"), R=r, factors=factors, origin=None)
        y = one.apply(r)
        return y, one.apply_adjoint(y)

    y, z = vmap(around, axis)(*leaves)
    assert np.allclose(rung.numpy(y), a, rtol=0, atol=1e-13)
    assert np.allclose(rung.numpy(z), rung.numpy(q.R), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("mode", "method"),
    [(mode, method) for mode in ("reduced", "r", "implicit") for method in ("auto", "tsqr", "native")]
    + [("reduced", "cholesky"), ("r", "cholesky")],
)
def test_bytes_in_the_other_order_or_at_odd_addresses_are_read_and_not_handed_on(
    mode: str, method: str
) -> None:
    def factors(a: Any) -> Any:
        found = seqpar.qr(a, mode=mode, method=method)
        return (found,) if mode == "r" else found if mode == "reduced" else (found.R, *found.factors)

    a = RNG.standard_normal((300, 4))
    bytes_ = np.empty(a.nbytes + 1, np.uint8)
    odd = bytes_[1:].view("f8").reshape(a.shape)
    odd[...] = a
    for given in (a.astype(a.dtype.newbyteorder("S")), odd):
        for x, y in zip(factors(given), factors(a), strict=True):
            assert x.dtype.isnative and np.array_equal(x, y, equal_nan=True)
