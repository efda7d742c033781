"""`solve_recurrence` for JAX: one program in JAX's control flow, for traced arrays and others alike.

Arrays that are traced have no values to judge, so the method follows from shapes alone, and there `throw` can only say
`converged`. Calls with values run the same program, compiled and kept: driven from Python, every function of an array between
the sweeps would be a program of its own. `shooting_newton` alone is driven from Python, and needs values.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.explain import grounds
from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError
from seqpar.solving import agreement, checks, jacobians
from seqpar.solving.chunks import cut
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.solve import solve as solve_by_values
from seqpar.solving.tolerance import ROUNDING
from seqpar.solving.wish import METHODS, Wish
from seqpar_jax import eager
from seqpar_jax.solving_newton import SWEEPS as NEWTON_SWEEPS
from seqpar_jax.solving_newton import NewtonSolver
from seqpar_jax.solving_rows import Rows, RowStep, rows_of
from seqpar_jax.solving_shooting import Aim, Shot, exactly, pattern, shoot
from seqpar_jax.solving_stepper import JaxStepper
from seqpar_jax.solving_traced import Given, Plan, Solver, solved
from seqpar_jax.solving_walking import states_walk

SHORTEST = 1024
"""Steps from which on time is cut without being asked."""

BUSY = {"cpu": 24, "other": 1 << 15}
"""Up to which n (batch + 1) chunks are tried without being asked, by platform.

XLA's loops on a CPU take so little for a step that more rows side by side soon cost more than fewer steps save. T = 8,192, n = 8,
milliseconds step by step and in chunks: an Elman network 0.6 and 1.0 for one sequence, 4.1 and 1.4 for two, 4.0 and 2.6 for four;
a GRU 1.7 and 3.6, 7.4 and 6.6, 9.5 and 16."""

SWEEPS = 5
"""Sweeps that an automatic choice allows before it walks step by step."""


def solve(binding: Binding, recurrence: Recurrence, wish: Wish) -> Solved:
    """The recurrence, in one program."""
    rows, wish = _rows(binding, recurrence), _as_measured(wish)
    given = Given(
        rows.arrays, tuple(recurrence.inputs), recurrence.h0, recurrence.resets, wish.guess, wish.bounds
    )
    if wish.method == "shooting_newton" and eager.concrete(jax.tree.leaves(given)):
        return solve_by_values(recurrence, wish, JaxStepper(recurrence.step, recurrence.params, rows))
    if 0 in (recurrence.batch, recurrence.steps, recurrence.state):
        return _nothing(recurrence)
    method = _method(recurrence, wish)
    solver, slope = _solver(recurrence, wish, method)
    # A recurrence that was cut answers to changes in chunks too; all of them do where time is long.
    cut = method == "shooting" or (method != "sequential" and _long(recurrence))
    plan = Plan(rows.step, recurrence.steps, solver, _chunk(recurrence, wish) if cut else 0)
    shot = _program(plan, given._replace(slope=slope))
    if wish.method == "auto" and method == "shooting":
        return Solved(*shot, _taken(shot), (), plan.chunk)
    return Solved(*shot, method, (), plan.chunk)


def _taken(shot: Shot) -> Any:
    """The number of the method that made the states: the sequential one where chunks have agreed in no sequence.

    Rounding alone leaves an estimate of more than nothing where they have.
    """
    alone = jnp.all(shot.error_estimate == 0)
    number = jnp.where(alone, METHODS.index("sequential"), METHODS.index("shooting"))
    return number if isinstance(number, jax.core.Tracer) else int(number)


def plan_by_shapes(recurrence: Recurrence, wish: Wish) -> tuple[str, ShootingConfig | None, str]:
    """What the automatic choice takes, and why: the same for traced arrays and others."""
    if wish.decision is not None:
        wish, method = _as_measured(wish), wish.decision.method
        chunk = _chunk(recurrence, wish)
        knobs = None if method == "sequential" else ShootingConfig(chunk=chunk, burn_in=_burn_in(wish, chunk))
        row = wish.decision.row
        return method, knobs, "measured before" if row is None else grounds(row)
    steps, rows = recurrence.steps, recurrence.batch
    if _long(recurrence):
        chunk = _chunk(recurrence, wish)
        why = f"by sizes alone: {steps} steps are many, {rows} sequences of {recurrence.state} numbers leave room for more rows"
        return "shooting", ShootingConfig(chunk=chunk, burn_in=_burn_in(wish, chunk)), why
    return "sequential", None, f"by sizes alone: chunks do not pay for {steps} steps of {rows} sequences"


def _rows(binding: Binding, recurrence: Recurrence) -> Rows:
    """The step as a program of rows."""

    def check(made: Any, h: Any) -> None:
        checks.check_result(binding, made, h)

    return rows_of(recurrence.step, recurrence.params, _leaves(recurrence), check)


def _leaves(recurrence: Recurrence) -> list[Any]:
    """What the step is called with: shapes and dtypes of h and of the leaves of x."""
    return [recurrence.h0, *(jax.ShapeDtypeStruct((1, *x.shape[2:]), x.dtype) for x in recurrence.inputs)]


def _as_measured(wish: Wish) -> Wish:
    """With the knobs of the stored result that an automatic choice follows, if there is one."""
    return wish if wish.decision is None else wish._replace(config=wish.decision.config)


def _method(recurrence: Recurrence, wish: Wish) -> str:
    """The method that was asked for, or that shapes suggest: chunks, where time is long and sequences are too few to fill the
    machine."""
    if wish.method != "auto":
        return wish.method
    if wish.decision is not None:
        return str(wish.decision.method)
    return "shooting" if _long(recurrence) else "sequential"


def _long(recurrence: Recurrence) -> bool:
    on_cpu = _platform(recurrence.h0) == "cpu"
    if recurrence.steps < SHORTEST or (on_cpu and recurrence.batch == 1):
        return False
    return recurrence.state * (recurrence.batch + 1) <= BUSY["cpu" if on_cpu else "other"]


def _platform(x: Array) -> str:
    """Of an array; of one that is traced, the platform that JAX takes by itself."""
    if isinstance(x, jax.core.Tracer) or not isinstance(x, jax.Array):
        return str(jax.default_backend())
    return str(next(iter(x.devices())).platform)


def _chunk(recurrence: Recurrence, wish: Wish) -> int:
    """Steps of a chunk: by default about as many as there are chunks, so that loops are short and rows not too many."""
    given = getattr(wish.config, "chunk", None)
    longest = given or max(32, math.isqrt(recurrence.steps))
    return cut(recurrence.steps, recurrence.batch, longest).chunk


def _burn_in(wish: Wish, chunk: int) -> int:
    """Steps before each chunk: by default none where a guess says more than they would."""
    asked = getattr(wish.config, "burn_in", None)
    if asked is None:
        return chunk // 2 if wish.guess is None else 0
    return min(int(asked), chunk)


def _solver(recurrence: Recurrence, wish: Wish, method: str) -> tuple[Solver, Any]:
    """The method with its knobs, and the arrays that the user's Jacobian reads."""
    unit = agreement.epsilon(jnp, recurrence.h0.dtype)
    if method == "sequential":
        return _Sequential(), ()
    if method == "shooting":
        chunk, tol = _chunk(recurrence, wish), agreement.STATED * unit if wish.tol is None else wish.tol
        burn_in = _burn_in(wish, chunk)
        if wish.method == "auto":
            most = wish.max_sweeps or SWEEPS
            return _Shooting(Aim(chunk, tol, most, burn_in, watch=True, exact=True)), ()
        fixed = wish.config.sweeps if isinstance(wish.config, ShootingConfig) else None
        if fixed is not None:
            return _Shooting(Aim(chunk, tol, fixed, burn_in, fixed=True)), ()
        most = wish.max_sweeps or math.ceil(recurrence.steps / chunk)
        return _Shooting(Aim(chunk, tol, most, burn_in)), ()
    if method == "shooting_newton":
        raise NotEligibleError(
            f"{checks.NAME}: method='shooting_newton' inside jax.jit or under a gradient: it reads values. Take "
            "method='shooting' or 'newton' there, or 'auto'."
        )
    config = wish.config if isinstance(wish.config, NewtonConfig) else NewtonConfig()
    if config.window is not None:
        raise NotEligibleError(
            f"{checks.NAME}: window={config.window} in JAX, where one program iterates over all steps at once. Leave it out."
        )
    part = replace(jacobians.wished(recurrence, wish), open=False)
    slope: RowStep | None = None
    arrays: tuple[Array, ...] = ()
    if callable(wish.jacobian):
        function = replace(recurrence.step, function=wish.jacobian)
        slope, arrays = rows_of(function, recurrence.params, _leaves(recurrence), name="jacobian")
        part = replace(part, function=None)
    tol = ROUNDING * unit if wish.tol is None else wish.tol
    most = wish.max_sweeps or min(recurrence.steps + 1, NEWTON_SWEEPS)
    return NewtonSolver(part, slope, tol, most, config.damping, config.scale), arrays


