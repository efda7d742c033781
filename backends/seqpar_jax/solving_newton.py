"""Newton's methods over all of time in JAX's control flow: one iteration after the other in a `while_loop`, with a cap.

What an iteration is, is the library's (`seqpar.solving.iteration`); the Jacobian's part is settled before anything is traced
(`seqpar.solving.jacobians.wished`), as what reads values cannot be. Sequences that are right, or at their first step that
returns no number, are frozen; the latter are walked step by step, since what comes after is part of the answer too.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.dispatch.problem import Array
from seqpar.solving.damping import Damping, stronger
from seqpar.solving.gains import measured
from seqpar.solving.iteration import entering, flat, projected, residuals, solution
from seqpar.solving.jacobians import Pattern, linearise
from seqpar.solving.recurrence import Recurrence
from seqpar_jax.solving_rows import Rows, RowStep
from seqpar_jax.solving_shooting import Shot, completed
from seqpar_jax.solving_stepper import Leaves, TileWalk, evaluate, jacobian, jvp
from seqpar_jax.solving_traced import Given
from seqpar_jax.solving_walking import states_walk

SWEEPS = 200
"""Iterations after which no other one is begun, unless the user says how many."""


@dataclass(frozen=True)
class NewtonSolver:
    """One of Newton's methods as a solver of a `Plan`."""

    pattern: Pattern
    slope: RowStep | None
    """The user's Jacobian, whose arrays are `Given.slope`."""
    tol: float
    most: int
    damping: float | None
    variance: float | None

    def __call__(self, rows: Rows, steps: int, given: Given) -> Shot:
        h0, batch = given.h0, given.h0.shape[0]
        stepper, pattern, resets = _Stepper(rows), self._pattern(given), given.resets
        signs = _signs(self.pattern.probes, (batch * steps, h0.shape[-1]), h0.dtype)
        inputs = [flat(jnp, x) for x in given.inputs]
        zero = jnp.zeros(batch, h0.dtype)

        def sweep(state: _Iterations) -> _Iterations:
            h, open_ = state.h, ~(state.right | state.broken)
            before = flat(jnp, entering(jnp, h, h0, h0, resets))
            r, relative = residuals(jnp, h, stepper.evaluate(before, inputs).reshape(h.shape))
            residual = jnp.max(relative, axis=1)
            wrong = ~(relative <= self.tol)
            right = ~jnp.any(wrong, axis=1)
            exact = jnp.argmax(wrong, axis=1)
            broken = ~right & jnp.isinf(jnp.take_along_axis(relative, exact[:, None], axis=1)[:, 0])
            known = jnp.isfinite(relative)
            size = jnp.max(jnp.where(known, jnp.max(jnp.abs(r), axis=-1), jnp.inf), axis=1)
            k, mark, place, waited = state.damping
            damping = Damping(k, mark, place, waited, free).watched(
                jnp, size, exact.astype(size.dtype), steps
            )
            now = jnp.maximum(damping.now(jnp, residual), state.held)
            part = linearise(jnp, stepper, pattern, before, inputs, signs)
            d = solution(jnp, pattern, part, r, resets, known, now, self.variance)
            new = projected(jnp, h + d, given.bounds)
            finite = jnp.all(jnp.isfinite(new), axis=(1, 2))
            moves = open_ & finite & ~right & ~broken
            new = jnp.where(moves[:, None, None], new, h)
            # An update that is no number is not made: the next one is held back more, at last without any Jacobian.
            higher = stronger(jnp, now)
            held = jnp.where(finite, 0, jnp.where(higher > now, higher, 1))
            return _Iterations(
                state.taken + 1,
                new,
                jnp.where(open_, right, state.right),
                jnp.where(open_, broken, state.broken),
                jnp.where(open_, state.taken + 1, state.sweeps),
                jnp.where(open_, residual, state.residual),
                (damping.k, damping.mark, damping.place, damping.waited),
                held,
            )

        def going(state: _Iterations) -> Array:
            return (state.taken < self.most) & jnp.any(~(state.right | state.broken))

        free = self.damping is None and self.variance is None
        nobody = jnp.zeros(batch, bool)
        start = (zero + (self.damping or 0), zero + jnp.inf, zero, zero)
        first = _Iterations(
            jnp.int32(0), _guessed(stepper, given, steps), nobody, nobody, jnp.zeros(batch, jnp.int32),
            zero + jnp.inf, start, zero,
        )  # fmt: skip
        last = lax.while_loop(going, sweep, first)
        # Chunks are walked from arrays alone: neither the step of a `Recurrence` nor its parameters are asked for.
        nothing: Any = None
        arrays = Recurrence(nothing, jnp, nothing, (), given.inputs, h0, resets, batch, steps)
        found = measured(arrays, stepper, last.h, traced=True)
        estimate = jnp.maximum(found.error_estimate.astype(last.residual.dtype), last.residual)
        lost = last.broken | (last.right & found.undefined)
        shot = Shot(last.h, last.right & jnp.isfinite(estimate), last.sweeps, last.residual, estimate)
        return completed(states_walk(rows, given.inputs, h0, resets, steps), shot, lost)

    def _pattern(self, given: Given) -> Pattern:
        if self.slope is None:
            return self.pattern
        slope = Rows(self.slope, given.slope)
        return replace(self.pattern, function=lambda h, x: slope(h, x))


class _Iterations(NamedTuple):
    taken: Array
    h: Array
    """(batch, steps, n)."""
    right: Array
    """(batch,), like all below; `damping` holds several."""
    broken: Array
    """Right up to a step that returns no number."""
    sweeps: Array
    residual: Array
    damping: tuple[Array, Array, Array, Array]
    held: Array
    """Least damping of the next update."""


class _Stepper:
    """A step inside a program; see `seqpar.solving.stepping.Stepper`."""

    differentiable = True
    compiled = True
    independent = False

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def evaluate(self, h: Array, x: Leaves) -> Array:
        return evaluate(self.rows, h, *x)

    def walk(
        self, start: Array, steps: int, x: Leaves, resets: Array | None, h0: Array, keep: bool = True
    ) -> tuple[Array | None, Array]:
        operands = [*x] if resets is None else [*x, resets]
        return TileWalk(steps, resets is not None, keep)(self.rows, start, h0, *operands)

    def jvp(self, h: Array, x: Leaves, tangent: Array) -> Array:
        return jvp(self.rows, h, tangent, *x)

    def jacobian(self, h: Array, x: Leaves) -> Array:
        return jacobian(self.rows, h, *x)


def _guessed(stepper: _Stepper, given: Given, steps: int) -> Array:
    """The user's states, or one step from h0 each; something to linearise around wherever that is no number."""
    h0 = jnp.broadcast_to(given.h0[:, None], (given.h0.shape[0], steps, given.h0.shape[1]))
    h = given.guess
    if h is None:
        h = stepper.evaluate(flat(jnp, h0), [flat(jnp, x) for x in given.inputs]).reshape(h0.shape)
    h = jnp.where(jnp.isfinite(h), h, jnp.where(jnp.isfinite(h0), h0, 0))
    guess: Array = projected(jnp, h, given.bounds)
    return guess


def _signs(probes: int, shape: tuple[int, ...], dtype: Any) -> list[Array]:
    """-1 and 1 at random, the same in every call."""
    if not probes:
        return []
    return list(jax.random.rademacher(jax.random.key(0), (probes, *shape)).astype(dtype))
