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
from seqpar_jax import eager  # noqa: E402

Array = Any
CHUNKS = {"method": "shooting", "config": ShootingConfig(chunk=24)}
STEPS = {"method": "sequential"}


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


@pytest.mark.parametrize(("options", "jit"), [(CHUNKS, False), (CHUNKS, True), (STEPS, True)], ids=str)
def test_gradients_are_those_of_the_loop(options: Any, jit: bool) -> None:
    mine, theirs = (jax.grad(f, EVERY) for f in losses(options))
    same((jax.jit(mine) if jit else mine)(*problem()), theirs(*problem()))


@pytest.mark.parametrize("options", [CHUNKS, STEPS], ids=lambda o: o["method"])
def test_resets_send_gradients_to_h0(options: Any) -> None:
    resets = jnp.asarray(np.random.default_rng(0).random((2, 100)) < 0.1).at[0, 0].set(True)
    mine, theirs = (jax.grad(f, EVERY) for f in losses(options, resets=resets))
    same(mine(*problem()), theirs(*problem()))


def test_forward_mode_is_that_of_the_loop() -> None:
    args = problem()
    moves = jax.tree.map(jnp.cos, args)
    mine, theirs = losses(CHUNKS)
    same(jax.jvp(mine, args, moves), jax.jvp(theirs, args, moves))
    same(jax.linearize(mine, *args)[1](*moves), jax.jvp(theirs, args, moves)[1])


def test_second_derivatives_are_those_of_the_loop() -> None:
    args, moves = problem(1, 60), jax.tree.map(jnp.sin, problem(1, 60))
    for nested in (
        lambda f: jax.grad(lambda *a: jax.jvp(f, a, moves)[1], EVERY),
        lambda f: lambda *a: jax.jvp(jax.grad(f, EVERY), a, moves)[1],
        lambda f: jax.grad(
            lambda *a: sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(f, EVERY)(*a), moves))))
        ),
    ):
        mine, theirs = map(nested, losses(CHUNKS))
        same(jax.jit(mine)(*args), theirs(*args))


def test_vmap_over_everything_or_a_part() -> None:
    args = problem()
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, 0.1 * a]), args)
    mine, theirs = (jax.value_and_grad(f, EVERY) for f in losses(CHUNKS))
    same(jax.vmap(mine)(*many), jax.vmap(theirs)(*many))
    x, h0, _ = args
    same(jax.vmap(mine, (None, None, 0))(x, h0, many[2]), jax.vmap(theirs, (None, None, 0))(x, h0, many[2]))


def test_what_a_step_closes_over_is_differentiated() -> None:
    x, h0, params = problem()

    def through(solve: Any) -> Any:
        return jax.grad(lambda p: loss(solve(lambda _, h, x: step(p, h, x), x, h0, None)))

    mine = through(lambda *a: seqpar.recurrence(*a, **CHUNKS))
    theirs = through(loop)(params)
    same(mine(params), theirs)
    same(jax.jit(mine)(params), theirs)


def test_complex_gradients_are_those_of_the_loop() -> None:
    args = problem(dtype="complex128")
    mine, theirs = (jax.grad(f, EVERY) for f in losses(CHUNKS))
    same(mine(*args), theirs(*args))


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


def with_rule(factor: float) -> Callable[[Array], Array]:
    """tanh with a derivative that is not its own: programs of two of them look alike."""

    @jax.custom_jvp
    def tanh(x: Array) -> Array:
        return jnp.tanh(x)

    @tanh.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        return tanh(primals[0]), factor * tangents[0]

    return tanh


def test_programs_are_not_shared_by_steps_with_other_derivative_rules() -> None:
    x, h0 = numbers(1, 40, 2), numbers(1, 2)
    for factor in (0.1, 1.0):
        tanh = with_rule(factor)

        def slope(solve: Any, f: Any = tanh) -> Array:
            return jax.grad(lambda x: jnp.sum(solve(lambda _, h, x: f(0.5 * h + x), x, h0, None)))(x)

        same(slope(seqpar.recurrence), slope(loop))


def test_steps_with_derivative_rules_are_compiled_once() -> None:
    for function in (jax.nn.relu, jax.nn.silu, jax.nn.softplus, with_rule(0.5)):
        first, again = (eager.told(jax.make_jaxpr(lambda x, f=function: f(x))(1.0)) for _ in range(2))
        assert first is not None and first == again


def test_what_cannot_be_told_apart_is_not_kept() -> None:
    f = jax.custom_vjp(jnp.tanh)
    f.defvjp(lambda x: (jnp.tanh(x), None), lambda _, g: (g,))
    assert eager.told(jax.make_jaxpr(f)(1.0)) is None
    assert eager.told(jax.make_jaxpr(jax.jit(lambda x: 2 * f(x)))(1.0)) is None
