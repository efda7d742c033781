"""A cell as the solvers of any step see it: walks of whole tiles by a kernel, everything else as the framework does it.

For what goes the general way although the step is a cell: a tolerance, a guess, bounds, Newton's methods. The chunks that these
walk side by side are rows of one call of the operation "cell".
"""

from __future__ import annotations

from typing import Any

from seqpar.cells.cell import Cell
from seqpar.cells.operation import CELL
from seqpar.cells.walk import CellWalk, packed, walk_of
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array
from seqpar.solving.stepping import Leaves, Stepper

STEP_BY_STEP = Request(method="sequential")


class CellStepper:
    """A framework's own stepper of a cell, with a faster walk."""

    def __init__(self, own: Stepper, binding: Binding, cell: Cell, params: Any) -> None:
        self.own = own
        self.binding = binding
        self.cell = cell
        self.params = params

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def walk(
        self, start: Array, steps: int, x: Leaves, resets: Array | None, h0: Array, keep: bool = True
    ) -> tuple[Array | None, Array]:
        if resets is not None or 0 in (steps, *start.shape):
            # The operation knows one state that enters, after resets as at the start.
            return self.own.walk(start, steps, x, resets, h0, keep)
        xp = self.binding.namespace(start)
        spec: CellWalk = walk_of(self.cell.program, self.cell.sizes(self.params))
        weights = xp.expand_dims(packed(xp, spec, self.params, start), axis=0)
        rows = xp.permute_dims(x[0], (1, 0, 2))
        states, _ = self.binding.call(CELL, spec, (rows, start, None, weights), STEP_BY_STEP)
        end = xp.astype(states[:, -1, :], states.dtype, copy=True)
        return xp.permute_dims(states, (1, 0, 2)) if keep else None, end


def stepper_of(own: Stepper, binding: Binding, cell: Cell, params: Any, like: Array) -> Stepper:
    """The stepper of a cell's recurrence: the framework's own, but for walks, where some backend has a kernel for them."""
    from seqpar.cells.solving import served

    # Where every number of rows is a compilation of its own, calls of a kernel are no gain.
    if own.compiled or 0 in like.shape or not served(cell, binding, params, like):
        return own
    return CellStepper(own, binding, cell, params)
