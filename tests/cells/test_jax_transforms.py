"""Cells under the transforms of JAX, and their nesting."""

from __future__ import annotations

from typing import Any

import pytest

import seqpar
from cell_restatements import Case
from cell_walks import GRU, HIDDEN, LSTM, STEPS, marks, near
from seqpar import cells

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from jax_cells import agree, given, loss, ours, plain, weight  # noqa: E402

two_cells = pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)


def _taken(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda v: v[i], tree)


@pytest.mark.parametrize(
    ("what", "case"), [("x", LSTM), ("h0", GRU), ("params", LSTM), ("all", GRU)], ids=str
)
def test_vmap_is_one_call_after_the_other(case: Case, what: str) -> None:
    primals = given(case)
    axes = tuple(0 if what in ("all", name) else None for name in ("params", "x", "h0"))
    several = tuple(
        jax.tree.map(lambda v: jnp.stack([v, 0.5 * v, v - 0.1]), v) if axis == 0 else v
        for v, axis in zip(primals, axes, strict=True)
    )
    found = jax.vmap(ours(case), axes)(*several)
    gradients = jax.jit(jax.vmap(jax.grad(loss(ours(case)), (0, 1, 2)), axes))(*several)
    one_gradient = jax.jit(jax.grad(loss(plain(case)), (0, 1, 2)))
    for i in range(3):
        one = [_taken(v, i) if a == 0 else v for v, a in zip(several, axes, strict=True)]
        near(found[i], plain(case)(*one))
        agree(_taken(gradients, i), one_gradient(*one))


def test_vmap_over_vmap_over_time_in_front() -> None:
    params, x, h0 = given(GRU, batch=(2, 3))
    zoo = jax.tree.map(lambda p: jnp.stack([p, 0.6 * p]), params)

    def one(p: Any, x: Any, h: Any) -> Any:
        return seqpar.recurrence(cells.gru, x, h, p)

    found = jax.vmap(jax.vmap(one, (None, 1, 0), 1), (0, 0, 0))(zoo, jnp.moveaxis(x, 1, 2), h0)
    for i in range(2):
        p = _taken(zoo, i)
        near(found[i], jnp.moveaxis(plain(GRU)(p, x[i], h0[i]), 0, 1))


@two_cells
def test_forward_mode(case: Case) -> None:
    primals = given(case, steps=9)
    tangents = jax.tree.map(weight, primals)

    def pushed(walk: Any) -> Any:
        return lambda *given: jax.jvp(walk, given, tangents)

    starts = marks(steps=9)
    agree(jax.jit(pushed(ours(case)))(*primals), jax.jit(pushed(plain(case)))(*primals))
    found = jax.jit(pushed(ours(case, resets=jnp.asarray(starts))))(*primals)
    agree(found, jax.jit(pushed(plain(case, resets=starts)))(*primals))


def test_hessians_in_every_mode() -> None:
    params, x, h0 = given(GRU, steps=6)

    def of_u(walk: Any) -> Any:
        return lambda u, h: loss(walk)({**params, "u": u}, x, h)

    wanted = jax.jit(jax.jacrev(jax.grad(of_u(plain(GRU)), (0, 1)), (0, 1)))(params["u"], h0)
    for outer, inner in ((jax.jacfwd, jax.grad), (jax.jacrev, jax.grad), (jax.jacrev, jax.jacfwd)):
        found = jax.jit(outer(inner(of_u(ours(GRU)), (0, 1)), (0, 1)))(params["u"], h0)
        agree(found, wanted, 1e-10)


def test_checkpoint_and_scan_around_it() -> None:
    params, x, h0 = given(GRU)

    def layers(walk: Any) -> Any:
        def layer(x: Any, scale: Any) -> tuple[Any, None]:
            return jnp.tanh(walk(params, x[..., :3] * scale, h0)), None

        return lambda x: jnp.sum(jax.lax.scan(jax.checkpoint(layer), jnp.pad(x, ((0, 0), (0, 0), (0, 1))), jnp.arange(1.0, 4.0))[0] ** 2)  # fmt: skip # noqa: E501

    found, wanted = (jax.jit(jax.value_and_grad(layers(walk(GRU))))(x) for walk in (ours, plain))
    agree(found, wanted)


def test_linearize_and_its_transpose() -> None:
    params, x, h0 = given(GRU)

    def pulled(walk: Any) -> Any:
        along = jax.linearize(lambda x: walk(params, x, h0), x)[1]
        return jax.linear_transpose(along, x)(weight(jnp.zeros((2, STEPS, HIDDEN))))

    agree(pulled(ours(GRU)), pulled(plain(GRU)))
