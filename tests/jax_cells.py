"""Cells in JAX: their problems as arrays, our walk and one by the equations, and trees to compare."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqpar
from cell_restatements import Case
from cell_walks import GRU, data, near


def given(case: Case = GRU, **sizes: Any) -> tuple[dict[str, Any], Any, Any]:
    params, x, h0 = data(case, **sizes)
    return {name: jnp.asarray(p) for name, p in params.items()}, jnp.asarray(x), jnp.asarray(h0)


def ours(case: Case, **options: Any) -> Any:
    """The states as a function of params, x and h0."""
    return lambda params, x, h0: seqpar.recurrence(case.cell, x, h0, params, **options)


def plain(case: Case, resets: Any = None, reverse: bool = False) -> Any:
    """The same by the equations, in a scan, which compiles sooner than a loop written out."""

    def states(params: Any, x: Any, h0: Any) -> Any:
        n = case.cell.state_size(params)
        lead = np.broadcast_shapes(x.shape[:-2], () if h0 is None else h0.shape[:-1])
        start = jnp.broadcast_to(jnp.zeros(n, x.dtype) if h0 is None else h0, (*lead, n))
        x = jnp.broadcast_to(x, (*lead, *x.shape[-2:]))
        mask = np.zeros((*lead, x.shape[-2]), bool) if resets is None else resets

        def step(h: Any, now: Any) -> tuple[Any, Any]:
            h = case.step(jnp, params, jnp.where(now[0][..., None], start, h), now[1])
            return h, h

        moved = jnp.moveaxis(jnp.asarray(mask), -1, 0), jnp.moveaxis(x, -2, 0)
        return jnp.moveaxis(jax.lax.scan(step, start, moved, reverse=reverse)[1], 0, -2)

    return states


def weight(states: Any) -> Any:
    return jnp.asarray(np.random.default_rng(9).standard_normal(states.shape), states.dtype)


def loss(walk: Any) -> Any:
    """A number that every state counts in, and not linearly."""

    def total(*given: Any) -> Any:
        states = walk(*given)
        return jnp.sum(jnp.sin(states) * weight(states))

    return total


def agree(found: Any, wanted: Any, digits: float = 1e-11) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        near(x, y, digits)
