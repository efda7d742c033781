"""Recurrences solved inside `jax.jit`: always the sequential answer, and results that say what it is worth."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import seqpar  # noqa: E402
from seqpar.errors import DtypeError, NotEligibleError, OptionError, ShapeError  # noqa: E402
from seqpar.recurrence_solution import RecurrenceSolution  # noqa: E402
from seqpar.solving.configs import NewtonConfig, ShootingConfig  # noqa: E402

Array = Any


def forgetful(params: Any, h: Array, x: Array) -> Array:
    return 0.4 * h + jnp.tanh(h @ params + x)


def chaotic(params: Any, h: Array, x: Array) -> Array:
    return jnp.tanh(6 * h @ params + x)


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def problem(
    batch: int = 2, steps: int = 300, n: int = 4, dtype: str = "float64"
) -> tuple[Array, Array, Array]:
    return (
        numbers(batch, steps, n, dtype=dtype),
        numbers(batch, n, seed=1, dtype=dtype),
        0.2 * numbers(n, n, seed=2, dtype=dtype),
    )


def loop(step: Any, x: Array, h0: Array, params: Any, resets: Array | None = None) -> Array:
    resets = jnp.zeros(x.shape[:2], bool) if resets is None else resets

    def at(h: Array, here: Any) -> tuple[Array, Array]:
        x, reset = here
        h = step(params, jnp.where(reset[:, None], h0, h), x)
        return h, h

    return jnp.moveaxis(lax.scan(at, h0, (jnp.moveaxis(x, 1, 0), resets.T))[1], 0, 1)


def jitted(step: Any, *args: Any, **options: Any) -> RecurrenceSolution[Array]:
    return jax.jit(lambda *args: seqpar.solve_recurrence(step, *args, **options))(*args)


def chunks(of: int, **more: Any) -> dict[str, Any]:
    return {"method": "shooting", "config": ShootingConfig(chunk=of, **more)}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"method": "sequential"},
    chunks(17),
    {"method": "newton", "config": NewtonConfig(damping=0.1)},
    {"method": "block_newton"},
    {"method": "jacobi"},
    {"method": "quasi_newton", "config": NewtonConfig(probes=4)},
    {"method": "quasi_newton", "config": NewtonConfig(scale=10.0)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(v) for v in o.values()) or "auto")
def test_states_are_those_of_the_loop(options: Any) -> None:
    resets = jnp.asarray(np.random.default_rng(0).random((2, 300)) < 0.02)
    x, h0, params = problem()
    solution = jitted(forgetful, x, h0, params, resets=resets, **options)
    assert isinstance(solution, RecurrenceSolution)
    assert bool(jnp.all(solution.converged))
    assert solution.method_name == options.get("method", "sequential")
    exact = loop(forgetful, x, h0, params, resets)
    np.testing.assert_allclose(solution.states, exact, atol=1e-12)
    np.testing.assert_array_equal(solution.final, solution.states[:, -1])
    worst = jnp.max(jnp.abs(solution.states - exact), axis=(1, 2))
    assert bool(jnp.all(worst <= solution.error_estimate + 2e-15))


def test_the_jacobian_of_the_user_may_close_over_what_is_traced() -> None:
    def of(params: Array) -> Array:
        def jacobian(_: Any, h: Array, x: Array) -> Array:
            slope = 1 - jnp.tanh(h @ params + x) ** 2
            return 0.4 * jnp.eye(4) + slope[..., :, None] * params.T

        return seqpar.recurrence(forgetful, x, h0, params, method="newton", jacobian=jacobian, max_sweeps=20)

    x, h0, params = problem()
    np.testing.assert_allclose(jax.jit(of)(params), loop(forgetful, x, h0, params), atol=1e-12)
    mine = jax.grad(lambda params: jnp.sum(of(params) ** 3))(params)
    theirs = jax.grad(lambda params: jnp.sum(loop(forgetful, x, h0, params) ** 3))(params)
    np.testing.assert_allclose(mine, theirs, rtol=1e-8)


def test_chaos_is_walked_step_by_step_to_the_bit() -> None:
    x, h0, params = problem(2, 2000, 8)
    params = numbers(8, 8, seed=5)
    solution = jitted(chaotic, x, h0, params)
    exact = jitted(chaotic, x, h0, params, method="sequential")
    np.testing.assert_array_equal(solution.states, exact.states)
    assert solution.method_name == "sequential" and bool(jnp.all(solution.converged))
    np.testing.assert_array_equal(solution.error_estimate, 0.0)


def test_one_chaotic_sequence_does_not_keep_the_others() -> None:
    x, h0, _ = problem(2, 2000, 4)
    x = jnp.concat([x, jnp.asarray([0.2, 6.0])[:, None, None] * jnp.ones((2, 2000, 1))], axis=-1)

    def step(params: Any, h: Array, x: Array) -> Array:
        return jnp.tanh(x[..., 4:] * (h @ params) + x[..., :4])

    solution = jitted(step, x, h0, numbers(4, 4, seed=5))
    np.testing.assert_allclose(solution.states[0], loop(step, x, h0, numbers(4, 4, seed=5))[0], atol=1e-13)
    exact = jitted(step, x, h0, numbers(4, 4, seed=5), method="sequential")
    np.testing.assert_array_equal(solution.states[1], exact.states[1])
    assert solution.error_estimate[0] > 0 and solution.error_estimate[1] == 0


@pytest.mark.parametrize("options", [{}, chunks(50), {"method": "newton"}, {"method": "jacobi"}], ids=str)
def test_nan_stays_in_its_sequence_and_goes_where_the_loop_takes_it(options: Any) -> None:
    x, h0, params = problem(3, 1500, 4)
    x = x.at[1, 700, 2].set(jnp.nan)
    solution = jitted(forgetful, x, h0, params, **options)
    exact = loop(forgetful, x, h0, params)
    np.testing.assert_allclose(solution.states, exact, atol=1e-12)
    assert bool(jnp.isnan(solution.states[1, -1]).all()) and bool(jnp.all(solution.converged))


def test_as_many_sweeps_as_chunks_are_exact_for_chaos_too() -> None:
    x, h0, _ = problem(1, 240, 8)
    params = numbers(8, 8, seed=5)
    exact = jitted(chaotic, x, h0, params, method="sequential").states
    assert jnp.max(jnp.abs(jitted(chaotic, x, h0, params, **chunks(20, sweeps=3)).states - exact)) > 0.1
    for options in (chunks(20), chunks(20, sweeps=12)):
        np.testing.assert_allclose(jitted(chaotic, x, h0, params, **options).states, exact, atol=1e-9)


def test_too_few_sweeps_are_said_not_to_have_converged() -> None:
    x, h0, _ = problem(2, 240, 8)
    solution = jitted(chaotic, x, h0, numbers(8, 8, seed=5), max_sweeps=3, **chunks(20))
    assert not bool(jnp.any(solution.converged))
    assert bool(jnp.all(solution.sweeps == 3)) and bool(jnp.any(solution.residual > 1e-3))
    newton = jitted(chaotic, x, h0, numbers(8, 8, seed=5), max_sweeps=2, method="newton")
    assert not bool(jnp.any(newton.converged))


def test_an_integrator_is_not_believed_to_forget() -> None:
    def drip(_: Any, h: Array, x: Array) -> Array:
        return h + 5e-8 * (1 + x)

    x, h0 = numbers(1, 4000, 1, dtype="float32"), jnp.zeros((1, 1), "float32")
    exact = jitted(drip, x, h0, method="sequential")
    np.testing.assert_array_equal(jitted(drip, x, h0).states, exact.states)


def test_vmap_gives_what_each_example_gives() -> None:
    x, h0, params = problem(3, 1500, 4)
    params = jnp.stack([params, 0.1 * params, 30 * params])

    def one(x: Array, h0: Array, params: Array) -> RecurrenceSolution[Array]:
        return seqpar.solve_recurrence(forgetful, x, h0, params)

    many = jax.jit(jax.vmap(one))(x, h0, params)
    for i in range(3):
        alone = jax.jit(one)(x[i], h0[i], params[i])
        np.testing.assert_allclose(many.states[i], alone.states, atol=1e-12)
        np.testing.assert_array_equal(many.sweeps[i], alone.sweeps)


@pytest.mark.parametrize("steps", [1, 2, 33, 64, 97])
def test_every_length_and_direction(steps: int) -> None:
    x, h0, params = problem(2, steps)
    for reverse in (False, True):
        mine = jitted(forgetful, x, h0, params, reverse=reverse, **chunks(32)).states
        exact = loop(forgetful, x[:, ::-1] if reverse else x, h0, params)
        np.testing.assert_allclose(mine, exact[:, ::-1] if reverse else exact, atol=1e-12)


def test_no_steps_leave_h0() -> None:
    x, h0, params = problem(2, 0)
    solution = jitted(forgetful, x, h0, params)
    assert solution.states.shape == (2, 0, 4)
    np.testing.assert_array_equal(solution.final, h0)
    assert not jnp.any(jax.grad(lambda p: seqpar.recurrence(forgetful, x, h0, p).sum())(params))


def test_no_inputs() -> None:
    h0 = numbers(2, 3)
    mine = jax.jit(
        lambda h0: seqpar.recurrence(lambda p, h, x: jnp.cos(h), None, h0, length=90, **chunks(30))
    )(h0)
    np.testing.assert_allclose(
        mine, loop(lambda p, h, x: jnp.cos(h), jnp.zeros((2, 90, 1)), h0, None), atol=1e-13
    )


def test_a_guess_near_the_answer_saves_sweeps() -> None:
    x, h0, params = problem(2, 400)
    exact = loop(forgetful, x, h0, params)
    for options in (chunks(10), {"method": "jacobi"}):
        cold = jitted(forgetful, x, h0, params, **options)
        warm = jax.jit(lambda g, o=options: seqpar.solve_recurrence(forgetful, x, h0, params, guess=g, **o))(
            exact
        )
        assert bool(jnp.all(warm.sweeps < cold.sweeps))


def test_a_burn_in_that_was_asked_for_mends_a_bad_guess() -> None:
    x, h0, params = problem(2, 400)
    bad = jnp.full(x.shape, 3.0)
    plain, mended = (
        seqpar.solve_recurrence(forgetful, x, h0, params, guess=bad, **chunks(40, burn_in=steps))
        for steps in (None, 40)
    )
    assert bool(jnp.all(mended.sweeps < plain.sweeps))


def test_guesses_are_clipped_into_bounds() -> None:
    x, h0, params = problem(2, 400)
    x = jnp.abs(x)

    def only_inside(params: Any, h: Array, x: Array) -> Array:
        return jnp.sqrt(h) * 0.3 + x

    found = seqpar.recurrence(
        only_inside, x, jnp.abs(h0), None, guess=-jnp.ones(x.shape), bounds=(0, 9), **chunks(20, sweeps=3)
    )
    np.testing.assert_allclose(found, loop(only_inside, x, jnp.abs(h0), None), atol=1e-9)


def test_explain_tells_the_knobs_that_a_call_takes() -> None:
    x, h0, params = problem(2, 4000)

    def knobs(**options: Any) -> Any:
        return seqpar.explain(seqpar.solve_recurrence, forgetful, x, h0, params, **options).config

    assert knobs(config=ShootingConfig(chunk=100, burn_in=7)) == ShootingConfig(chunk=100, burn_in=7)
    assert knobs(config=ShootingConfig(chunk=100)) == ShootingConfig(chunk=100, burn_in=50)
    assert knobs(guess=x).burn_in == 0


def test_windows_are_refused_where_all_steps_iterate_at_once() -> None:
    with pytest.raises(NotEligibleError, match="window=50 in JAX"):
        jitted(forgetful, *problem(), method="newton", config=NewtonConfig(window=50))


def test_float32_and_bfloat16_are_solved_as_the_loop_does() -> None:
    for dtype, rounding in (("float32", 1e-6), ("bfloat16", 3e-2)):
        args = problem(1, 1100, 4, dtype)
        mine = jitted(forgetful, *args).states
        assert mine.dtype == dtype
        np.testing.assert_allclose(
            mine.astype("float32"), loop(forgetful, *args).astype("float32"), atol=4 * rounding
        )


def test_steps_written_for_one_sample_are_refused_while_they_are_traced() -> None:
    x, h0, params = problem(4, 50, 4)
    with pytest.raises(TypeError, match="dot_general") as caught:
        jitted(lambda p, h, x: jnp.tanh(p @ h) + x, x, h0, params)
    assert any("write h @ W.T for W @ h" in note for note in caught.value.__notes__)
    with pytest.raises(ShapeError, match="A step acts on rows"):
        jitted(lambda p, h, x: jnp.tanh(h).sum() + x[0], x, h0, params)
    with pytest.raises(DtypeError, match="float32"):
        jitted(lambda p, h, x: h.astype("float32"), x, h0, params)


def mean_of_a_row(params: Any, h: Array, x: Array) -> Array:
    return jax.vmap(lambda h, x: 0.5 * (h - h.mean()) + x)(h, x)


def mean_over_rows(params: Any, h: Array, x: Array) -> Array:
    return 0.5 * (h - h.mean(0, keepdims=True)) + x


def test_steps_that_name_the_axis_of_rows_are_taken_with_it() -> None:
    # Without rows, n and m are taken for them, and where n = m no shape tells.
    x, h0, _ = problem(2, 60)
    exact = loop(mean_of_a_row, x, h0, None)
    np.testing.assert_allclose(seqpar.recurrence(mean_of_a_row, x, h0), exact, atol=1e-13)
    np.testing.assert_allclose(jitted(mean_of_a_row, x, h0).states, exact, atol=1e-13)


def test_rows_that_depend_on_each_other_are_refused() -> None:
    x, h0, _ = problem(2, 60)

    def closing_over(scale: Array) -> Array:
        return jnp.sum(seqpar.recurrence(lambda p, h, x: scale * mean_over_rows(p, h, x), x, h0))

    for call in (
        lambda: seqpar.recurrence(mean_over_rows, x, h0),
        lambda: jitted(mean_over_rows, x, h0),
        lambda: jax.jit(jax.grad(closing_over))(0.5),
        lambda: jax.vmap(closing_over)(jnp.ones(2)),
    ):
        with pytest.raises(ShapeError, match="its rows depend on each other"):
            call()


def test_rows_that_read_tables_or_random_keys_are_not_refused() -> None:
    x = jnp.asarray(np.random.default_rng(0).integers(0, 5, (2, 60, 1)))
    table, h0 = numbers(5, 4), numbers(2, 4)
    noise = jax.random.key(0)

    def step(params: Any, h: Array, x: Array) -> Array:
        table, key = params
        return jnp.log(h * h) * 0.1 + table[x[..., 0]] + jax.random.normal(key, (4,))

    mine = seqpar.recurrence(step, x, h0, (table, noise), **chunks(20))
    np.testing.assert_allclose(mine, loop(step, x, h0, (table, noise)), atol=1e-11)


def test_newton_refuses_complex_states_while_they_are_traced() -> None:
    x, h0, params = (a.astype("complex128") for a in problem())
    with pytest.raises(OptionError, match="needs real states"):
        jitted(forgetful, x, h0, params, method="newton")


def test_newtons_exchange_of_boundaries_is_refused_while_values_are_unknown() -> None:
    with pytest.raises(NotEligibleError, match="it reads values"):
        jitted(forgetful, *problem(), method="shooting_newton")


def step_with_axis(params: Any, h: Array, x: Array) -> Array:
    return jnp.concatenate([jnp.tanh(h[:, 1:] @ params[1:, :2] + x[:, :2]), h[:, :2] * 0.5], axis=1)


def step_with_jitted_parts(params: Any, h: Array, x: Array) -> Array:
    gate = jax.jit(lambda x: jax.nn.sigmoid(x @ (2 * params)))
    return jnp.where(h > 2, 0.1 * h, gate(x) * jax.nn.relu(h) - jax.jit(jnp.tanh)(gate(h)))


def step_that_copies(params: Any, h: Array, x: Array) -> Array:
    return x


@pytest.mark.parametrize("step", [step_with_axis, step_with_jitted_parts, step_that_copies])
@pytest.mark.parametrize("options", [chunks(17), {"method": "sequential"}], ids=["shooting", "sequential"])
def test_steps_of_every_form_are_taken_apart_rightly(step: Any, options: Any) -> None:
    x, h0, params = problem(2, 90)
    np.testing.assert_allclose(
        jitted(step, x, h0, params, **options).states, loop(step, x, h0, params), atol=1e-13
    )
    mine = jax.grad(lambda *a: jnp.sum(seqpar.recurrence(step, *a, **options) ** 3), (0, 1, 2))(x, h0, params)
    theirs = jax.grad(lambda *a: jnp.sum(loop(step, *a) ** 3), (0, 1, 2))(x, h0, params)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_programs_do_not_grow_with_time() -> None:
    def size(steps: int, **options: Any) -> int:
        args = problem(1, steps)
        lowered = jax.jit(lambda *a: seqpar.recurrence(forgetful, *a, **options)).lower(*args)
        return len(lowered.as_text().splitlines())

    for options in ({}, {"method": "newton"}):
        assert size(1 << 16, **options) < 1.1 * size(1 << 12, **options)


def test_eager_calls_compile_nothing_the_second_time(compilations: Callable[[], int]) -> None:
    x, h0, params = problem(1, 3000)

    def solve(scale: float) -> Array:
        return seqpar.recurrence(lambda p, h, x: forgetful(p, h, x), x, h0, scale * params)

    def slope(scale: float) -> Array:
        return jax.grad(lambda p: jnp.sum(seqpar.recurrence(lambda p, h, x: forgetful(p, h, x), x, h0, p)))(
            scale * params
        )

    for function in (solve, slope):
        function(1.0)
        before = compilations()
        function(0.9)
        assert compilations() == before


def test_a_global_that_changes_is_seen_by_eager_calls() -> None:
    scale = [1.0]

    def step(_: Any, h: Array, x: Array) -> Array:
        return 0.5 * h + scale[0] * x

    x, h0 = numbers(1, 2000, 2), jnp.zeros((1, 2))
    once = seqpar.recurrence(step, x, h0)
    scale[0] = 2.0
    np.testing.assert_allclose(seqpar.recurrence(step, x, h0), 2 * once, rtol=1e-12)


@pytest.fixture
def compilations() -> Any:
    """Counts programs that JAX compiles."""
    counted = [0]

    def listen(event: str, duration: float, **_: Any) -> None:
        counted[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: counted[0]
    jax.monitoring.unregister_event_duration_listener(listen)
