"""What a call of `solve_recurrence` with a cell means: its arguments checked, and their way to the operation "cell" and back.

A `Form` is read off shapes and dtypes alone, so that it can be kept for every call of that kind and a compiler can follow it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import index
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

from seqpar.algorithms.arrays import sum_to
from seqpar.cells.cell import Cell
from seqpar.cells.walk import CellWalk, unpacked, walk_of
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.solving.canonical import batch_of, mask_of, order_of, steps_of
from seqpar.validation import COMPLEX, Shape, binding_of, flag, floating, is_scalar, same_device

NAME = "solve_recurrence"
Operands = tuple[Array | None, ...]


class Form(NamedTuple):
    """A checked call, without its arrays. Operands are (rows, ...), or (1, ...) where all sequences share one."""

    spec: CellWalk
    weights: tuple[tuple[str, int], ...]
    """Every parameter of the cell, and how many numbers it has."""
    state: int
    """Numbers in a state."""
    dtype: str
    steps: int
    batch: Shape
    rows: int
    """Sequences in all."""
    into: tuple[int, ...]
    """The axes of x in the order (batch..., time, inputs)."""
    order: tuple[int, ...]
    """The axes of states (batch..., time, state) in the order of the caller."""
    reverse: bool

    @property
    def walks(self) -> bool:
        """Is there anything to compute?"""
        return 0 not in (self.rows, self.steps, self.state)

    def abstract(self, x: Array, resets: Array | None) -> tuple[Abstract | None, ...]:
        """Shapes and dtypes of operands for a choice among kernels, which does not hang on what sequences share."""
        mask = None if resets is None else Abstract((self.rows, self.steps), "bool")
        return (
            Abstract((self.rows, self.steps, int(x.shape[-1])), self.dtype),
            Abstract((self.rows, self.state), self.dtype),
            mask,
            Abstract((1, sum(size for _, size in self.weights)), self.dtype),
        )

    def operands(
        self, binding: Binding, x: Array, h0: Array | None, resets: Array | None, params: Mapping[str, Array]
    ) -> Operands:
        """x (rows, T, m), h0 (rows, n), resets (rows, T), weights (1, w), with time forward, as kernels can read them."""
        xp = binding.namespace(x)
        weights = self._packed(xp, params, x)
        if self.into != tuple(range(len(self.into))):
            x = xp.permute_dims(x, self.into)
        x = self._rows(xp, x, 2)
        if resets is not None:
            resets = mask_of(binding, resets, self.batch, self.steps, self.order, self.rows)
        if self.reverse:
            x = xp.flip(x, axis=1)
            resets = None if resets is None else xp.flip(resets, axis=1)
        h0 = self.start(binding, x)[None, :] if h0 is None else self._rows(xp, h0, 1)
        return binding.readable(x), binding.readable(h0), resets, weights

    def _packed(self, xp: Any, params: Mapping[str, Array], like: Array) -> Array:
        """All parameters in one row, zeros for those left out."""
        rows = [
            xp.reshape(params[name], (1, size))
            if name in params
            else xp.zeros((1, size), dtype=like.dtype, device=device(like))
            for name, size in self.weights
        ]
        return xp.concat(rows, axis=1)

    def start(self, binding: Binding, like: Array) -> Array:
        """The state that h0=None stands for."""
        return binding.full(0.0, (self.state,), self.dtype, like)

    def _rows(self, xp: Any, x: Array, own: int) -> Array:
        """(batch..., ...) -> (rows, ...) with `own` axes behind the batch, or (1, ...) where that is all there is."""
        lead, rest = tuple(x.shape[:-own]), tuple(x.shape[-own:])
        if all(n == 1 for n in lead):
            return x if len(lead) == 1 else xp.reshape(x, (1, *rest))
        if lead != self.batch:
            x = xp.broadcast_to(x, (*self.batch, *rest))
        return x if len(self.batch) == 1 else xp.reshape(x, (self.rows, *rest))

    def states(self, xp: Any, states: Array) -> Array:
        """States (rows, T, n) as the caller wants them."""
        if self.reverse:
            states = xp.flip(states, axis=1)
        if len(self.batch) != 1 or states.shape[0] != self.rows:
            states = xp.reshape(states, (*self.batch, self.steps, self.state))
        return states if self.order == tuple(range(len(self.order))) else xp.permute_dims(states, self.order)

    def walked(self, xp: Any, states: Array) -> Array:
        """The inverse of `states`."""
        states = xp.permute_dims(states, inverse(self.order))
        states = xp.reshape(states, (self.rows, self.steps, self.state))
        return xp.flip(states, axis=1) if self.reverse else states

    def per_sequence(self, xp: Any, values: Array) -> Array:
        """(rows, ...) -> (batch..., ...)."""
        return values if len(self.batch) == 1 else xp.reshape(values, (*self.batch, *values.shape[1:]))

    def gradients(
        self, xp: Any, found: tuple[Array, ...], x: Array, h0: Array | None, params: Mapping[str, Array]
    ) -> tuple[Array, Array | None, dict[str, Array]]:
        """Gradients of the operands x, h0 and weights as those of the arguments."""
        of_x, of_h0, of_weights = found
        if self.reverse:
            of_x = xp.flip(of_x, axis=1)
        of_x = self._unrow(xp, of_x, tuple(x.shape[i] for i in self.into), 2)
        of_x = xp.permute_dims(of_x, inverse(self.into))
        of_h0 = None if h0 is None else self._unrow(xp, of_h0, tuple(h0.shape), 1)
        by_name = unpacked(xp, self.spec, of_weights)
        return of_x, of_h0, {name: xp.reshape(by_name[name], p.shape) for name, p in params.items()}

    def _unrow(self, xp: Any, gradient: Array, shape: Shape, own: int) -> Array:
        """The transpose of `_rows`, for an array that had this shape."""
        lead = self.batch if gradient.shape[0] == self.rows else (1,) * len(self.batch)
        whole = xp.reshape(gradient, (*lead, *shape[len(shape) - own :]))
        return xp.reshape(sum_to(xp, whole, (*(1,) * (whole.ndim - len(shape)), *shape)), shape)


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(order.index(i) for i in range(len(order)))


def form_of(
    cell: Cell,
    x: Any,
    h0: Any,
    params: Any,
    axis: Any,
    length: Any,
    reverse: Any,
    resets: Any,
    compiling: bool = False,
) -> tuple[Binding, Form]:
    """Check the arguments of a call with a cell."""
    outline = _while_compiling(cell, params) if compiling else _outline(cell, cell.sizes(params))
    n, m = outline.state, outline.inputs
    arrays = {f"params[{name!r}]": value for name, value in params.items()}
    binding = _binding(cell, m, x, h0, arrays, resets)
    _dtypes(cell, binding, x, h0, arrays)
    wanted = f"Give x (..., T, {m})."
    if len(x.shape) < 2:
        raise ShapeError(
            f"{NAME}: x.shape={tuple(x.shape)} with cells.{cell.name}, whose inputs have an axis of their own. {wanted}"
        )
    steps, (split,) = steps_of([x], ["x"], axis, length)
    if x.shape[split.features[0]] != m:
        raise ShapeError(
            f"{NAME}: x.shape={tuple(x.shape)}, axis={axis}: {x.shape[split.features[0]]} numbers in a step, and the parameters "
            f"of cells.{cell.name} are for {m} inputs. {wanted}"
        )
    if h0 is not None and (len(h0.shape) == 0 or h0.shape[-1] != n):
        raise ShapeError(
            f"{NAME}: h0.shape={tuple(h0.shape)}, and a state of cells.{cell.name} with these parameters has {n} numbers. "
            f"Give (..., {n}), or None for zeros."
        )
    batch = batch_of((n,) if h0 is None else tuple(h0.shape), [x], ["x"], [split])
    count = 1
    for size in batch:
        count *= size
    order = order_of(axis, len(batch) + 2)
    if resets is not None:
        mask_of(binding, resets, batch, steps, order, count)
    into = (*split.batch, split.time, *split.features)
    backward = flag(NAME, "reverse", reverse)
    dtype = binding.dtype_name(x.dtype)
    return binding, Form(outline.spec, outline.weights, n, dtype, steps, batch, count, into, order, backward)


class Outline(NamedTuple):
    """What the shapes of parameters tell."""

    spec: CellWalk
    weights: tuple[tuple[str, int], ...]
    state: int
    inputs: int


def _outline(cell: Cell, sizes: dict[str, int]) -> Outline:
    weights = tuple((p.name, math.prod(p.shape(sizes))) for p in cell.program.parameters)
    return Outline(walk_of(cell.program, sizes), weights, cell.program.state_size(sizes), sizes["inputs"])


def _by_shapes(cell: Cell, names: tuple[str, ...], *shapes: tuple[int, ...]) -> tuple[Any, ...]:
    sizes = cell.sizes({name: np.broadcast_to(0.0, shape) for name, shape in zip(names, shapes, strict=True)})
    outline = _outline(cell, sizes)
    return tuple(outline.spec), *outline[1:]


# torch.compile evaluates a function with this mark while tracing, instead of holding open every number in a cell's program.
# Only constants may come out of it, and go in: an index of a size is one.
_by_shapes._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _while_compiling(cell: Cell, params: Mapping[str, Array]) -> Outline:
    shapes = [tuple([index(n) for n in p.shape]) for p in params.values()]
    spec, weights, state, inputs = _by_shapes(cell, tuple(params), *shapes)
    return Outline(CellWalk(*spec), weights, state, inputs)


def _binding(cell: Cell, inputs: int, x: Any, h0: Any, params: Mapping[str, Any], resets: Any) -> Binding:
    """The framework of all arrays."""
    if not hasattr(x, "shape") and not isinstance(x, (int, float, complex)):
        raise OptionError(
            f"{NAME}: x is {'None' if x is None else f'a {type(x).__name__}'}, and cells.{cell.name} takes one array of inputs, "
            f"(..., T, {inputs})."
        )
    if h0 is not None and is_scalar(h0):
        raise ArrayTypeError(
            f"{NAME}: h0={h0!r}. Give the state before the first step as an array of shape (n,) or (batch, n), or None for zeros."
        )
    binding = binding_of(NAME, (), ("h0", "resets"), x=x, h0=h0, **params, resets=resets)
    same_device(NAME, binding, x=x, h0=h0, **params, resets=resets)
    return binding


def _dtypes(cell: Cell, binding: Binding, x: Any, h0: Any, params: Mapping[str, Any]) -> None:
    """One real dtype for all."""
    given = {"x": x, "h0": h0, **params}
    kinds = {name: binding.dtype_name(a.dtype) for name, a in given.items() if a is not None}
    if floating(NAME, "x", kinds["x"]) in COMPLEX:
        raise DtypeError(
            f"{NAME}: x.dtype={kinds['x']}, and cells.{cell.name} is real. Give real and imaginary part as inputs."
        )
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {dtype}" for name, dtype in kinds.items())
        raise DtypeError(f"{NAME}: cells.{cell.name} with {told}. Give x, h0 and params in one dtype.")
