"""`solve_recurrence` on a GPU: a user's step in PyTorch, JAX and CuPy, states and gradients. The same tests run on the CPU."""

import importlib
from typing import Any

import numpy as np
import pytest

import seqpar
from places import EVERYWHERE, JAX, TORCH, Place, over

everywhere = over(EVERYWHERE)
STEPS, N = 700, 8


def step_of(place: Place) -> Any:
    xp = importlib.import_module("jax.numpy") if place.framework == "jax" else place.module

    def step(params: Any, h: Any, x: Any) -> Any:
        return 0.5 * h + 0.5 * xp.tanh(x @ params["w"] + h @ params["u"])

    return step


def problem(place: Place, dtype: str = "float64") -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((3, N)), "u": 0.6 * rng.standard_normal((N, N)) / np.sqrt(N)}
    x, h0 = rng.standard_normal((2, STEPS, 3)), rng.standard_normal((2, N))
    moved = {name: place.array(value.astype(dtype)) for name, value in params.items()}
    return moved, place.array(x.astype(dtype)), place.array(h0.astype(dtype))


def looped(place: Place, params: Any, x: Any, h0: Any) -> Any:
    p, x, h = {k: place.numpy(v) for k, v in params.items()}, place.numpy(x), place.numpy(h0)
    out = np.empty((2, STEPS, N))
    for t in range(STEPS):
        h = 0.5 * h + 0.5 * np.tanh(x[:, t] @ p["w"] + h @ p["u"])
        out[:, t] = h
    return out


@pytest.mark.parametrize(
    "method", ["auto", "sequential", "shooting", "shooting_newton", "newton", "quasi_newton"]
)
@everywhere
def test_states_equal_the_loop(method: str, place: Place) -> None:
    params, x, h0 = problem(place)
    found = seqpar.solve_recurrence(step_of(place), x, h0, params, method=method)
    assert type(found.states) is type(x)
    np.testing.assert_allclose(place.numpy(found.states), looped(place, params, x, h0), rtol=0, atol=1e-12)
    assert place.numpy(found.converged).all()


@over(TORCH)
def test_gradients_in_pytorch_equal_those_of_the_loop(place: Place) -> None:
    params, x, h0 = problem(place)
    leaves = [v.requires_grad_() for v in (*params.values(), x, h0)]
    step = step_of(place)
    weight = place.array(np.random.default_rng(1).standard_normal((2, STEPS, N)))
    own = seqpar.recurrence(step, x, h0, params)
    found = place.module.autograd.grad(own, leaves, weight)
    h, states = h0, []
    for t in range(STEPS):
        h = step(params, h, x[:, t])
        states.append(h)
    wanted = place.module.autograd.grad(place.module.stack(states, 1), leaves, weight)
    for a, b in zip(found, wanted, strict=True):
        place.module.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@over(JAX)
def test_gradients_in_jax_equal_those_of_scan(place: Place) -> None:
    import jax
    import jax.numpy as jnp

    params, x, h0 = problem(place)
    step = step_of(place)

    def scanned(params: Any, x: Any, h0: Any) -> Any:
        def at(h: Any, x: Any) -> Any:
            h = step(params, h, x)
            return h, h

        return jnp.swapaxes(jax.lax.scan(at, h0, jnp.swapaxes(x, 0, 1))[1], 0, 1)

    def loss(states: Any) -> Any:
        return lambda *given: jnp.sum(jnp.sin(states(*given)))

    own = loss(lambda params, x, h0: seqpar.recurrence(step, x, h0, params))
    found = jax.jit(jax.grad(own, argnums=(0, 1, 2)))(params, x, h0)
    wanted = jax.jit(jax.grad(loss(scanned), argnums=(0, 1, 2)))(params, x, h0)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9)


@everywhere
def test_nan_in_one_sequence_leaves_the_other_alone(place: Place) -> None:
    params, x, h0 = problem(place)
    bad = place.numpy(x).copy()
    bad[1, 400] = np.nan
    found = place.numpy(seqpar.recurrence(step_of(place), place.array(bad), h0, params))
    assert np.isnan(found[1, 400:]).all() and not np.isnan(found[1, :400]).any()
    np.testing.assert_allclose(found[0], looped(place, params, x, h0)[0], rtol=0, atol=1e-12)
