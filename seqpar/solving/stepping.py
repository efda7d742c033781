"""What the solvers need of a step function, in whatever framework it is written.

`Stepper` is the contract; each binding makes its own. The one below needs nothing but the array API: Python loops over the
steps of a tile, all rows at once. A row is one chunk of one sequence, and time is the first axis of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from array_api_compat import device

from seqpar.algorithms.arrays import read_only
from seqpar.dispatch.problem import Array

if TYPE_CHECKING:
    from seqpar.solving.recurrence import Step

Leaves = Sequence[Any]


class Stepper(Protocol):
    """The user's step with its parameters. rows: (rows, n); tile: (steps, rows, n); inputs likewise, a leaf each."""

    differentiable: bool
    """Has the framework derivatives of its own?"""
    compiled: bool
    """Does another number of rows mean another compilation?"""
    independent: bool
    """Is a row's result the same to the bit whatever the other rows are? Not where a step goes through BLAS."""

    def evaluate(self, h: Array, x: Leaves) -> Array:
        """One step of each row: h (rows, n), x leaves (rows, ...) -> (rows, n)."""

    def walk(
        self, start: Array, steps: int, x: Leaves, resets: Array | None, h0: Array, keep: bool = True
    ) -> tuple[Array | None, Array]:
        """All rows through the steps of a tile: every state (steps, rows, n), or None unless `keep`, and the last ones.

        start, h0: (rows, n); x leaves: (steps, rows, ...), maybe none; resets: (steps, rows, 1), where h0 is what enters.
        """

    def jvp(self, h: Array, x: Leaves, tangent: Array) -> Array:
        """The derivative of `evaluate` by h along a tangent (rows, n)."""

    def jacobian(self, h: Array, x: Leaves) -> Array:
        """The derivative of `evaluate` by h: (rows, n, n), [row, i, j] = d out_i / d h_j."""


class PlainStepper:
    """A step in a framework of which nothing more is known than that it speaks the array API."""

    differentiable = False
    compiled = False
    independent = False

    def __init__(self, namespace: Callable[[Array], Any], step: Step, params: Leaves) -> None:
        self.namespace = namespace
        self.step = step
        self.params = params

    def evaluate(self, h: Array, x: Leaves) -> Array:
        return self.step(self.params, h, x)

    def walk(
        self, start: Array, steps: int, x: Leaves, resets: Array | None, h0: Array, keep: bool = True
    ) -> tuple[Array | None, Array]:
        return walk(self.namespace(start), self.step, self.params, start, steps, x, resets, h0, keep)

    def jvp(self, h: Array, x: Leaves, tangent: Array) -> Array:
        from seqpar.solving.differences import jvp

        return jvp(self.namespace(h), self.evaluate, h, x, tangent)

    def jacobian(self, h: Array, x: Leaves) -> Array:
        from seqpar.solving.differences import jacobian

        return jacobian(self.namespace(h), self.evaluate, h, x)


def walk(
    xp: Any,
    step: Step,
    params: Leaves,
    start: Array,
    steps: int,
    x: Leaves,
    resets: Array | None,
    h0: Array,
    keep: bool,
) -> tuple[Array | None, Array]:
    """`Stepper.walk` as a Python loop, for every framework that computes at once and can write into its arrays."""
    # What is looked up here is not looked up in each step: 1 microsecond of 5 for a small cell in NumPy.
    function, whole, params = step.function, step.inputs, step.params.tree_of(params)
    x = [read_only(leaf) for leaf in x]
    single = x[0] if whole.kind is None else None
    # A step may return the state that it is given, and ends are written into: what enters and what leaves are copies.
    h = xp.astype(start, start.dtype, copy=True)
    states = xp.empty((steps, *h.shape), dtype=h.dtype, device=device(h)) if keep else None
    for t in range(steps):
        if resets is not None:
            h = xp.where(resets[t, ...], h0, h)
        if single is not None:
            h = function(params, h, single[t, ...])
        else:
            h = function(params, h, whole.tree_of([leaf[t, ...] for leaf in x]))
        if states is not None:
            states[t, ...] = h
    return states, xp.astype(h, h.dtype, copy=True)
