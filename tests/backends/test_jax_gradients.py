"""Derivatives in JAX: every mode, order and option, against differences and against the recurrence written as a plain loop."""

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import seqpar  # noqa: E402
from jax_loop import LINEAR, RESETS, WALKS, Recurrence, each, made_for, name, numbers  # noqa: E402

Flags = dict[str, Any]

PARTS_OF_A = [np.s_[:], np.s_[:1], np.s_[:, :1], np.s_[0, 0], np.s_[:1, :1]]
PARTS = [(of, walk, part) for of, walk in WALKS for part in PARTS_OF_A]
PARTS += [
    (LINEAR, walk, part)
    for part in (np.s_[:, :, :1], np.s_[:, :1, :1])
    for walk in ({}, {"gate": "logit", "convex": True})
]


@pytest.mark.parametrize(
    ("of", "walk", "backend"),
    [(*w, "host") for w in WALKS] + [(*WALKS[i], "xla") for i in (3, 5, 7)],
    ids=name,
)
def test_gradients_equal_differences_to_second_order_in_both_modes(
    of: Recurrence, walk: Flags, backend: str
) -> None:
    def f(a: Any, b: Any, h0: Any) -> Any:
        a, b, h0 = map(jnp.asarray, (a, b, h0))
        return of.function(a, b, h0, resets=RESETS, return_final=True, backend=backend, **walk)

    check_grads(f, made_for(of, walk), order=2, modes=["fwd", "rev"])


def gradients(run: Any, resets: Any, walk: Flags, weights: Any = 1.0) -> Any:
    """All gradients of a loss that reads the states and the final one."""

    def loss(a: Any, b: Any, h0: Any) -> Any:
        h, final = run(a, b, h0, resets=resets, return_final=True, **walk)
        return jnp.real((weights * h**2).sum()) + jnp.abs(final**3).sum()

    return jax.grad(loss, argnums=(0, 1, 2))


def check(got: Any, expected: Any) -> None:
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("of", "walk", "part"), PARTS, ids=name)
def test_gradients_of_broadcast_operands_have_their_shape_and_value(
    of: Recurrence, walk: Flags, part: Any
) -> None:
    a, b, h0 = made_for(of, walk)
    given = a[part], b, h0[:1]
    expected = gradients(of.loop, RESETS, walk)(*given)
    check(jax.jit(gradients(of.function, RESETS, walk))(*given), expected)


@each
def test_gradients_of_values_that_broadcast_against_coefficients(of: Recurrence) -> None:
    a, b, h0 = of.make()
    for given in ((a, b[:1], h0), (a[:, :1], b[0], h0), (a, b[:, :1], h0[0])):
        expected = gradients(of.loop, RESETS[:1], {})(*given)
        check(gradients(of.function, RESETS[:1], {})(*given), expected)


@pytest.mark.parametrize("backend", ["host", "xla"])
@pytest.mark.parametrize(("of", "walk"), [w for w in WALKS if w[1].get("gate") != "logit"], ids=name)
def test_complex_gradients_equal_those_of_a_plain_loop(of: Recurrence, walk: Flags, backend: str) -> None:
    given = made_for(of, walk, dtype="complex128")
    weights = numbers(*given[1].shape, seed=3, dtype="complex128")
    expected = gradients(of.loop, RESETS, walk, weights)(*given)
    check(gradients(of.function, RESETS, {"backend": backend, **walk}, weights)(*given), expected)


@pytest.mark.parametrize(("of", "walk"), [WALKS[i] for i in (0, 3, 5, 7)], ids=name)
def test_hessians_by_every_pair_of_modes_agree_with_a_plain_loop(of: Recurrence, walk: Flags) -> None:
    a, b, h0 = made_for(of, walk, shape=(2, 4, 1 if of is LINEAR else 2))
    given, resets = (a[:1], b, h0), RESETS[:, :4]

    def loss(run: Any) -> Any:
        return lambda *x: sum((y**2).sum() for y in run(*x, resets=resets, return_final=True, **walk))

    every = (0, 1, 2)
    expected = jax.jit(jax.hessian(loss(of.loop), argnums=every))(*given)
    for outer, inner in (
        (jax.jacfwd, jax.jacrev),
        (jax.jacrev, jax.jacrev),
        (jax.jacrev, jax.jacfwd),
        (jax.jacfwd, jax.jacfwd),
    ):
        got = jax.jit(outer(inner(loss(of.function), argnums=every), argnums=every))(*given)
        check(got, expected)


