"""Derivatives in JAX: every mode, order and option, against differences and against the recurrence written as a plain loop."""

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import seqpar  # noqa: E402

WALKS = [
    {},
    {"reverse": True},
    {"gate": "log"},
    {"gate": "logit", "convex": True},
    {"convex": True, "reverse": True},
]
PARTS_OF_A = [np.s_[:], np.s_[:1], np.s_[:, :1], np.s_[:, :, :1], np.s_[0, 0], np.s_[:, :1, :1]]


def name(x: Any) -> str:
    return " ".join(f"{k}={v}" for k, v in x.items()) or "plain" if isinstance(x, dict) else str(x)


def numbers(shape: tuple[int, ...], seed: int, dtype: str = "float64") -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if dtype.startswith("complex"):
        x = x + 1j * rng.normal(size=shape)
    return jnp.asarray(0.6 * x, dtype)


def problem(dtype: str = "float64") -> tuple[Any, Any, Any, Any]:
    resets = np.zeros((2, 5), bool)
    resets[0, 2] = resets[1, 0] = True
    return (
        numbers((2, 5, 3), 0, dtype),
        numbers((2, 5, 3), 1, dtype),
        numbers((2, 3), 2, dtype),
        jnp.asarray(resets),
    )


def loop(
    a: Any, b: Any, h0: Any, resets: Any, *, reverse: bool = False, gate: str = "value", convex: bool = False
) -> Any:
    """The definition on (batch, time, features), in plain JAX."""
    a, b = jnp.broadcast_arrays(a, b)
    c = {"value": lambda: a, "log": lambda: jnp.exp(a), "logit": lambda: jax.nn.sigmoid(a)}[gate]()
    u = (1 - c) * b if convex else b
    k, states = h0, {}
    for t in range(a.shape[1])[:: -1 if reverse else 1]:
        k = states[t] = jnp.where(resets[:, t, None], u[:, t], c[:, t] * k + u[:, t])
    return jnp.stack([states[t] for t in sorted(states)], 1), k


@pytest.mark.parametrize("backend", ["host", "xla"])
@pytest.mark.parametrize("walk", WALKS, ids=name)
def test_gradients_equal_differences_to_second_order_in_both_modes(
    walk: dict[str, Any], backend: str
) -> None:
    a, b, h0, resets = problem()

    def f(a: Any, b: Any, h0: Any) -> Any:
        a, b, h0 = map(jnp.asarray, (a, b, h0))
        return seqpar.linear_recurrence(a, b, h0, resets=resets, return_final=True, backend=backend, **walk)

    check_grads(f, (a, b, h0), order=2, modes=["fwd", "rev"])


@pytest.mark.parametrize("part", PARTS_OF_A, ids=str)
@pytest.mark.parametrize("walk", WALKS, ids=name)
def test_gradients_of_broadcast_operands_have_their_shape_and_value(walk: dict[str, Any], part: Any) -> None:
    a, b, h0, resets = problem()
    a, h0 = a[part], h0[:1]

    def loss(run: Any) -> Any:
        def of(a: Any, b: Any, h0: Any) -> Any:
            h, final = run(a, b, h0)
            return (h**2).sum() + (final**3).sum()

        return jax.grad(of, argnums=(0, 1, 2))

    options = {"resets": resets, "return_final": True, **walk}
    got = jax.jit(loss(lambda a, b, h0: seqpar.linear_recurrence(a, b, h0, **options)))(a, b, h0)
    expected = loss(lambda a, b, h0: loop(a, b, h0, resets, **walk))(a, b, h0)
    for x, y in zip(got, expected, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["host", "xla"])
@pytest.mark.parametrize("walk", [w for w in WALKS if w.get("gate") != "logit"], ids=name)
def test_complex_gradients_equal_those_of_a_plain_loop(walk: dict[str, Any], backend: str) -> None:
    a, b, h0, resets = problem("complex128")
    weights = numbers(b.shape, 3, "complex128")

    def loss(run: Any) -> Any:
        def of(a: Any, b: Any, h0: Any) -> Any:
            h, final = run(a, b, h0)
            return jnp.real((weights * h).sum()) + jnp.abs(final**2).sum()

        return jax.grad(of, argnums=(0, 1, 2))

    options = {"resets": resets, "return_final": True, "backend": backend, **walk}
    got = loss(lambda a, b, h0: seqpar.linear_recurrence(a, b, h0, **options))(a, b, h0)
    expected = loss(lambda a, b, h0: loop(a, b, h0, resets, **walk))(a, b, h0)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("walk", WALKS, ids=name)
