"""What the conformance suite asks of kernels that walk recurrent cells, and of their backward pass.

The shape of an example is that of the states; operands are canonical, as kernels get them, with all parameters in one row. The
network forgets, so an error of one step is soon gone, and bounds are a number of roundings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

import seqpar
from seqpar import cells
from seqpar.cells.cell import Cell
from seqpar.cells.gradients_operation import GRADIENTS, in_arrays
from seqpar.cells.operation import BACKWARD, CELL, backward, sequential
from seqpar.cells.walk import CellWalk, unpacked, walk_of
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.testing.examples import Answers, Array, Example

ROUNDINGS = 64
"""Of numbers of about one: a step adds up some dozens of products, and forgets most of the step before."""
PASSES = 1000
"""A kernel may walk as often as it likes to find the states; it says how often."""


@dataclass(frozen=True, kw_only=True)
class CellExample(Example):
    """One walk of a cell."""

    operation: ClassVar[str] = "cell"
    fused_backward: ClassVar[str | None] = "cell_backward"

    axis: int = -2
    name: str = "gru"
    inputs: int = 3
    resets: float = 0.0
    """The share of steps that are reset; 0 for no mask."""
    models: int = 0
    """Leading axes along which every sequence has weights of its own."""

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "CellExample":
        return cls(shape=(batch, time, width), **fields)

    @property
    def cell(self) -> Cell:
        found: Cell = getattr(cells, self.name)
        return found

    @property
    def walk(self) -> CellWalk:
        """The static part of the operation."""
        hidden = self.shape[-1] // len(self.cell.parts)
        return walk_of(self.cell.program, {"inputs": self.inputs, "hidden": hidden})

    def operands(self) -> tuple[Array | None, ...]:
        lead, steps = self.shape[:-2], self.shape[-2]
        hidden = max(1, self.shape[-1] // len(self.cell.parts))
        apart = (*lead[: self.models], *(1,) * (len(lead) - self.models))
        weights = self.numbers(3, (*apart, self.walk.weights), self.dtype) / np.sqrt(hidden)
        marks = None
        if self.resets:
            marks = self.laid_out(np.random.default_rng(4).random(self.shape[:-1]) < self.resets)
        return (
            self.numbers(1, (*lead, steps, self.inputs), self.dtype),
            self.numbers(2, (*lead, self.shape[-1]), self.dtype),
            marks,
            self.laid_out(weights.astype(self.dtype)),
        )

    @cached_property
    def answers(self) -> Answers:
        states = sequential(np, self.walk, *_wide(self.operands()))[0]
        passes = np.ones(self.shape[:-2])
        return Answers((states, passes), (self._bound(np.ones_like(states)), PASSES * passes))

    def backward_operands(self) -> tuple[Array | None, ...]:
        states = self.answers.exact[0].astype(self.dtype)
        return (*self.operands(), self.laid_out(states), self.numbers(5, self.shape, self.dtype))

    @cached_property
    def backward_answers(self) -> Answers:
        exact = backward(np, self.walk, *_wide(self.backward_operands()))
        sizes = tuple(np.full(x.shape, np.max(np.abs(x), initial=1.0)) for x in exact)
        return Answers(tuple(exact), tuple(map(self._bound, sizes)))

    def _bound(self, size: Array) -> Array:
        return ROUNDINGS * np.finfo(self.dtype).eps * size

    def names(self, backward: bool) -> Sequence[str]:
        return (BACKWARD if backward else CELL).results

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        x, h0, resets, weights = operands
        assert resets is None and not self.models, "give a plain example to the public function"
        xp = binding_for(type(x)).namespace(x)
        row = xp.reshape(weights, (-1,))
        shapes = {p.name: p.shape(self.walk.sizes) for p in self.cell.program.parameters}
        found = unpacked(xp, self.walk, row)
        params = {name: xp.reshape(p, shapes[name]) for name, p in found.items()}
        return seqpar.solve_recurrence, [self.cell, x, h0, params], {}

    def results(self, returned: Any) -> Sequence[Array]:
        return returned.states, returned.sweeps

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        binding = binding_for(type(operands[0]))
        return binding.call(operations[kernel.operation], self.walk, operands, wish)

    def words(self) -> list[str]:
        return [
            self.name,
            f"inputs{self.inputs}" if self.inputs != 3 else "",
            "resets" if self.resets else "",
            f"models{self.models}" if self.models else "",
        ]


@dataclass(frozen=True, kw_only=True)
class CellGradientsExample(CellExample):
    """What is left of a walk backward: products over all steps. What the steps stored may be any numbers."""

    operation: ClassVar[str] = "cell_gradients"
    fused_backward: ClassVar[str | None] = "cell_gradients"

    def backward_operands(self) -> tuple[Array | None, ...]:
        stored = self.numbers(5, (*self.shape[:-1], self.walk.stored), self.dtype)
        return (*self.operands(), self.numbers(6, self.shape, self.dtype), stored)

    @cached_property
    def backward_answers(self) -> Answers:
        exact = in_arrays(np, self.walk, *_wide(self.backward_operands()))
        sizes = tuple(np.full(x.shape, np.max(np.abs(x), initial=1.0)) for x in exact)
        return Answers(tuple(exact), tuple(map(self._bound, sizes)))

    def names(self, backward: bool) -> Sequence[str]:
        return GRADIENTS.results


def _wide(operands: Sequence[Array | None]) -> list[Any]:
    """The same numbers in float64."""
    return [x if x is None or x.dtype == bool else x.astype("float64") for x in operands]


CELL_EXAMPLES = (
    CellExample(shape=(2, 33, 5)),
    CellExample(shape=(2, 33, 10), name="lstm", resets=0.1),
    CellExample(shape=(3, 40, 33), inputs=7, resets=0.1),
    CellExample(shape=(2, 101, 4), name="elman", dtype="float64"),
    CellExample(shape=(2, 33, 17), name="mgu", inputs=18),
    CellExample(shape=(5, 33, 6), name="peephole_lstm", dtype="float64", resets=0.1),
    CellExample(shape=(33, 5), name="elman"),
    CellExample(shape=(3, 2, 20, 4), models=1),
    CellExample(shape=(2, 3, 20, 4), name="elman", models=2, resets=0.2),
    CellExample(shape=(2, 1030, 8)),
    CellExample(shape=(1, 1030, 8), name="lstm", resets=0.01),
    CellExample(shape=(3, 40, 4), memory="swapped"),
    CellExample(shape=(3, 40, 4), memory="transposed", name="lstm", resets=0.1),
    CellExample(shape=(3, 40, 4), memory="backwards", resets=0.1),
    CellExample(shape=(3, 40, 4), memory="gaps", name="mgu"),
    CellExample(shape=(3, 40, 4), memory="repeated", name="elman"),
    CellExample(shape=(2, 0, 3)),
    CellExample(shape=(0, 4, 3), resets=0.1),
    CellExample(shape=(2, 1, 1), inputs=1),
    CellGradientsExample(shape=(2, 33, 5)),
    CellGradientsExample(shape=(3, 130, 34), name="lstm", inputs=7, resets=0.1),
    CellGradientsExample(shape=(2, 1101, 4), name="elman", dtype="float64"),
    CellGradientsExample(shape=(2, 33, 17), name="mgu", inputs=18),
    CellGradientsExample(shape=(33, 5), name="indrnn"),
    CellGradientsExample(shape=(2, 3, 20, 4), models=1),
    CellGradientsExample(shape=(3, 40, 4), memory="transposed", name="lstm", resets=0.1),
    CellGradientsExample(shape=(3, 40, 4), memory="backwards", resets=0.1),
    CellGradientsExample(shape=(3, 40, 4), memory="gaps", name="mgu"),
    CellGradientsExample(shape=(2, 0, 3)),
    CellGradientsExample(shape=(2, 1, 1), inputs=1),
)
