"""`solve_recurrence` for JAX: eager calls drive compiled steps, traced ones become one program.

Arrays that are traced have no values to judge, so there the method follows from shapes alone, everything runs in JAX's control
flow, and `throw` can only say `converged`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.solving import agreement, checks
from seqpar.solving.configs import ShootingConfig
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.wish import Wish
from seqpar_jax import eager
from seqpar_jax.solving_rows import Rows, rows_of
from seqpar_jax.solving_shooting import Aim, Shot, exactly, pattern, shoot
from seqpar_jax.solving_traced import Given, Plan, solved
from seqpar_jax.solving_walking import states_walk

SHORTEST = 1024
"""Steps from which on time is cut by itself."""

SWEEPS = 5
"""Sweeps that an automatic choice allows, before it walks step by step."""


def solve(binding: Binding, recurrence: Recurrence, wish: Wish) -> Solved:
    """The recurrence, by values where there are any."""
    rows, given = traced(binding, recurrence, wish)
    if eager.concrete(jax.tree.leaves(given)):
        from seqpar.solving.solve import solve

        return solve(recurrence, wish)
    method = chosen(recurrence, wish) if wish.method == "auto" else wish.method
    chunk = chunk_of(recurrence, wish)
    solver = solver_of(method, wish, chunk, recurrence)
    plan = Plan(rows.step, recurrence.steps, solver, 0 if method == "sequential" else chunk)
    shot = _program(plan, given)
    return Solved(*shot, method, (), plan.chunk)


def traced(binding: Binding, recurrence: Recurrence, wish: Wish) -> tuple[Rows, Given]:
    """The step as a program of rows, and all arrays that it depends on."""
    n, h0 = recurrence.state, recurrence.h0
    leaves = [h0, *(jax.ShapeDtypeStruct((1, *x.shape[2:]), x.dtype) for x in recurrence.inputs)]
    check_shapes(binding, recurrence, leaves)
    rows = rows_of(recurrence.step, recurrence.params, leaves)
    bounds = None
    if wish.bounds is not None:
        low, high = (jnp.broadcast_to(jnp.asarray(x, h0.dtype), (n,)) for x in wish.bounds)
        bounds = low, high
    return rows, Given(rows.arrays, tuple(recurrence.inputs), h0, recurrence.resets, wish.guess, bounds)


def check_shapes(binding: Binding, recurrence: Recurrence, rows: Sequence[Any]) -> None:
    """The step acts on one row and on a batch that no other size is mistaken for; nothing is computed."""
    sizes = {size for leaf in rows for size in leaf.shape[1:]}
    for many in (1, next(size for size in range(3, 99) if size not in sizes)):
        h, *x = (jax.ShapeDtypeStruct((many, *leaf.shape[1:]), leaf.dtype) for leaf in rows)
        try:
            made = jax.eval_shape(lambda h, x: recurrence.step(recurrence.params, h, x), h, x)
        except Exception as error:
            shapes = ", ".join(str(leaf.shape) for leaf in x) or "none"
            error.add_note(
                f"{checks.NAME}: while step was called with h of shape {h.shape}, x of shape {shapes}. {checks.PER_SAMPLE}"
            )
            raise
        checks.check_result(binding, made, h)


def chosen(recurrence: Recurrence, wish: Wish) -> str:
    """The method that shapes suggest: chunks where time is long and there are too few sequences to fill the machine."""
    busy = recurrence.batch * recurrence.state
    most = BUSY["cpu" if jax.default_backend() == "cpu" else "other"]
    return "shooting" if recurrence.steps >= SHORTEST and busy <= most else "sequential"


BUSY = {"cpu": 128, "other": 1 << 15}
"""Numbers of all states side by side up to which more of them come nearly for free."""


def chunk_of(recurrence: Recurrence, wish: Wish) -> int:
    """Steps of a chunk: as many as there are chunks, so that loops are short and rows not too many."""
    given = getattr(wish.config, "chunk", None)
    return int(given) if given else max(64, math.isqrt(max(1, recurrence.steps)))


class _Sequential(NamedTuple):
    def __call__(self, rows: Rows, steps: int, given: Given) -> Shot:
        return exactly(states_walk(rows, given.inputs, given.h0, given.resets, steps))


class _Shooting(NamedTuple):
    aim: Aim

    def __call__(self, rows: Rows, steps: int, given: Given) -> Shot:
        walk = states_walk(rows, given.inputs, given.h0, given.resets, steps)
        return shoot(walk, starts(given, walk.chunks(self.aim.chunk), steps), self.aim)


def starts(given: Given, chunks: int, steps: int) -> Array:
    """Where chunks start before anything is known of them: (chunks, batch, n)."""
    chunk = math.ceil(steps / chunks)
    if given.guess is not None:
        before = jnp.moveaxis(given.guess[:, chunk - 1 : steps - 1 : chunk], 1, 0)
        return jnp.concat([given.h0[None], before])
    made = pattern(chunks, given.h0, 0.5 * jnp.maximum(1.0, jnp.abs(given.h0)))
    return made if given.bounds is None else jnp.clip(made, *given.bounds)


def solver_of(method: str, wish: Wish, chunk: int, recurrence: Recurrence) -> Any:
    if method == "sequential" or recurrence.steps == 0:
        return _Sequential()
    tol = wish.tol
    if tol is None:
        tol = agreement.STATED * agreement.epsilon(jnp, recurrence.h0.dtype)
    chunks = math.ceil(recurrence.steps / chunk)
    if method == "shooting":
        if wish.method == "auto":
            return _Shooting(Aim(chunk, tol, wish.max_sweeps or SWEEPS, watch=True, exact=True))
        config = wish.config if isinstance(wish.config, ShootingConfig) else ShootingConfig()
        if config.sweeps is not None:
            return _Shooting(Aim(chunk, tol, config.sweeps, fixed=True))
        return _Shooting(Aim(chunk, tol, wish.max_sweeps or chunks))
    raise NotImplementedError(method)


def _program(plan: Plan, given: Given) -> Shot:
    """One compiled program for all calls alike, so that a gradient taken without `jax.jit` is compiled once."""
    leaves, structure = jax.tree.flatten(given)

    def run(*leaves: Array) -> Shot:
        return solved(plan, jax.tree.unflatten(structure, leaves))

    if not plan.step.lasting:
        return run(*leaves)
    key = (plan.step.key, plan.steps, plan.solver, plan.chunk, structure)
    shot: Shot = eager.program(run, leaves, key)(*leaves)
    return shot
