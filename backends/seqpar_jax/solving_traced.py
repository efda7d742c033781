"""The solver as a function of arrays with derivatives of its own.

The states solve F(h) = 0 with F(h)[t] = h[t] - step(h[t-1], x[t]), so their tangents solve a linear recurrence, whatever method
found them, and its transpose gives the gradients. Nothing is differentiated through a solver: JAX is told of a linear solve
(`jax.lax.custom_linear_solve`), which it transposes, batches, and differentiates again. Linear recurrences are solved as the
states were, in chunks or step by step. What is kept for the backward pass is the states and what the caller has anyway.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar_jax.solving_rows import Arrays, Rows, RowStep
from seqpar_jax.solving_shooting import Aim, Shot, exactly, pattern, shoot
from seqpar_jax.solving_walking import adjoints_walk, entering, tangents_walk
from seqpar_jax.solving_walks import Walk

BLOCK = 1 << 20
"""Numbers of states whose inputs and parameters are differentiated at a time: more would need memory, fewer cost rounds."""

SWEEPS = 4
"""Sweeps over a linear recurrence, after which what has not agreed is walked step by step."""


class Given(NamedTuple):
    """All arrays of a recurrence."""

    arrays: Arrays
    """What the step reads besides its row."""
    inputs: tuple[Array, ...]
    """(batch, steps, ...)."""
    h0: Array
    resets: Array | None
    guess: Array | None
    bounds: tuple[Array, Array] | None
    slope: Arrays = ()
    """What the user's Jacobian reads besides its row."""


Solver = Callable[[Rows, int, Given], Shot]
"""(step, steps, arrays) -> the states and what they are worth."""


class Plan(NamedTuple):
    """What is settled before anything is computed."""

    step: RowStep
    steps: int
    solver: Solver
    chunk: int
    """Steps of a chunk for tangents and adjoints; 0: step by step."""


def solved(plan: Plan, given: Given) -> Shot:
    """The states and what they are worth, differentiable."""

    @jax.custom_jvp
    def solve(given: Given) -> Shot:
        return plan.solver(Rows(plan.step, given.arrays), plan.steps, given)

    @partial(solve.defjvp, symbolic_zeros=True)
    def rule(primals: tuple[Given], tangents: tuple[Given]) -> tuple[Shot, Shot]:
        (given,), (moves,) = primals, tangents
        shot = solve(given)
        still = Shot(*map(_still, shot))
        before = entering(shot.states, given.h0, given.resets)
        pushed = _pushed(plan.step, given, moves, before)
        if pushed is None:
            return shot, still
        return shot, still._replace(states=_answer(plan, given, before, pushed))

    return solve(given)


def _pushed(step: RowStep, given: Given, moves: Given, before: Array) -> Array | None:
    """How each step by itself answers to its parameters, its inputs and h0: (batch, steps, n). None: nothing moves."""
    arrays = [i for i, move in enumerate(moves.arrays) if _moves(move)]
    inputs = [i for i, move in enumerate(moves.inputs) if _moves(move)]
    if not (arrays or inputs or _moves(moves.h0)):
        return None
    entered = None
    if _moves(moves.h0) and given.resets is not None:
        enters = given.resets.at[:, 0].set(True)[..., None]
        entered = jnp.where(enters, moves.h0[:, None], jnp.zeros_like(before))

    # Forward mode keeps nothing; in reverse mode the block is computed again, from arrays that exist anyway.
    @jax.checkpoint
    def block(of_arrays: list[Array], rows: Any) -> Array:
        h, x, of_x, of_h = jax.tree.map(_flat, rows)

        def by_step(some: list[Array], of: list[Array], h: Array) -> Array:
            return step(_replaced(given.arrays, arrays, some), h, _replaced(x, inputs, of))

        at = [given.arrays[i] for i in arrays], [x[i] for i in inputs]
        if of_h is None:
            return jax.jvp(lambda some, of: by_step(some, of, h), at, (of_arrays, of_x))[1]
        return jax.jvp(by_step, (*at, h), (of_arrays, of_x, of_h))[1]

    rows = before, list(given.inputs), [moves.inputs[i] for i in inputs], entered
    if arrays or inputs or entered is not None:
        of_arrays = [moves.arrays[i] for i in arrays]
        pushed = _in_blocks(lambda rows: block(of_arrays, rows), rows, before)
    else:
        pushed = jnp.zeros_like(before)
    if _moves(moves.h0) and given.resets is None:
        first = [x[:, 0] for x in given.inputs]
        of_h0 = jax.jvp(lambda h: step(given.arrays, h, first), (given.h0,), (moves.h0,))[1]
        pushed = pushed.at[:, 0].add(of_h0)
    return pushed


