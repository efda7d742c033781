"""Gradients of a cell's input and parameters as an operation, for which backends may have a kernel.

    cell_gradients      (x, h0, resets, weights, states, stored) -> (dx, dweights)

It is what is left of `cell_backward` once a kernel has walked back and `stored` what each step had for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.cells.gradients import gradients
from seqpar.cells.walk import CellWalk, unpacked
from seqpar.cells.walk_operation import WalkOperation, before, flat
from seqpar.dispatch.execute import execute
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import Abstract, Array, fit, register
from seqpar.dispatch.options import NO_WISH

Results = tuple[Array, ...]


def in_arrays(
    xp: Any,
    spec: CellWalk,
    x: Array,
    h0: Array,
    resets: Array | None,
    weights: Array,
    states: Array,
    stored: Array,
) -> Results:
    """The definition: products of arrays over all steps."""
    parameters = unpacked(xp, spec, weights)
    entering = before(xp, states, h0, resets)
    dx, grads = gradients(xp, spec.cell, parameters, x, entering, stored, spec.sizes)
    return fit(xp, dx, x), fit(xp, flat(xp, spec, grads, weights), weights)


def gathered(
    xp: Any,
    spec: CellWalk,
    x: Array,
    h0: Array,
    resets: Array | None,
    weights: Array,
    states: Array,
    stored: Array,
) -> Results:
    """The same by whatever serves best; on arrays, or on what a compiler traces."""
    operands, binding = (x, h0, resets, weights, states, stored), binding_for(type(stored))
    if binding.traced(stored):
        return binding.call(GRADIENTS, spec, operands, NO_WISH)
    if binding.device(stored) != "cpu":
        return in_arrays(xp, spec, *operands)
    return execute(binding, GRADIENTS, spec, operands, NO_WISH)


class _Gradients(WalkOperation):
    name = "cell_gradients"
    operands = ("x", "h0", "resets", "weights", "states", "stored")
    results = ("dx", "dweights")
    differentiable = (False,) * 6
    # Gradients of weights are sums over all devices.
    in_parts = False

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import cell_gradients

        return cell_gradients()

    def abstract(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        x, weights = operands[0], operands[3]
        assert x is not None and weights is not None
        return x, weights

    def raw(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """The gradient of x has every leading axis at its full size."""
        x, weights = self.abstract(spec, operands)
        return Abstract(self.shape_of(operands), x.dtype), weights

    def finish(
        self, xp: Any, spec: CellWalk, operands: Sequence[Any], results: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        return fit(xp, results[0], operands[0]), results[1]

    def empty(self, xp: Any, spec: CellWalk, operands: Sequence[Any]) -> Results:
        return in_arrays(xp, spec, *operands)

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "gradients of a cell have no derivative of their own: theirs go through the forward rules"
        )

    vjp = transpose = batch = jvp


GRADIENTS = _Gradients()
register(GRADIENTS)