@dataclass(frozen=True)
class _Sequential:
    def __call__(self, rows: Rows, steps: int, given: Given) -> Shot:
        return exactly(states_walk(rows, given.inputs, given.h0, given.resets, steps))


@dataclass(frozen=True)
class _Shooting:
    aim: Aim

    def __call__(self, rows: Rows, steps: int, given: Given) -> Shot:
        walk = states_walk(rows, given.inputs, given.h0, given.resets, steps)
        return shoot(walk, _starts(given, walk.chunks(self.aim.chunk), steps), self.aim)


def _starts(given: Given, chunks: int, steps: int) -> Array:
    """Where chunks start before anything is known of them: (chunks, batch, n)."""
    if given.guess is not None:
        chunk = math.ceil(steps / chunks)
        before = jnp.moveaxis(given.guess[:, chunk - 1 : steps - 1 : chunk], 1, 0)
        made = jnp.concat([given.h0[None], before])
    else:
        made = pattern(chunks, given.h0, 0.5 * jnp.maximum(1, jnp.abs(given.h0)))
    return made if given.bounds is None else jnp.clip(made, *given.bounds)


def _nothing(recurrence: Recurrence) -> Solved:
    batch = recurrence.batch
    states = jnp.zeros((batch, recurrence.steps, recurrence.state), recurrence.h0.dtype)
    zero = jnp.zeros(batch, agreement.size(jnp, jnp.ones((1, 1), states.dtype)).dtype)
    return Solved(states, jnp.ones(batch, bool), jnp.ones(batch, jnp.int32), zero, zero, "sequential")


def _program(plan: Plan, given: Given) -> Shot:
    """One compiled program for all calls alike, so that a gradient taken without `jax.jit` is compiled once."""
    leaves, structure = jax.tree.flatten(given)

    def run(*leaves: Array) -> Shot:
        return solved(plan, jax.tree.unflatten(structure, leaves))

    slope = getattr(plan.solver, "slope", None)
    if not plan.step.lasting or not (slope is None or slope.lasting):
        return run(*leaves)
    key = (plan, structure)
    shot: Shot = eager.program(run, leaves, key)(*leaves)
    return shot
