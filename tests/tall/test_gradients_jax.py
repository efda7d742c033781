"""Derivatives of `qr` and `lstsq` in JAX: both modes and orders, transforms, the program that reverse mode becomes."""

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import seqpar  # noqa: E402


def numbers(*shape: int, kind: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return jnp.asarray(x + 1j * rng.standard_normal(shape) if kind == "complex128" else x)


def positive(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng([seed, *shape]).uniform(0.5, 2, shape))


@jax.jit
def factors(a: Any) -> Any:
    return tuple(seqpar.qr(a))


@jax.jit
def r_alone(a: Any) -> Any:
    return seqpar.qr(a, mode="r")


@jax.jit
def of_jax(a: Any) -> Any:
    """JAX's own Q and R with R's diagonal made real and not negative."""
    q, r = jnp.linalg.qr(a)
    d = jnp.diagonal(r, axis1=-2, axis2=-1)
    sign = d / jnp.abs(d)
    return q * sign[..., None, :], sign.conj()[..., :, None] * r


@jax.jit
def fitted(a: Any, b: Any, ridge: Any, weights: Any) -> Any:
    fit = seqpar.lstsq(a, b, ridge=ridge, weights=weights)
    return fit.x, fit.residual_norm, fit.singular_values, fit.condition


@pytest.mark.parametrize("function", [factors, r_alone], ids=["qr", "r"])
def test_derivatives_are_differences(function: Any) -> None:
    # Real ones are differentiated twice below.
    check_grads(function, (numbers(6, 3, kind="complex128"),), order=1, modes=["fwd", "rev"])


def test_second_derivatives_are_differences() -> None:
    def together(a: Any) -> Any:
        return sum(jnp.sum(jnp.sin(x)) for x in (*factors(a), r_alone(a)))

    @jax.jit
    def gradient(a: Any) -> Any:
        return jax.grad(together)(a)

    check_grads(gradient, (numbers(2, 6, 3),), order=1, modes=["rev"])


def test_derivatives_of_wide_factors_are_differences() -> None:
    check_grads(factors, (numbers(2, 4, kind="complex128"),), order=1, modes=["fwd", "rev"])


def test_derivatives_of_least_squares_are_differences() -> None:
    given = numbers(6, 3, kind="complex128"), numbers(6, 2, kind="complex128"), positive(3), positive(6)
    check_grads(fitted, given, order=1, modes=["fwd", "rev"])


def test_second_derivatives_of_least_squares_are_differences() -> None:
    @jax.jit
    def gradient(*given: Any) -> Any:
        return jax.grad(
            lambda *given: sum(jnp.sum(jnp.sin(x)) for x in fitted(*given)), argnums=(0, 1, 2, 3)
        )(*given)

    given = numbers(6, 3), numbers(6, 2), positive(3), positive(6)
    check_grads(gradient, given, order=1, modes=["fwd"])


def test_derivatives_are_those_of_jaxs_own_factorisation() -> None:
    a, da, qbar = (numbers(2, 6, 3, kind="complex128", seed=i) for i in range(3))
    bars = qbar, numbers(2, 3, 3, kind="complex128", seed=3)

    def both(function: Any) -> Any:
        return jax.jit(lambda: (jax.jvp(function, [a], [da])[1], jax.vjp(function, a)[1](bars)))()

    for ours, theirs in zip(*map(jax.tree.leaves, (both(factors), both(of_jax))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_log_of_rs_diagonal_has_the_gradient_of_the_log_determinant() -> None:
    a = numbers(2, 6, 3)
    ours = jax.jit(jax.grad(lambda a: jnp.sum(jnp.log(jnp.diagonal(r_alone(a), axis1=-2, axis2=-1)))))(a)
    theirs = jax.jit(jax.grad(lambda a: jnp.sum(jnp.linalg.slogdet(a.mT @ a)[1]) / 2))(a)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_vmap_of_grad_is_grad_of_each() -> None:
    a, b = numbers(3, 6, 2), numbers(6)

    @jax.jit
    def gradient(a: Any) -> Any:
        return jax.grad(lambda a: jnp.sum(seqpar.qr(a).Q[:2]) + jnp.sum(seqpar.lstsq(a, b, ridge=0.5).x))(a)

    every = jax.jit(jax.vmap(gradient))(a)
    np.testing.assert_allclose(every, np.stack([gradient(x) for x in a]), rtol=1e-10, atol=1e-12)


def test_the_hessian_by_forward_over_reverse_is_that_by_reverse_over_forward() -> None:
    a = numbers(6, 3)

    def loss(a: Any) -> Any:
        return jnp.sum(jnp.sin(seqpar.qr(a, mode="r")))

    forward = jax.jit(jax.jacfwd(jax.jacrev(loss)))(a)
    np.testing.assert_allclose(forward, jax.jit(jax.jacrev(jax.jacfwd(loss)))(a), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(forward, jnp.permute_dims(forward, (2, 3, 0, 1)), rtol=1e-9, atol=1e-10)


def test_reverse_mode_of_r_alone_is_one_product_with_the_matrix() -> None:
    a = jnp.zeros((4096, 8), jnp.float32)

    jaxpr = jax.make_jaxpr(lambda a, bar: jax.vjp(r_alone.__wrapped__, a)[1](bar))(
        a, jnp.zeros((8, 8), jnp.float32)
    )
    lines = str(jaxpr).splitlines()
    # The factorisation itself once; nothing like it in what was transposed.
    assert sum(" r_factor[" in line for line in lines) == 1
    assert not any(" qr[" in line for line in lines)
    tall = [line for line in lines if " = dot_general[" in line and "4096" in line]
    assert len(tall) == 1


def test_every_product_of_a_derivative_asks_for_the_highest_precision() -> None:
    a, b = jnp.ones((64, 4), jnp.float32), jnp.ones((64, 2), jnp.float32)

    def loss(a: Any, b: Any) -> Any:
        fit = seqpar.lstsq(a, b, ridge=jnp.ones(4, jnp.float32), weights=jnp.ones(64, jnp.float32))
        through = [*seqpar.qr(a), seqpar.qr(a, mode="r"), fit.x, fit.residual_norm, fit.singular_values]
        return sum(jnp.sum(jnp.sin(x)) for x in through)

    text = jax.jit(jax.jacfwd(jax.grad(loss, argnums=(0, 1)))).lower(a, b).as_text()
    found = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(found) > 20
    low = [line for line in found if "HIGHEST" not in line]
    assert low == []


def test_a_singular_matrix_has_no_derivative_and_its_neighbour_has_one() -> None:
    a = numbers(2, 6, 3).at[1, :, 2].set(0)
    for function in (r_alone, factors):
        grad = jax.jit(jax.grad(lambda a, f=function: sum(jnp.sum(x) for x in jax.tree.leaves(f(a)))))(a)
        assert np.isfinite(grad[0]).all()
        assert np.isnan(grad[1]).all()


def test_least_norm_solutions_have_the_gradient_of_the_pseudo_inverse() -> None:
    left, right, b = numbers(6, 2), numbers(2, 3), numbers(6, seed=1)

    def loss(left: Any, right: Any) -> Any:
        return jnp.sum(jnp.sin(seqpar.lstsq(left @ right, b).x))

    def exact(left: Any, right: Any) -> Any:
        # pinv(L R) = R^T (R R^T)^-1 (L^T L)^-1 L^T for L of full column and R of full row rank.
        inner = jnp.linalg.solve(left.T @ left, left.T @ b)
        return jnp.sum(jnp.sin(right.T @ jnp.linalg.solve(right @ right.T, inner)))

    both = (jax.jit(jax.grad(f, argnums=(0, 1)))(left, right) for f in (loss, exact))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
