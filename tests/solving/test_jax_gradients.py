"""Derivatives of solved recurrences in JAX: those of a loop, for every way of taking them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import seqpar  # noqa: E402
from seqpar.solving.configs import ShootingConfig  # noqa: E402

Array = Any
CHUNKS = {"method": "shooting", "config": ShootingConfig(chunk=24)}
METHODS = [CHUNKS, {"method": "sequential"}]
methods = pytest.mark.parametrize("options", METHODS, ids=lambda o: o["method"])


def step(params: Any, h: Array, x: Any) -> Array:
    return 0.4 * h + jnp.tanh(h @ params["u"] + x["a"] @ params["w"]) * x["b"]


def loop(step: Any, x: Any, h0: Array, params: Any, resets: Array | None = None) -> Array:
    """(batch, steps, n), as JAX differentiates it by itself."""
    times = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (x, resets))

    def at(h: Array, here: Any) -> tuple[Array, Array]:
        x, reset = here
        h = h if reset is None else jnp.where(reset[:, None], h0, h)
        h = step(params, h, x)
        return h, h

    return jnp.moveaxis(lax.scan(at, h0, times)[1], 0, 1)


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    x = np.random.default_rng([seed, *shape]).normal(size=(2, *shape))
    return jnp.asarray(x[0] + 1j * x[1] if dtype.startswith("complex") else x[0], dtype)


def problem(batch: int = 2, steps: int = 100, n: int = 3, dtype: str = "float64") -> tuple[Any, Array, Any]:
    x = {"a": numbers(batch, steps, 2, dtype=dtype), "b": numbers(batch, steps, 1, seed=1, dtype=dtype)}
    params = {"u": 0.3 * numbers(n, n, seed=2, dtype=dtype), "w": numbers(2, n, seed=3, dtype=dtype)}
    return x, numbers(batch, n, seed=4, dtype=dtype), params


def loss(states: Array) -> Array:
    weights = jnp.cos(jnp.arange(states.size)).reshape(states.shape)
    return jnp.sum(weights * jnp.abs(states) ** 2) + jnp.sum(jnp.abs(states[:, -1]) ** 3)


def losses(options: Any, **more: Any) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Of x, h0 and params: by the solver, and by the loop."""
    return (
        lambda *args: loss(seqpar.recurrence(step, *args, **options, **more)),
        lambda *args: loss(loop(step, *args, **more)),
    )


def same(mine: Any, theirs: Any, rtol: float = 1e-8) -> None:
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1.0, float(jnp.max(jnp.abs(b)))))


EVERY = (0, 1, 2)


@methods
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_gradients_are_those_of_the_loop(options: Any, jit: bool) -> None:
    mine, theirs = (jax.grad(f, EVERY) for f in losses(options))
    same((jax.jit(mine) if jit else mine)(*problem()), theirs(*problem()))


@methods
def test_resets_send_gradients_to_h0(options: Any) -> None:
    resets = jnp.asarray(np.random.default_rng(0).random((2, 100)) < 0.1).at[0, 0].set(True)
    mine, theirs = (jax.grad(f, EVERY) for f in losses(options, resets=resets))
    same(mine(*problem()), theirs(*problem()))


@methods
def test_forward_mode_is_that_of_the_loop(options: Any) -> None:
    args = problem()
    moves = jax.tree.map(jnp.cos, args)
    mine, theirs = losses(options)
    same(jax.jvp(mine, args, moves), jax.jvp(theirs, args, moves))
    same(jax.linearize(mine, *args)[1](*moves), jax.jvp(theirs, args, moves)[1])


@methods
def test_second_derivatives_are_those_of_the_loop(options: Any) -> None:
    args, moves = problem(1, 60), jax.tree.map(jnp.sin, problem(1, 60))
    for nested in (
        lambda f: jax.grad(lambda *a: jax.jvp(f, a, moves)[1], EVERY),
        lambda f: lambda *a: jax.jvp(jax.grad(f, EVERY), a, moves)[1],
        lambda f: jax.grad(
            lambda *a: sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(f, EVERY)(*a), moves))))
        ),
    ):
        mine, theirs = map(nested, losses(options))
        same(jax.jit(mine)(*args), theirs(*args))


