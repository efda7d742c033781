"""What operations of a cell's walk have in common: their spec, the axes of their operands, states and parameters in a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqpar.cells.walk import CellWalk
from seqpar.dispatch.operation import Abstract, Array, Operation


def before(xp: Any, states: Array, h0: Array, resets: Array | None) -> Array:
    """The state that enters each step: (..., T, n)."""
    first = xp.broadcast_to(xp.expand_dims(h0, axis=-2), (*states.shape[:-2], 1, states.shape[-1]))
    entering = xp.concat([first, states[..., :-1, :]], axis=-2)
    return entering if resets is None else xp.where(xp.expand_dims(resets, axis=-1), first, entering)


class WalkOperation(Operation):
    """How the walk and its backward pass read their spec."""

    def encode(self, spec: CellWalk) -> str:
        return f"{spec.spaces}\n{spec.program}"

    def decode(self, text: str) -> CellWalk:
        spaces, program = text.split("\n", 1)
        return CellWalk(program, spaces)

    def shape_of(self, operands: Sequence[Abstract | None]) -> tuple[int, ...]:
        """The shape of x with every leading axis at its full size."""
        given = [x.shape for x in operands if x is not None]
        *lead, steps, inputs = given[0]
        for i, n in enumerate(lead):
            lead[i] = next((shape[i] for shape in given if shape[i] != 1), n)
        return (*lead, steps, inputs)

    def problem(
        self, spec: CellWalk, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        shape = self.shape_of(operands)
        given = dict(zip(self.operands, operands, strict=True))
        resets, weights = given["resets"], given["weights"]
        words = ["resets"] if resets is not None else []
        if weights is not None and any(n != 1 for n in weights.shape[:-1]):
            words.append("models")
        states = (*shape[:-1], spec.state)
        return states, len(shape) - 2, (*words, spec.spaces, spec.program)

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        lead = len(shape) - 2
        own = [i if i < lead and n == shape[i] else None for i, n in enumerate(meta.shape)]
        return tuple(own)

    def resized(
        self, spec: CellWalk, operands: Sequence[Abstract | None], sizes: Mapping[int, int]
    ) -> tuple[Abstract | None, ...]:
        steps = len(self.shape_of(operands)) - 2
        behind = {"x": 1, "resets": 0, "states": 1, "g": 1, "stored": 1}

        def of_time(name: str, meta: Abstract | None) -> Abstract | None:
            if meta is None or name not in behind or steps not in sizes:
                return meta
            at = len(meta.shape) - 1 - behind[name]
            return meta._replace(shape=(*meta.shape[:at], sizes[steps], *meta.shape[at + 1 :]))

        found = super().resized(spec, operands, sizes)
        return tuple(of_time(name, meta) for name, meta in zip(self.operands, found, strict=True))

    def plausible(self, spec: CellWalk, name: str, meta: Abstract, random: Any) -> Any:
        from seqpar.dispatch.plausible import between

        if name == "weights":
            # As PyTorch starts its cells.
            bound = spec.state**-0.5
            return between(random, meta, -bound, bound)
        if name in ("states", "h0"):
            return between(random, meta, -0.9, 0.9)
        return super().plausible(spec, name, meta, random)

    def multiplications(self, spec: CellWalk, operands: Sequence[Abstract | None]) -> float:
        return float(math.prod(self.shape_of(operands)[:-1]) * spec.weights)

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        return time, len(shape) - 1


def flat(xp: Any, spec: CellWalk, grads: dict[str, Array], like: Array) -> Array:
    """Gradients of parameters (..., r, c) or (..., c) in one row."""
    rows = []
    for p in spec.cell.parameters:
        size = math.prod(p.shape(spec.sizes))
        rows.append(xp.reshape(grads[p.name], (*like.shape[:-1], size)))
    return xp.concat(rows, axis=-1)
