"""Gradients of parameters, inputs and first states equal those of the loop, whatever the method of the forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ladder import Rung
from seqpar_bench.solving_cases import leaves_of, mapped
from solving.problems import Posed, posed
from solving.systems import CHAOTIC, FORGETTING, LIARS, elman, gru, turning

Array = Any
METHODS = ("auto", "sequential", "shooting", "shooting_newton", "newton", "quasi_newton", "jacobi")


def torch_gradients(problem: Posed, states: Any, weight: Array | None = None) -> list[Array]:
    import torch

    def marked(x: Array) -> Array:
        return x.clone().requires_grad_() if x.is_floating_point() else x

    problem = problem.given(
        x=mapped(marked, problem.x), h0=marked(problem.h0), params=mapped(marked, problem.params)
    )
    leaves = leaves_of((problem.params, problem.x, problem.h0))
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    h = states(problem)
    g = torch.from_numpy(cotangent(h.shape)) if weight is None else weight
    return [grad.numpy() for grad in torch.autograd.grad(h, wanted, g)]


def jax_gradients(problem: Posed, states: Any) -> list[Array]:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any, h0: Any) -> Array:
        h = states(problem.given(params=params, x=x, h0=h0))
        return jnp.sum(h * cotangent(h.shape))

    grad = jax.grad(loss, argnums=(0, 1, 2), allow_int=True)
    found = jax.jit(grad)(problem.params, problem.x, problem.h0)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found) if leaf.dtype != jax.dtypes.float0]


def cotangent(shape: Any) -> Array:
    return np.random.default_rng(7).standard_normal(tuple(shape))


def assert_same(mine: list[Array], theirs: list[Array], rtol: float = 1e-8) -> None:
    assert len(mine) == len(theirs) > 0
    for a, b in zip(mine, theirs, strict=True):
        assert np.abs(a - b).max() <= rtol * np.abs(b).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["elman", "lstm", "pairs"])
def test_torch_gradients_equal_those_of_the_loop(name: str, method: str) -> None:
    pytest.importorskip("torch")
    problem = posed(FORGETTING[name](batch=2, steps=70), Rung.TORCH, "float64")
    assert_same(
        torch_gradients(problem, lambda p: p.solve(method=method).states),
        torch_gradients(problem, Posed.loop),
    )


@pytest.mark.parametrize("name", ["tokens", "turning"])
def test_torch_gradients_reach_every_leaf_of_a_tree(name: str) -> None:
    pytest.importorskip("torch")
    problem = posed(FORGETTING[name](batch=2, steps=80), Rung.TORCH, "float64")
    assert_same(
        torch_gradients(problem, lambda p: p.solve(method="shooting").states),
        torch_gradients(problem, Posed.loop),
    )


@pytest.mark.parametrize("method", ["newton", "quasi_newton"])
def test_jax_gradients_of_newtons_methods_equal_those_of_the_loop(method: str) -> None:
    pytest.importorskip("jax")
    problem = posed(elman(batch=2, steps=150), Rung.JAX, "float64")
    assert_same(jax_gradients(problem, lambda p: p.solve(method=method).states), jax_gradients(problem, scan))


def scan(problem: Posed) -> Array:
    from seqpar_bench.solving_peers import jax_scan

    return jax_scan(problem.step, problem.params, problem.x, problem.h0, problem.length)


@pytest.mark.parametrize(
    "name", ["integrator, drip 5e-8", "GRU that remembers a hundred steps", "limit cycle"]
)
def test_gradients_of_long_memories_equal_those_of_the_loop(name: str) -> None:
    pytest.importorskip("torch")
    problem = posed(LIARS[name](steps=800), Rung.TORCH, "float64")
    for method in ("auto", "shooting"):
        assert_same(
            torch_gradients(problem, lambda p, m=method: p.solve(method=m).states),
            torch_gradients(problem, Posed.loop),
        )


def test_a_loss_at_the_last_step_reaches_back_through_a_memory() -> None:
    torch = pytest.importorskip("torch")
    problem = posed(LIARS["integrator, drip 5e-8"](steps=1500), Rung.TORCH, "float64")
    weight = torch.zeros(1, 1500, 4, dtype=torch.float64)
    weight[:, -1] = 1.0
    mine, theirs = (
        torch_gradients(problem, way, weight)
        for way in (lambda p: p.solve(method="shooting").states, Posed.loop)
    )
    assert_same(mine, theirs)


def test_gradients_of_chaos_are_those_of_the_loop_along_the_same_states() -> None:
    pytest.importorskip("torch")
    system = CHAOTIC["tanh network"]()
    short = posed(system, Rung.TORCH, "float64").given(length=60)
    assert_same(
        torch_gradients(short, lambda p: p.solve().states), torch_gradients(short, Posed.loop), rtol=1e-7
    )


def test_float32_gradients_are_as_near_as_float32_is() -> None:
    pytest.importorskip("torch")
    problem = posed(gru(1, 8, batch=2, steps=150), Rung.TORCH, "float32")
    exact = posed(gru(1, 8, batch=2, steps=150), Rung.TORCH, "float64")

    def single(p: Posed) -> Array:
        return p.solve(method="shooting").states.double()

    assert_same(torch_gradients(problem, single), torch_gradients(exact, Posed.loop), rtol=1e-4)


@pytest.mark.parametrize("options", [{"reverse": True}, {"resets": True}], ids=["reverse", "resets"])
def test_gradients_know_direction_and_resets(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    problem = posed(elman(batch=2, steps=120), Rung.TORCH, "float64")
    marks = torch.zeros(2, 120, dtype=torch.bool)
    marks[0, 50], marks[1, 0] = True, True
    if "resets" in options:
        options = {"resets": marks}

    def by_loop(p: Posed) -> Array:
        if "resets" not in options:
            return p.given(x=p.x.flip(1)).loop().flip(1)
        h, states = p.h0, []
        for t in range(120):
            h = p.step(p.params, torch.where(marks[:, t, None], p.h0, h), p.x[:, t])
            states.append(h)
        return torch.stack(states, 1)

    mine = torch_gradients(problem, lambda p: p.solve(method="shooting", **options).states)
    assert_same(mine, torch_gradients(problem, by_loop))


def test_the_gradient_of_the_final_state_is_that_of_the_last_one() -> None:
    torch = pytest.importorskip("torch")
    problem = posed(elman(batch=2, steps=120), Rung.TORCH, "float64")
    x = problem.x.clone().requires_grad_()
    by_final, by_states = (
        torch.autograd.grad(pick(problem.given(x=x).solve(method="shooting")).sum(), x)[0]
        for pick in (lambda s: s.final, lambda s: s.states[:, -1])
    )
    assert torch.equal(by_final, by_states)
    assert bool(by_final.any())


def test_a_guess_has_no_part_in_gradients() -> None:
    torch = pytest.importorskip("torch")
    problem = posed(elman(batch=2, steps=120), Rung.TORCH, "float64")
    guess = torch.randn(2, 120, 8, dtype=torch.float64)
    cold, warm = (
        torch_gradients(problem, lambda p, g=g: p.solve(method="shooting", guess=g).states)
        for g in (None, guess)
    )
    assert_same(warm, cold, rtol=1e-12)


def test_vjp_of_a_system_without_inputs_reaches_its_start() -> None:
    pytest.importorskip("torch")
    problem = posed(turning(batch=2, steps=50), Rung.TORCH, "float64")
    assert_same(torch_gradients(problem, lambda p: p.solve().states), torch_gradients(problem, Posed.loop))
