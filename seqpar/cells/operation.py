"""A cell walked over all steps, as an operation that backends may have kernels for, and its backward pass.

    cell            states[t] = step(weights, states[t-1], x[t]), states[-1] = h0, and h0 again where resets[t]
    cell_backward   the gradients of x, h0 and weights in one walk the other way, over states that are known

Operands are x (..., T, m), h0 (..., n), resets (..., T) or None, and all parameters in one row, weights (..., w): leading axes
are of one rank and of full size or one, so that under vmap every model can have its own. A cell's program travels in the spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.cells import evaluation
from seqpar.cells.gradients import gradients
from seqpar.cells.gradients_operation import gathered
from seqpar.cells.walk import CellWalk, unpacked
from seqpar.cells.walk_operation import WalkOperation, before, flat
from seqpar.dispatch.operation import Abstract, Array, Solve, batched, fit, register

Results = tuple[Array, ...]


class _Cell(WalkOperation):
    name = "cell"
    operands = ("x", "h0", "resets", "weights")
    results = ("states", "sweeps")
    differentiable = (True, True, False, True)
    fused_backward = "cell_backward"
    of_method = ("sweeps",)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import cells

        return cells()

    def abstract(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        shape = self.shape_of(operands)
        x = operands[0]
        assert x is not None
        return Abstract((*shape[:-1], spec.state), x.dtype), Abstract(shape[:-2], "int32")

    def empty(self, xp: Any, spec: CellWalk, operands: Sequence[Any]) -> Results:
        return sequential(xp, spec, *operands)

    def backward_operands(
        self,
        spec: CellWalk,
        operands: Sequence[Array | None],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
    ) -> tuple[Array | None, ...] | None:
        if cotangents[0] is None:
            return None
        return (*operands, results[0], cotangents[0])

    def jvp(
        self,
        xp: Any,
        spec: CellWalk,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        from seqpar.matrix_recurrence import matrix_recurrence

        x, h0, resets, weights = operands
        dx, dh0, _, dweights = tangents
        states = results[0]
        if dx is None and dh0 is None and dweights is None:
            return None, None
        entering = before(xp, states, h0, resets)
        parameters = unpacked(xp, spec, weights)
        along = None if dweights is None else unpacked(xp, spec, dweights)
        pushed = evaluation.pushed(
            xp, spec.cell, parameters, entering, x, spec.sizes, dx=dx, dparameters=along
        )
        pushed = xp.broadcast_to(pushed, states.shape)
        slopes = _slopes(xp, spec, parameters, entering, x)
        if resets is not None and dh0 is not None:
            # After a reset the state is h0 again, and so is its tangent.
            entered = (slopes @ xp.expand_dims(xp.expand_dims(dh0, axis=-2), axis=-1))[..., 0]
            pushed = pushed + xp.where(xp.expand_dims(resets, axis=-1), entered, xp.zeros_like(entered))
        found = matrix_recurrence(slopes, pushed, dh0, resets=resets)
        return found, None

    def vjp(
        self,
        xp: Any,
        spec: CellWalk,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        from seqpar.matrix_recurrence import matrix_recurrence

        x, h0, resets, weights = operands
        g = cotangents[0]
        if g is None:
            return (None,) * 4
        states = results[0]
        entering = before(xp, states, h0, resets)
        parameters = unpacked(xp, spec, weights)
        turned = xp.matrix_transpose(_slopes(xp, spec, parameters, entering, x))
        # lam[t] = g[t] + J[t+1]^T lam[t+1]: the matrices of a step later, and none after the last.
        later = xp.concat([turned[..., 1:, :, :], xp.zeros_like(turned[..., :1, :, :])], axis=-3)
        dropped = None
        if resets is not None:
            marks = xp.broadcast_to(resets, states.shape[:-1])
            dropped = xp.concat([marks[..., 1:], xp.zeros_like(marks[..., :1])], axis=-1)
        lam = matrix_recurrence(later, g, reverse=True, resets=dropped)
        return self.pulled(xp, spec, operands, entering, lam, wanted)

    def pulled(
        self,
        xp: Any,
        spec: CellWalk,
        operands: Sequence[Any],
        entering: Array,
        lam: Array,
        wanted: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Gradients of the operands from those of the states, with all that follows from later steps in them."""
        x, h0, resets, weights = operands
        parameters = unpacked(xp, spec, weights)
        entered, stored = evaluation.pulled(xp, spec.cell, parameters, entering, x, lam, spec.sizes)
        dx, grads = gradients(xp, spec.cell, parameters, x, entering, stored, spec.sizes)
        dh0 = _of_start(xp, entered, resets)
        return (
            fit(xp, dx, x) if wanted[0] else None,
            fit(xp, dh0, h0) if wanted[1] else None,
            None,
            fit(xp, flat(xp, spec, grads, weights), weights) if wanted[3] else None,
        )

    def transpose(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a cell is not linear in any of its operands")

    def batch(
        self, xp: Any, spec: CellWalk, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[Any, tuple[Array | None, ...]]:
        return spec, batched(xp, operands, axes, (0, 1, 3))


class _Backward(WalkOperation):
    name = "cell_backward"
    operands = ("x", "h0", "resets", "weights", "states", "g")
    results = ("dx", "dh0", "dweights")
    differentiable = (False,) * 6
    written = ("stored", "entered")

    def abstract(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        x, h0, _, weights = operands[:4]
        assert x is not None and h0 is not None and weights is not None
        return x, h0, weights

    def raw(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """What a kernel writes: what each step stores, and the gradient of the state that enters the first.

        With resets, of the state that enters each step (..., T, n).
        """
        shape = self.shape_of(operands)
        x, resets = operands[0], operands[2]
        assert x is not None
        entered = (*shape[:-2], spec.state) if resets is None else (*shape[:-1], spec.state)
        return Abstract((*shape[:-1], spec.stored), x.dtype), Abstract(entered, x.dtype)

    def finish(
        self, xp: Any, spec: CellWalk, operands: Sequence[Any], results: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        x, h0, resets, weights, states, _ = operands
        stored, entered = results
        dx, dweights = gathered(xp, spec, x, h0, resets, weights, states, stored)
        dh0 = entered if resets is None else _of_start(xp, entered, resets)
        return dx, fit(xp, dh0, h0), dweights

    def empty(self, xp: Any, spec: CellWalk, operands: Sequence[Any]) -> Results:
        return backward(xp, spec, *operands)

    def jvp(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "the fused backward has no derivative of its own: derivatives of it go through the forward rules"
        )

    vjp = transpose = batch = jvp


def _of_start(xp: Any, entered: Array, resets: Array | None) -> Array:
    """The gradient of h0 from those of the states that enter each step: it enters the first, and after each reset."""
    first = entered[..., 0, :]
    if resets is None:
        return first
    again = xp.where(xp.expand_dims(resets, axis=-1), entered, xp.zeros_like(entered))
    return first + xp.sum(again[..., 1:, :], axis=-2)


def _slopes(xp: Any, spec: CellWalk, parameters: dict[str, Array], entering: Array, x: Array) -> Array:
    """The Jacobian of every step: (..., T, n, n)."""
    wide = {
        p.name: xp.expand_dims(parameters[p.name], axis=-3)
        if parameters[p.name].ndim > 2
        else parameters[p.name]
        for p in spec.cell.parameters
    }
    return evaluation.jacobian(xp, spec.cell, wide, entering, x, spec.sizes)


def sequential(xp: Any, spec: CellWalk, x: Array, h0: Array, resets: Array | None, weights: Array) -> Results:
    """The definition: a loop over the steps."""
    # In arrays (..., 1, n), so that products with weights that have leading axes broadcast.
    parameters = unpacked(xp, spec, weights)
    steps = x.shape[-2]
    lead = CELL.shape_of([Abstract(tuple(a.shape), "") for a in (x, h0, weights)])[:-2]
    start = xp.broadcast_to(xp.expand_dims(h0, axis=-2), (*lead, 1, spec.state))
    h, states = start, []
    for t in range(steps):
        if resets is not None:
            h = xp.where(xp.expand_dims(resets[..., t : t + 1], axis=-1), start, h)
        h = evaluation.step(xp, spec.cell, parameters, h, x[..., t : t + 1, :], spec.sizes)
        states.append(h)
    found = xp.concat(states, axis=-2) if states else xp.zeros_like(start[..., :0, :])
    sweeps = xp.astype(xp.ones_like(found[..., 0, 0] if steps else start[..., 0, 0]), xp.int32)
    return found, sweeps


def backward(
    xp: Any,
    spec: CellWalk,
    x: Array,
    h0: Array,
    resets: Array | None,
    weights: Array,
    states: Array,
    g: Array,
) -> Results:
    """The backward pass by its definition: a loop over the steps, from the last."""
    parameters = unpacked(xp, spec, weights)
    entering = before(xp, states, h0, resets)
    steps = states.shape[-2]
    lam = xp.zeros_like(entering[..., :1, :])
    lams: list[Any] = []
    for t in reversed(range(steps)):
        total = lam + g[..., t : t + 1, :]
        lams.append(total)
        here, now = entering[..., t : t + 1, :], x[..., t : t + 1, :]
        lam, _ = evaluation.pulled(xp, spec.cell, parameters, here, now, total, spec.sizes)
        if resets is not None:
            lam = xp.where(xp.expand_dims(resets[..., t : t + 1], axis=-1), xp.zeros_like(lam), lam)
    if not steps:
        zeros = xp.zeros_like
        return zeros(x), zeros(h0), zeros(weights)
    found = CELL.pulled(
        xp, spec, (x, h0, resets, weights), entering, xp.concat(lams[::-1], axis=-2), (True,) * 4
    )
    return found[0], found[1], found[3]


CELL, BACKWARD = _Cell(), _Backward()
register(CELL)
register(BACKWARD)