@each
def test_the_gradient_at_a_reset_is_exactly_zero_even_after_nan(of: Recurrence) -> None:
    a, b, _ = of.make()
    b = b.at[0, 0].set(jnp.nan)
    for backend in ("host", "xla"):

        def loss(a: Any, b: Any, backend: str = backend) -> Any:
            return of.function(a, b, resets=RESETS, backend=backend)[0, 2:].sum()

        da, db = jax.grad(loss, argnums=(0, 1))(a, b)
        assert not np.asarray(da[0, 2]).any()
        assert np.isfinite(np.asarray(da[0, 2:])).all()
        assert np.isfinite(np.asarray(db)).all()


@each
def test_final_state_gradient_equals_that_of_the_last_row(of: Recurrence) -> None:
    def last(*given: Any) -> Any:
        return (of.function(*given)[:, -1] ** 2).sum()

    def final(*given: Any) -> Any:
        return (of.function(*given, return_final=True).final ** 2).sum()

    check(*(jax.grad(f, argnums=(0, 1, 2))(*of.make()) for f in (final, last)))


@each
def test_first_order_reverse_mode_is_one_fused_pass_that_keeps_no_b(of: Recurrence) -> None:
    a, b, _ = of.make(shape=(2, 5, 7))
    text = str(jax.make_jaxpr(jax.grad(lambda a, b: of.function(a, b).sum(), argnums=(0, 1)))(a, b))
    assert text.count(f"{of}_gradient[") == 1
    assert text.count(f"{of}[") == 1
    _, pull = jax.vjp(of.function, a, b)
    kept = [x.size for x in jax.tree.leaves(pull) if hasattr(x, "size")]
    assert sorted(n for n in kept if n > 4) == sorted((a.size, b.size)), (
        "of a, b and h only a and h are read again"
    )


@each
def test_a_loss_linear_in_b_needs_one_adjoint_walk_and_no_saved_states(of: Recurrence) -> None:
    a, b, _ = of.make(shape=(2, 5, 7))
    _, pull = jax.vjp(lambda b: of.function(a, b), b)
    kept = [x.size for x in jax.tree.leaves(pull) if hasattr(x, "size")]
    assert sum(kept) <= a.size
    (transposed,) = jax.linear_transpose(lambda b: of.function(a, b), b)(jnp.ones_like(b))
    np.testing.assert_allclose(transposed, pull(jnp.ones_like(b))[0], rtol=1e-12)


@each
def test_integer_and_boolean_operands_take_no_part_in_derivatives(of: Recurrence) -> None:
    a, b, _ = of.make()
    f = lambda a, b, r: of.function(a, b, resets=r)
    _, tangent = jax.jvp(f, (a, b, RESETS), (a, b, np.zeros(RESETS.shape, jax.dtypes.float0)))
    _, expected = jax.jvp(lambda a, b: f(a, b, RESETS), (a, b), (a, b))
    np.testing.assert_allclose(tangent, expected)
    grads = jax.grad(lambda *x: f(*x).sum(), argnums=(0, 2), allow_int=True)(a, b, RESETS)
    assert grads[1].dtype == jax.dtypes.float0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each
def test_half_precision_gradients_have_the_dtype_of_their_operand(of: Recurrence, dtype: str) -> None:
    a, b, h0 = of.make(dtype="float32")
    half = b.astype(dtype)
    loss = lambda a, b, h0: of.function(a, b, h0, resets=RESETS).astype(jnp.float32).sum()
    got = jax.grad(loss, argnums=(0, 1, 2))(a, half, h0)
    expected = jax.grad(loss, argnums=(0, 1, 2))(a, half.astype(jnp.float32), h0)
    assert [str(x.dtype) for x in got] == ["float32", dtype, "float32"]
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x.astype(jnp.float32), y, rtol=2e-2, atol=2e-2)


@each
def test_checkpoint_recomputes_and_changes_nothing(of: Recurrence) -> None:
    a, b, h0 = of.make()
    f = lambda a, b: (of.function(a, b, h0) ** 2).sum()
    check(*(jax.grad(g, argnums=(0, 1))(a, b) for g in (jax.checkpoint(f), f)))


@each
def test_vjp_of_the_public_call_is_jax_own(of: Recurrence) -> None:
    a, b, _ = of.make()
    h, pull = seqpar.vjp(of.function, a, b)
    expected = jax.grad(lambda a, b: of.function(a, b).sum(), argnums=(0, 1))(a, b)
    check(pull(jnp.ones_like(h)), expected)