def test_hessians_by_every_pair_of_modes_agree_with_a_plain_loop(walk: dict[str, Any]) -> None:
    a, b, h0, resets = problem()
    a, b, h0, resets = a[:, :4, :1], b[:, :4, :1], h0[:, :1], resets[:, :4]

    def loss(run: Any) -> Any:
        return lambda a, b, h0: sum((x**2).sum() for x in run(a, b, h0))

    mine = loss(lambda *x: seqpar.linear_recurrence(*x, resets=resets, return_final=True, **walk))
    expected = jax.tree.leaves(
        jax.hessian(loss(lambda *x: loop(*x, resets, **walk)), argnums=(0, 1, 2))(a, b, h0)
    )
    for outer, inner in (
        (jax.jacfwd, jax.jacrev),
        (jax.jacrev, jax.jacrev),
        (jax.jacrev, jax.jacfwd),
        (jax.jacfwd, jax.jacfwd),
    ):
        got = jax.tree.leaves(outer(inner(mine, argnums=(0, 1, 2)), argnums=(0, 1, 2))(a, b, h0))
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def test_the_gradient_at_a_reset_is_exactly_zero_even_after_nan() -> None:
    a, b, h0, resets = problem()
    b = b.at[0, 0].set(jnp.nan)
    da, db = jax.grad(
        lambda a, b: seqpar.linear_recurrence(a, b, resets=resets)[0, 2:].sum(), argnums=(0, 1)
    )(a, b)
    assert not np.asarray(da[0, 2]).any()
    assert np.isfinite(np.asarray(da[0, 2:])).all()
    assert np.isfinite(np.asarray(db)).all()


def test_final_state_gradient_equals_that_of_the_last_row() -> None:
    a, b, h0, _ = problem()

    def last(a: Any, b: Any, h0: Any) -> Any:
        return (seqpar.linear_recurrence(a, b, h0)[:, -1] ** 2).sum()

    def final(a: Any, b: Any, h0: Any) -> Any:
        return (seqpar.linear_recurrence(a, b, h0, return_final=True).final ** 2).sum()

    for x, y in zip(*(jax.grad(f, argnums=(0, 1, 2))(a, b, h0) for f in (last, final)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_first_order_reverse_mode_is_one_fused_pass_that_keeps_no_b() -> None:
    a, b, _, _ = problem()
    text = str(
        jax.make_jaxpr(jax.grad(lambda a, b: seqpar.linear_recurrence(a, b).sum(), argnums=(0, 1)))(a, b)
    )
    assert text.count("linear_recurrence_gradient[") == 1
    assert text.count("linear_recurrence[") == 1
    _, pull = jax.vjp(seqpar.linear_recurrence, a, b)
    kept = [x.shape for x in jax.tree.leaves(pull) if hasattr(x, "shape")]
    assert kept.count(a.shape) == 2, "of a, b and h only a and h are read again"


def test_a_loss_linear_in_b_needs_one_adjoint_walk_and_no_saved_states() -> None:
    a, b, _, _ = problem()
    _, pull = jax.vjp(lambda b: seqpar.linear_recurrence(a, b), b)
    assert [x.shape for x in jax.tree.leaves(pull) if hasattr(x, "shape")].count(a.shape) <= 1
    (transposed,) = jax.linear_transpose(lambda b: seqpar.linear_recurrence(a, b), b)(jnp.ones_like(b))
    np.testing.assert_allclose(transposed, pull(jnp.ones_like(b))[0], rtol=1e-12)


def test_integer_and_boolean_operands_take_no_part_in_derivatives() -> None:
    a, b, h0, resets = problem()
    f = lambda a, b, r: seqpar.linear_recurrence(a, b, resets=r)  # noqa: E731
    _, tangent = jax.jvp(f, (a, b, resets), (a, b, np.zeros(resets.shape, jax.dtypes.float0)))
    _, expected = jax.jvp(lambda a, b: f(a, b, resets), (a, b), (a, b))
    np.testing.assert_allclose(tangent, expected)
    grads = jax.grad(lambda *x: f(*x).sum(), argnums=(0, 2), allow_int=True)(a, b, resets)
    assert grads[1].dtype == jax.dtypes.float0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gradients_have_the_dtype_of_their_operand(dtype: str) -> None:
    a, b, h0, resets = problem("float32")
    half = b.astype(dtype)
    loss = lambda a, b, h0: seqpar.linear_recurrence(a, b, h0, resets=resets).astype(jnp.float32).sum()  # noqa: E731
    got = jax.grad(loss, argnums=(0, 1, 2))(a, half, h0)
    expected = jax.grad(loss, argnums=(0, 1, 2))(a, half.astype(jnp.float32), h0)
    assert [str(x.dtype) for x in got] == ["float32", dtype, "float32"]
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x.astype(jnp.float32), y, rtol=2e-2, atol=2e-2)


def test_checkpoint_recomputes_and_changes_nothing() -> None:
    a, b, h0, _ = problem()
    f = lambda a, b: (seqpar.linear_recurrence(a, b, h0) ** 2).sum()  # noqa: E731
    for x, y in zip(*(jax.grad(g, argnums=(0, 1))(a, b) for g in (f, jax.checkpoint(f))), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_vjp_of_the_public_call_is_jax_own() -> None:
    a, b, _, _ = problem()
    h, pull = seqpar.vjp(seqpar.linear_recurrence, a, b)
    grads = pull(jnp.ones_like(h))
    expected = jax.grad(lambda a, b: seqpar.linear_recurrence(a, b).sum(), argnums=(0, 1))(a, b)
    for x, y in zip(grads, expected, strict=True):
        np.testing.assert_allclose(x, y)