@methods
def test_hessian_is_that_of_the_loop(options: Any) -> None:
    x, h0, params = problem(1, 40, 2)
    mine, theirs = (jax.hessian(lambda u, f=f: f(x, h0, params | {"u": u})) for f in losses(options))
    same(mine(params["u"]), theirs(params["u"]))


@methods
def test_vmap_over_everything_or_a_part(options: Any) -> None:
    args = problem()
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, 0.1 * a]), args)
    mine, theirs = (jax.value_and_grad(f, EVERY) for f in losses(options))
    same(jax.vmap(mine)(*many), jax.vmap(theirs)(*many))
    for axes in ((0, None, None), (None, 0, None), (None, None, 0)):
        given = [m if axis == 0 else a for m, a, axis in zip(many, args, axes, strict=True)]
        same(jax.vmap(mine, axes)(*given), jax.vmap(theirs, axes)(*given))


@methods
def test_what_a_step_closes_over_is_differentiated(options: Any) -> None:
    x, h0, params = problem()

    def through(solve: Any) -> Any:
        return jax.grad(lambda p: loss(solve(lambda _, h, x: step(p, h, x), x, h0, None)))

    mine = through(lambda *a: seqpar.recurrence(*a, **options))
    theirs = through(loop)(params)
    same(mine(params), theirs)
    same(jax.jit(mine)(params), theirs)


@methods
def test_complex_gradients_are_those_of_the_loop(options: Any) -> None:
    args = problem(dtype="complex128")
    for f, g in (losses(options),):
        same(jax.grad(f, EVERY)(*args), jax.grad(g, EVERY)(*args))


def test_checkpointed_solutions_have_the_same_gradients() -> None:
    mine, theirs = losses(CHUNKS)
    same(jax.grad(jax.checkpoint(mine), EVERY)(*problem()), jax.grad(theirs, EVERY)(*problem()))


def test_integer_inputs_and_parameters_that_are_no_arrays_are_left_alone() -> None:
    def step(params: Any, h: Array, x: Any) -> Array:
        table, name, power = params
        assert name == "tanh"
        return jnp.tanh(table[x[..., 0]] + 0.3 * h) ** power

    x = jnp.asarray(np.random.default_rng(0).integers(0, 5, (2, 100, 1)))
    table, h0 = numbers(5, 3), numbers(2, 3)

    def of(solve: Any) -> Any:
        return jax.grad(lambda table, h0: loss(solve(step, x, h0, (table, "tanh", 3))), (0, 1))

    same(of(lambda *a: seqpar.recurrence(*a, **CHUNKS))(table, h0), of(loop)(table, h0))


def test_a_guess_has_no_gradient() -> None:
    x, h0, params = problem()

    def of(guess: Array) -> Array:
        return loss(seqpar.recurrence(step, x, h0, params, guess=guess, **CHUNKS))

    assert not jnp.any(jax.grad(of)(jnp.ones((2, 100, 3))))


def test_gradients_of_a_loss_at_the_last_step_alone() -> None:
    args = problem(2, 400)
    mine = jax.grad(lambda *a: jnp.sum(seqpar.solve_recurrence(step, *a, **CHUNKS).final ** 2), EVERY)
    theirs = jax.grad(lambda *a: jnp.sum(loop(step, *a)[:, -1] ** 2), EVERY)
    same(mine(*args), theirs(*args))


def test_gradients_through_a_recurrence_that_forgets_nothing() -> None:
    x = numbers(2, 300, 3)

    def rotate(angle: Array, h: Array, x: Array) -> Array:
        c, s = jnp.cos(angle), jnp.sin(angle)
        return h @ jnp.asarray([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + 0.01 * x

    def of(solve: Any) -> Any:
        return jax.jit(jax.grad(lambda angle, x: loss(solve(rotate, x, numbers(2, 3), angle)), (0, 1)))

    mine = of(lambda *a: seqpar.recurrence(*a, **CHUNKS))
    same(mine(0.1, x), of(loop)(0.1, x))


def test_backward_passes_keep_no_more_than_the_states() -> None:
    x, h0, params = problem(1, 5000, 8)

    def residuals(f: Any) -> int:
        _, pullback = jax.vjp(f, x, h0, params)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(pullback))

    held = residuals(lambda *a: seqpar.recurrence(step, *a, method="shooting"))
    states = 5000 * 8 * 8
    assert held < 2 * states
