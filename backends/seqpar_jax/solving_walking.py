"""The three walks of a recurrence: its states, their tangents, their adjoints; each a few lines beside its equation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from seqpar.dispatch.problem import Array
from seqpar_jax.solving_rows import Rows
from seqpar_jax.solving_walks import Walk


def states_walk(rows: Rows, inputs: Sequence[Array], h0: Array, resets: Array | None, steps: int) -> Walk:
    """h[t] = step(h[t-1], x[t]), with h0 for h[t-1] at a reset."""

    def step(h: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        x = reads
        if resets is not None:
            *x, reset = reads
            h = jnp.where(reset[:, None], jnp.repeat(h0, h.shape[0] // h0.shape[0], axis=0), h)
        h = rows(h, x)
        return h, h

    return Walk(step, _present(*inputs, resets), h0, steps, resets, h0)


def tangents_walk(rows: Rows, inputs: Sequence[Array], before: Array, resets: Array | None, b: Array) -> Walk:
    """v[t] = J[t] v[t-1] + b[t], J[t] the derivative of the step at what entered it; zero for v[t-1] at a reset."""

    def step(v: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        h, b, *x = reads
        if resets is not None:
            *x, reset = x
            v = jnp.where(reset[:, None], jnp.zeros_like(v), v)
        v = jax.jvp(lambda h: rows(h, x), (h,), (v,))[1] + b
        return v, v

    zero = jnp.zeros_like(b[:, 0])
    return Walk(step, _present(before, b, *inputs, resets), zero, b.shape[1], resets, zero)


def adjoints_walk(rows: Rows, inputs: Sequence[Array], before: Array, resets: Array | None, g: Array) -> Walk:
    """l[t] = g[t] + k[t], k[t-1] = J[t]^T l[t], backwards in time; zero for k[t-1] at a reset."""

    def step(k: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        h, g, *x = reads
        reset = None
        if resets is not None:
            *x, reset = x
        adjoint = g + k
        (k,) = jax.vjp(lambda h: rows(h, x), h)[1](adjoint)
        return adjoint, k if reset is None else jnp.where(reset[:, None], jnp.zeros_like(k), k)

    return Walk(step, _present(before, g, *inputs, resets), jnp.zeros_like(g[:, 0]), g.shape[1], reverse=True)


def entering(states: Array, h0: Array, resets: Array | None) -> Array:
    """What enters each step: (batch, steps, n)."""
    before = jnp.concat([h0[:, None], states[:, :-1]], axis=1)
    return before if resets is None else jnp.where(resets[..., None], h0[:, None], before)


def _present(*arrays: Array | None) -> list[Array]:
    return [x for x in arrays if x is not None]
