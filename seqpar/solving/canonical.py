"""From the arguments of `solve_recurrence` to a `Recurrence`: shapes, axes and dtypes checked, time brought forward.

Everything is done by array functions that the framework can differentiate, so that a binding only needs derivatives of the
canonical problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from seqpar import trees
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, OptionError, ShapeError
from seqpar.solving.recurrence import Recurrence, Step
from seqpar.validation import (
    Shape,
    binding_of,
    boolean,
    broadcasts_to,
    floating,
    is_scalar,
    pad,
    same_device,
    time_axis,
)

NAME = "solve_recurrence"


class Canonical(NamedTuple):
    """A checked problem, and the way of its results back to the axes of the caller."""

    recurrence: Recurrence
    reverse: bool
    batch: Shape
    order: tuple[int, ...]
    """Axes of the canonical states (batch..., steps, n), in the order in which the caller wants them."""

    def guess(self, guess: Array | None) -> Array | None:
        """A guess of the states in canonical form."""
        if guess is None:
            return None
        rec = self.recurrence
        binding_of(NAME, (), (), h0=rec.h0, guess=guess)
        same_device(NAME, rec.binding, h0=rec.h0, guess=guess)
        wanted = tuple((*self.batch, rec.steps, rec.state)[i] for i in self.order)
        if tuple(guess.shape) != wanted:
            raise ShapeError(
                f"{NAME}: guess.shape={tuple(guess.shape)} is not the shape of the states, {wanted}. Give one state per step."
            )
        if guess.dtype != rec.h0.dtype:
            guess = rec.xp.astype(guess, rec.h0.dtype)
        back = tuple(self.order.index(i) for i in range(len(self.order)))
        guess = rec.xp.reshape(rec.xp.permute_dims(guess, back), (rec.batch, rec.steps, rec.state))
        return rec.xp.flip(guess, axis=1) if self.reverse else guess

    def states(self, states: Array) -> Array:
        """(batch, steps, n) -> the states as the caller wants them."""
        xp, rec = self.recurrence.xp, self.recurrence
        if self.reverse:
            states = xp.flip(states, axis=1)
        states = xp.reshape(states, (*self.batch, rec.steps, rec.state))
        return states if self.order == tuple(range(len(self.order))) else xp.permute_dims(states, self.order)

    def kept(self) -> Canonical:
        """The same without the graphs behind its arrays, where a framework hangs them there: a solution outlives them."""

        def alone(x: Any) -> Any:
            return x.detach() if hasattr(x, "grad_fn") else x

        rec = self.recurrence
        resets = None if rec.resets is None else alone(rec.resets)
        params, inputs = [alone(p) for p in rec.params], [alone(x) for x in rec.inputs]
        return self._replace(
            recurrence=replace(rec, params=params, inputs=inputs, h0=alone(rec.h0), resets=resets)
        )

    def per_sequence(self, x: Array) -> Array:
        """(batch, ...) -> (batch..., ...)."""
        return self.recurrence.xp.reshape(x, (*self.batch, *x.shape[1:]))


def canonical(
    step: Callable[..., Any],
    x: Any,
    h0: Any,
    params: Any,
    axis: Any,
    length: Any,
    reverse: bool,
    resets: Any,
) -> Canonical:
    """Check the arguments and bring them to one form."""
    if not callable(step):
        raise OptionError(
            f"{NAME}: step is {_kind(step)}, not a function. Give step(params, h, x) first, x second, h0 third."
        )
    _no_module(step)
    leaves, structure = trees.flatten(x)
    names = [f"x{path}" for path in structure.paths()]
    binding = _binding(leaves, names, h0, resets)
    xp = binding.namespace(h0)
    if len(h0.shape) == 0:
        raise ShapeError(f"{NAME}: h0 is 0-dimensional. Give a state of shape (n,), or (batch, n).")
    floating(NAME, "h0", binding.dtype_name(h0.dtype))
    steps, split = steps_of(leaves, names, axis, length)
    batch = batch_of(tuple(h0.shape), leaves, names, split)
    count = 1
    for size in batch:
        count *= size
    inputs = [_input(xp, leaf, split_of, batch, count) for leaf, split_of in zip(leaves, split, strict=True)]
    n = int(h0.shape[-1])
    start = xp.reshape(xp.broadcast_to(h0, (*batch, n)), (count, n))
    order = order_of(axis, len(batch) + 2)
    mask = None if resets is None else mask_of(binding, resets, batch, steps, order, count)
    if reverse:
        inputs = [xp.flip(leaf, axis=1) for leaf in inputs]
        mask = None if mask is None else xp.flip(mask, axis=1)
    values, params_structure = trees.flatten(params)
    recurrence = Recurrence(
        binding=binding,
        xp=xp,
        step=Step(step, params_structure, structure),
        params=values,
        inputs=inputs,
        h0=start,
        resets=mask,
        batch=count,
        steps=steps,
    )
    return Canonical(recurrence, reverse, batch, order)


class Split(NamedTuple):
    """Axes of one input: time, batch, features."""

    time: int
    batch: tuple[int, ...]
    features: tuple[int, ...]


def _binding(leaves: list[Any], names: list[str], h0: Any, resets: Any) -> Binding:
    if h0 is None or is_scalar(h0):
        raise ArrayTypeError(
            f"{NAME}: h0={h0!r}. Give the state before the first step as an array of shape (n,) or (batch, n): its last axis "
            "says how many numbers a state has."
        )
    arrays = dict(zip(names, leaves, strict=True))
    binding = binding_of(NAME, (), ("resets",), h0=h0, **arrays, resets=resets)
    same_device(NAME, binding, h0=h0, **arrays, resets=resets)
    return binding


def steps_of(leaves: list[Any], names: list[str], axis: Any, length: Any) -> tuple[int, list[Split]]:
    """The number of steps, and the axes of each input."""
    split, steps, first = [], None, ""
    for name, leaf in zip(names, leaves, strict=True):
        rank = len(leaf.shape)
        time = time_axis(NAME, 0 if rank == 1 else axis, tuple(leaf.shape))
        rest = tuple(i for i in range(rank) if i != time)
        split.append(Split(time, rest[:-1], rest[-1:]))
        if steps is None:
            size = leaf.shape[time]
            # A size that torch.export holds open stays so; NaN, which is Dask's for one not known yet, raises here.
            steps, first = int(size) if isinstance(size, float) else size, name
        elif steps != leaf.shape[time]:
            raise ShapeError(
                f"{NAME}: {first} has {steps} steps and {name} {leaf.shape[time]} along axis={axis} (time). Give all inputs the "
                "same number of steps."
            )
    if length is not None and (isinstance(length, bool) or not hasattr(length, "__index__") or length < 0):
        raise OptionError(f"{NAME}: length={length!r} is not a number of steps. Give 0 or more.")
    if steps is None:
        if length is None:
            raise OptionError(
                f"{NAME}: x holds no array, so nothing says how many steps there are. Give length=."
            )
        return int(length), split
    if length is not None and int(length) != steps:
        raise OptionError(f"{NAME}: length={length} for inputs of {steps} steps. Leave length out.")
    return steps, split


def batch_of(h0: Shape, leaves: list[Any], names: list[str], split: list[Split]) -> Shape:
    """The common shape of all axes that are neither time nor state."""
    batch, told = h0[:-1], [("h0", h0)]
    for name, leaf, axes in zip(names, leaves, split, strict=True):
        own = tuple(int(leaf.shape[i]) for i in axes.batch)
        rank = max(len(batch), len(own))
        wide, other = pad(batch, rank), pad(own, rank)
        if any(m != k and m != 1 and k != 1 for m, k in zip(wide, other, strict=True)):
            shapes = ", ".join(f"{of}.shape={shape}" for of, shape in told)
            raise ShapeError(
                f"{NAME}: {name}.shape={tuple(leaf.shape)} has the batch axes {own}, which do not broadcast against {batch} of "
                f"{shapes}. Every input is (batch..., time, features) and h0 (batch..., n)."
            )
        batch = tuple(k if m == 1 else m for m, k in zip(wide, other, strict=True))
        told.append((name, tuple(leaf.shape)))
    return batch


def _input(xp: Any, leaf: Array, split: Split, batch: Shape, count: int) -> Array:
    """(batch, steps, ...)."""
    order = (*split.batch, split.time, *split.features)
    if order != tuple(range(len(order))):
        leaf = xp.permute_dims(leaf, order)
    rest = tuple(leaf.shape[len(split.batch) :])
    if tuple(leaf.shape[: len(split.batch)]) != batch:
        leaf = xp.broadcast_to(leaf, (*batch, *rest))
    return leaf if len(batch) == 1 else xp.reshape(leaf, (count, *rest))


def order_of(axis: Any, rank: int) -> tuple[int, ...]:
    """Axes (batch..., time, state) in the order in which time stands at `axis`."""
    if not -rank <= axis < rank:
        raise ShapeError(
            f"{NAME}: axis={axis} is out of range for states with {rank} axes. Give an axis from {-rank} to {rank - 1}."
        )
    others = [i for i in range(rank) if i != rank - 2]
    others.insert(axis % rank, rank - 2)
    return tuple(others)


def mask_of(
    binding: Binding, resets: Array, batch: Shape, steps: int, order: tuple[int, ...], count: int
) -> Array:
    """(batch, steps), from the shape of the states without their last axis."""
    xp = binding.namespace(resets)
    boolean(NAME, "resets", binding.dtype_name(resets.dtype))
    rank = len(order)
    mine = [i for i in order if i != rank - 1]
    whole = tuple((*batch, steps)[i] for i in mine)
    broadcasts_to(
        NAME, "resets", tuple(resets.shape), whole, "the shape of the states without the state's own axis"
    )
    mask = xp.broadcast_to(resets, whole)
    mask = xp.permute_dims(mask, tuple(mine.index(i) for i in range(rank - 1)))
    return xp.reshape(mask, (count, steps))


TORCH = {
    "RNN": "elman",
    "RNNCell": "elman",
    "GRU": "gru",
    "GRUCell": "gru",
    "LSTM": "lstm",
    "LSTMCell": "lstm",
}
"""The cells of torch.nn's recurrent modules."""


def _no_module(step: Any) -> None:
    """Refuse a recurrent module of torch.nn, which is called otherwise than a step."""
    kinds = (step if isinstance(step, type) else type(step)).__mro__
    for kind in kinds:
        if kind.__name__ in TORCH and kind.__module__.startswith("torch.nn."):
            cell = f"cells.{TORCH[kind.__name__]}"
            raise OptionError(
                f"{NAME}: step is a torch.nn.{kind.__name__}, which is not called as step(params, h, x). Take {cell} as step and "
                f"{cell}.from_torch(module) as params, from seqpar import cells."
            )


def _kind(x: Any) -> str:
    return f"a {type(x).__name__}"