def _in_blocks(function: Callable[[Any], Array], rows: Any, like: Array) -> Array:
    """function(rows) for arrays (batch, steps, ...), some rows at a time."""
    batch, steps, n = like.shape
    many = batch * steps
    count = max(1, math.ceil(many * n / BLOCK))
    size = math.ceil(many / count)

    def cut(x: Array) -> Array:
        x = _flat(x)
        missing = count * size - many
        if missing:
            x = jnp.concat([x, jnp.repeat(x[-1:], missing, axis=0)])
        return x.reshape(count, 1, size, *x.shape[1:])

    if count == 1:
        return function(rows).reshape(like.shape)
    made = lax.map(function, jax.tree.map(cut, rows)).reshape(count * size, n)
    return made[:many].reshape(like.shape)


def _flat(x: Array) -> Array:
    """(batch, steps, ...) -> (batch * steps, ...): a row for every step."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _answer(plan: Plan, given: Given, before: Array, b: Array) -> Array:
    """v with v[t] = J[t] v[t-1] + b[t]."""
    rows, inputs, resets = Rows(plan.step, given.arrays), given.inputs, given.resets

    def residual(v: Array) -> Array:
        past = jnp.concat([jnp.zeros_like(v[:, :1]), v[:, :-1]], axis=1)
        past = past if resets is None else jnp.where(resets[..., None], jnp.zeros_like(past), past)
        return v - turned(past, before, *inputs)

    # Or JAX would keep the derivative of every step, to transpose what is solved by a walk.
    @jax.checkpoint
    def turned(past: Array, *reads: Array) -> Array:
        v, h, *x = map(_flat, (past, *reads))
        moved: Array = jax.jvp(lambda h: rows(h, x), (h,), (v,))[1]
        return moved.reshape(past.shape)

    def solve(_: Any, b: Array) -> Array:
        return _walked(tangents_walk(rows, inputs, before, resets, b), b, plan.chunk)

    def transpose_solve(_: Any, g: Array) -> Array:
        return _walked(adjoints_walk(rows, inputs, before, resets, g), g, plan.chunk)

    answer: Array = lax.custom_linear_solve(residual, b, solve, transpose_solve)
    return answer


def _walked(walk: Walk, b: Array, chunk: int) -> Array:
    """A linear walk, in chunks that agree relative to the largest number of the sequence."""
    if not 0 < chunk < walk.steps:
        return exactly(walk).states
    size = jnp.max(jnp.abs(b), axis=(1, 2))
    # Where all is zero, all starts are, and the answer is zero to the bit.
    starts = pattern(walk.chunks(chunk), walk.start, jnp.broadcast_to(size[:, None], walk.start.shape))
    scale = jnp.where(size > 0, size, jnp.ones_like(size))
    tol = agreement.STATED * agreement.epsilon(jnp, b.dtype)
    return shoot(walk, starts, Aim(chunk, tol, SWEEPS, watch=True, exact=True), scale).states


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _still(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(x.shape, jax.dtypes.float0)


def _replaced(arrays: Sequence[Array], places: Sequence[int], by: Sequence[Array]) -> tuple[Array, ...]:
    every = list(arrays)
    for i, x in zip(places, by, strict=True):
        every[i] = x
    return tuple(every)
