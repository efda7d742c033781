"""The three walks of a recurrence: its states, their tangents, their adjoints; each a few lines beside its equation."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from seqpar.dispatch.problem import Array
from seqpar_jax.solving_parts import Function, Parts
from seqpar_jax.solving_rows import Rows
from seqpar_jax.solving_walks import Walk


def states_walk(rows: Rows, inputs: Sequence[Array], h0: Array, resets: Array | None, steps: int) -> Walk:
    """h[t] = step(h[t-1], x[t]), with h0 for h[t-1] at a reset."""
    rest, reads = _parted(rows, lambda arrays, x, h: rows.step.one(arrays, h, x), inputs, h0, 1)

    def step(h: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        if resets is not None:
            *reads, reset = reads
            h = jnp.where(reset[:, None], jnp.repeat(h0, h.shape[0] // h0.shape[0], axis=0), h)
        h = rest(reads, h)
        return h, h

    return Walk(step, _present(*reads, resets), h0, steps, resets, h0)


def tangents_walk(rows: Rows, inputs: Sequence[Array], before: Array, resets: Array | None, b: Array) -> Walk:
    """v[t] = J[t] v[t-1] + b[t], J[t] the derivative of the step at what entered it; zero for v[t-1] at a reset."""

    def turned(arrays: Sequence[Array], reads: Sequence[Array], v: Array) -> Array:
        h, *x = reads
        moved: Array = jax.jvp(lambda h: rows.step.one(arrays, h, x), (h,), (v,))[1]
        return moved

    zero = jnp.zeros_like(b[:, 0])
    rest, reads = _parted(rows, turned, [before, *inputs], zero, 2)

    def step(v: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        b, *reads = reads
        if resets is not None:
            *reads, reset = reads
            v = jnp.where(reset[:, None], jnp.zeros_like(v), v)
        v = rest(reads, v) + b
        return v, v

    return Walk(step, _present(b, *reads, resets), zero, b.shape[1], resets, zero)


def adjoints_walk(rows: Rows, inputs: Sequence[Array], before: Array, resets: Array | None, g: Array) -> Walk:
    """l[t] = g[t] + k[t], k[t-1] = J[t]^T l[t], backwards in time; zero for k[t-1] at a reset."""

    def turned(arrays: Sequence[Array], reads: Sequence[Array], adjoint: Array) -> Array:
        h, *x = reads
        back: Array = jax.vjp(lambda h: rows.step.one(arrays, h, x), h)[1](adjoint)[0]
        return back

    zero = jnp.zeros_like(g[:, 0])
    rest, reads = _parted(rows, turned, [before, *inputs], zero, 2)

    def step(k: Array, reads: Sequence[Array]) -> tuple[Array, Array]:
        g, *reads = reads
        reset = None
        if resets is not None:
            *reads, reset = reads
        adjoint = g + k
        k = rest(reads, adjoint)
        return adjoint, k if reset is None else jnp.where(reset[:, None], jnp.zeros_like(k), k)

    return Walk(step, _present(g, *reads, resets), zero, g.shape[1], reverse=True)


def _parted(
    rows: Rows, function: Function, reads: Sequence[Array], carried: Array, most: int
) -> tuple[Callable[[Sequence[Array], Array], Array], list[Array]]:
    """A function of rows as what is left of it in a walk, and what that reads: (batch, steps, ...) from such arrays."""
    ofrow = [jax.ShapeDtypeStruct(x.shape[2:], x.dtype) for x in reads]
    of_carried = jax.ShapeDtypeStruct(carried.shape[1:], carried.dtype)
    parts = Parts(function, rows.arrays, ofrow, of_carried, most)
    shared, own = parts.ahead(rows.arrays, [x.reshape(-1, *x.shape[2:]) for x in reads])
    lead = reads[0].shape[:2] if reads else ()
    return partial(parts.rest, shared), [x.reshape(*lead, *x.shape[1:]) for x in own]


def entering(states: Array, h0: Array, resets: Array | None) -> Array:
    """What enters each step: (batch, steps, n)."""
    before = jnp.concat([h0[:, None], states[:, :-1]], axis=1)
    return before if resets is None else jnp.where(resets[..., None], h0[:, None], before)


def _present(*arrays: Array | None) -> list[Array]:
    return [x for x in arrays if x is not None]
