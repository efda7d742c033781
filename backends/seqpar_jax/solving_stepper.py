"""The user's step for eager solvers: each thing asked of it is one compiled program.

The step is traced again in every solve, so that a global it reads may change between two; the programs are kept by what the
trace says (see `eager`), so that a second solve compiles nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.dispatch.problem import Array
from seqpar.solving.recurrence import Step
from seqpar_jax import eager
from seqpar_jax.solving_rows import Rows, rows_of

Leaves = Sequence[Any]


class JaxStepper:
    """A step and its parameters, for rows (rows, n) and tiles (steps, rows, n); see `seqpar.solving.stepping`."""

    differentiable = True
    compiled = True
    independent = False

    def __init__(self, step: Step, params: Leaves, rows: Rows | None = None) -> None:
        """rows: the step traced, or None to trace it when it is first called."""
        self.step = step
        self.params = params
        self.rows = rows

    def evaluate(self, h: Array, x: Leaves) -> Array:
        return self._run(evaluate, h, x, (h, *x))

    def walk(
        self, start: Array, steps: int, x: Leaves, resets: Array | None, h0: Array, keep: bool = True
    ) -> tuple[Array | None, Array]:
        operands = [start, h0, *x] if resets is None else [start, h0, *x, resets]
        walk = TileWalk(steps, resets is not None, keep)
        states, end = self._run(walk, start, [leaf[0] for leaf in x], operands)
        return states, end

    def jvp(self, h: Array, x: Leaves, tangent: Array) -> Array:
        return self._run(jvp, h, x, (h, tangent, *x))

    def jacobian(self, h: Array, x: Leaves) -> Array:
        return self._run(jacobian, h, x, (h, *x))

    def _run(self, task: Any, h: Array, x: Leaves, operands: Sequence[Array]) -> Any:
        """task(rows, *operands), compiled."""
        if self.rows is None:
            self.rows = rows_of(self.step, self.params, [h, *x])
        step, arrays = self.rows
        many = len(arrays)

        def run(*given: Array) -> Any:
            return task(Rows(step, given[:many]), *given[many:])

        given = [*arrays, *operands]
        if not step.lasting:
            return run(*given)
        return eager.program(run, given, (step.key, many, task))(*given)


def evaluate(rows: Rows, h: Array, *x: Array) -> Array:
    return rows(h, x)


def jvp(rows: Rows, h: Array, tangent: Array, *x: Array) -> Array:
    moved: Array = jax.jvp(lambda h: rows(h, x), (h,), (tangent,))[1]
    return moved


def jacobian(rows: Rows, h: Array, *x: Array) -> Array:
    """One tangent for each number of the state, all of them in one product."""
    _, push = jax.linearize(lambda h: rows(h, x), h)
    unit = jnp.eye(h.shape[-1], dtype=h.dtype)
    columns: Array = jax.vmap(lambda v: push(jnp.broadcast_to(v, h.shape)), out_axes=-1)(unit)
    return columns


class TileWalk(NamedTuple):
    """Rows through the steps of a tile."""

    steps: int
    resets: bool
    keep: bool

    def __call__(self, rows: Rows, start: Array, h0: Array, *x: Array) -> tuple[Array | None, Array]:
        def at(h: Array, reads: Sequence[Array]) -> tuple[Array, Array | None]:
            if self.resets:
                *reads, reset = reads
                h = jnp.where(reset, h0, h)
            h = rows(h, reads)
            return h, h if self.keep else None

        end, states = lax.scan(at, start, list(x), length=self.steps)
        return states, end
