"""Walks over time of an affine recurrence k -> c k + u as loops in XLA code: step by step, in chunks, in a tree of chunks.

Shared by the recurrences, each of which says what its steps read (`Recurrence`); the algebra of their coefficients is that of
`seqpar.algorithms`. A loop reads and writes slices in place. Rounds of several unrolled steps lose: XLA fuses a step with all
earlier ones of its round and recomputes them (float32 (4, 4096, 256) on 2 cores: 3.2 ms at 1 step a round, 6.5 at 8, 13 at
16; `lax.scan`, which moves time to the front, 21). Chunks take about 3 sqrt(T) rounds in place of T, for devices where a
round costs a kernel launch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.algorithms.arrays import previous
from seqpar.algorithms.crossing import Coefficients, Transfer
from seqpar.dispatch.problem import Array
from seqpar_jax.avals import alike

Shape = tuple[int, ...]


class Recurrence(ABC):
    """What a recurrence tells the loops of itself."""

    kind: ClassVar[Coefficients]

    @abstractmethod
    def shape(self, a: Array, b: Array) -> Shape:
        """The shape of the states."""

    @abstractmethod
    def precision(self, walk: Any, b: Array) -> Any:
        """What states are carried in."""

    @abstractmethod
    def load(self, walk: Any, a: Array, b: Array) -> tuple[Array, Array]:
        """c and u in that precision, for a part of the operands along time."""

    @abstractmethod
    def slope(self, c: Array, shared: bool) -> Any:
        """What one step does to a state; do all steps share it?"""

    @abstractmethod
    def in_64_bits(self, walk: Any, a: Array) -> bool:
        """Does anything here need double precision for single, in 32-bit JAX too?"""


class Steps(NamedTuple):
    """The steps of a walk; time is an axis of every operand, of size 1 where all steps share an entry."""

    recurrence: Recurrence
    walk: Any
    a: Array
    b: Array
    resets: Array | None
    shape: Shape
    axis: int

    @property
    def length(self) -> int:
        return self.shape[self.axis]

    @property
    def kind(self) -> Coefficients:
        return self.recurrence.kind

    @property
    def dtype(self) -> Any:
        return self.recurrence.precision(self.walk, self.b)

    def at(self, i: Array | int) -> tuple[Array | int, Array, Array, Array | None]:
        """What round i of the walk reads: its time, c, u, reset."""
        t = self.length - 1 - i if self.walk.reverse else i
        c, u = self.recurrence.load(self.walk, _at(self.a, t, self.axis), _at(self.b, t, self.axis))
        return t, c, u, None if self.resets is None else _at(self.resets, t, self.axis)

    def step(self, i: Array | int, k: Array) -> tuple[Array | int, Array, Array]:
        """One step of the definition: round i, carried state -> its time, its state, the state to carry on."""
        t, c, u, reset = self.at(i)
        if self.walk.adjoint:
            h = u + k
            k = self.kind.applied(jnp, c, h)
            return t, h, k if reset is None else jnp.where(reset, jnp.zeros_like(k), k)
        h = self.kind.applied(jnp, c, k) + u
        h = h if reset is None else jnp.where(reset, u, h)
        return t, h, h

    def part(self, start: int, stop: int) -> "Steps":
        a, b, resets = (_part(x, self.axis, start, stop) for x in (self.a, self.b, self.resets))
        shape = self.shape[: self.axis] + (stop - start,) + self.shape[self.axis + 1 :]
        return self._replace(a=a, b=b, resets=resets, shape=shape)

    def folded(self, count: int) -> "Steps":
        """Time as two axes: the chunk, and the step within it, which is the axis of these steps."""
        axis, chunk = self.axis, self.length // count
        a, b, resets = (_folded(x, axis, count) for x in (self.a, self.b, self.resets))
        shape = self.shape[:axis] + (count, chunk) + self.shape[axis + 1 :]
        return self._replace(a=a, b=b, resets=resets, shape=shape, axis=axis + 1)

    def carry(self, tree: Any) -> Any:
        """Arrays as a loop may carry them inside `shard_map`: varying over every mesh axis that an operand varies over."""
        leaves, structure = jax.tree.flatten(tree)
        met = [x for x in (self.a, self.b, self.resets) if x is not None]
        return jax.tree.unflatten(structure, alike([*leaves, *met])[: len(leaves)])


def steps_of(
    recurrence: Recurrence, walk: Any, a: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Steps, Array]:
    """The steps of a walk, and the state that enters them with a time axis of size 1."""
    shape, axis = recurrence.shape(a, b), walk.axis
    steps = Steps(recurrence, walk, a, b, resets, shape, axis)
    if h0 is None:
        return steps, jnp.zeros(_one(shape, axis), steps.dtype)
    return steps, jnp.broadcast_to(jnp.expand_dims(h0.astype(steps.dtype), axis), _one(shape, axis))


# Each of the three takes the steps and the state that enters them, and returns all states and the one that leaves, which like
# the one that enters has a time axis of size 1.


def in_place(steps: Steps, start: Array) -> tuple[Array, Array]:
    """The definition, one step per round."""
    dtype = steps.b.dtype
    # As bits: XLA for CPUs would widen and narrow all of an array of bfloat16 in every round, 360 times as slow.
    bits = dtype == jnp.bfloat16

    def at(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        h, k = carry
        t, state, k = steps.step(i, k)
        state = state.astype(dtype)
        state = lax.bitcast_convert_type(state, h.dtype) if bits else state
        return lax.dynamic_update_slice_in_dim(h, state, t, steps.axis), k

    empty = jnp.zeros(steps.shape, jnp.uint16 if bits else dtype)
    h, k = lax.fori_loop(0, steps.length, at, steps.carry((empty, start)))
    return lax.bitcast_convert_type(h, dtype) if bits else h, k


def in_chunks(steps: Steps, start: Array, *, chunk: int | None = None) -> tuple[Array, Array]:
    """All chunks run at once from zero, a loop carries the states across, all run again from those."""
    return _chunked(steps, start, chunk or max(1, math.isqrt(steps.length)), _entering_by_loop)


def in_tree(steps: Steps, start: Array, *, leaf: int | None = None) -> tuple[Array, Array]:
    """The same with short chunks whose transfers are composed by prefix doubling: O(log T) rounds."""
    # A round of doubling costs about as much as a step over all chunks, and there are log2(length / leaf) of them.
    return _chunked(steps, start, leaf or max(2, steps.length.bit_length()), _entering_by_doubling)


def _chunked(
    steps: Steps, start: Array, chunk: int, entering_states: Callable[[Steps, Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    axis, length, reverse = steps.axis, steps.length, steps.walk.reverse
    count = length // chunk
    if count < 2 or chunk < 2:
        return in_place(steps, start)
    covered = count * chunk
    chunks = steps.part(*((length - covered, length) if reverse else (0, covered))).folded(count)
    entering, state = entering_states(chunks, start)
    h, _ = in_place(chunks, entering)
    h = h.reshape(steps.shape[:axis] + (covered,) + steps.shape[axis + 1 :])
    if covered < length:
        ragged = steps.part(*((0, length - covered) if reverse else (covered, length)))
        more, state = in_place(ragged, state)
        h = jnp.concat([more, h] if reverse else [h, more], axis=axis)
    return h, state


def _entering_by_loop(chunks: Steps, start: Array) -> tuple[Array, Array]:
    """The state entering each chunk, and the one leaving the last; chunks are the axis before the steps within them."""
    axis, reverse = chunks.axis - 1, chunks.walk.reverse
    count, kind = chunks.shape[axis], chunks.kind
    passage = kind.passage_of(jnp, _transfer(chunks))

    def across(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        entering, state = carry
        p = count - 1 - i if reverse else i
        entering = lax.dynamic_update_slice_in_dim(entering, state, p, axis)
        return entering, kind.carried(jnp, state, jax.tree.map(lambda x: _at(x, p, axis), passage))

    state = jnp.expand_dims(start, axis)
    entering = jnp.zeros(_one(chunks.shape, chunks.axis), state.dtype)
    entering, state = lax.fori_loop(0, count, across, chunks.carry((entering, state)))
    return entering, jnp.squeeze(state, axis)


def _entering_by_doubling(chunks: Steps, start: Array) -> tuple[Array, Array]:
    """The same, by composing every transfer with the one 1, 2, 4, ... chunks before it: one body for all rounds."""
    axis, reverse = chunks.axis - 1, chunks.walk.reverse
    count, kind = chunks.shape[axis], chunks.kind
    transfer = _transfer(chunks)
    # One slope may serve all chunks so far; sums of chunks differ at the beginning.
    transfer = transfer._replace(slope=jax.tree.map(lambda x: _repeated(x, axis, count), transfer.slope))
    position = jnp.arange(count).reshape((1,) * axis + (count,) + (1,) * (len(chunks.shape) - axis - 1))
    position = count - 1 - position if reverse else position

    def double(i: Array, transfer: Transfer) -> Transfer:
        stride = jnp.left_shift(1, i)
        earlier = jax.tree.map(lambda x: jnp.roll(x, -stride if reverse else stride, axis), transfer)
        both = Transfer(
            kind.joined(jnp, earlier.slope, transfer.slope),
            kind.carried(jnp, earlier.offset, kind.passage_of(jnp, transfer)),
            None if transfer.dropped is None else earlier.dropped | transfer.dropped,
        )
        joined: Transfer = jax.tree.map(lambda x, y: jnp.where(position >= stride, x, y), both, transfer)
        return joined

    transfer = lax.fori_loop(0, (count - 1).bit_length(), double, chunks.carry(transfer))
    state = jnp.expand_dims(start, axis)
    after = kind.carried(jnp, chunks.carry(state), kind.passage_of(jnp, transfer))
    entering = previous(jnp, after, start, axis, reverse)
    last = 0 if reverse else count - 1
    return entering, jnp.squeeze(lax.slice_in_dim(after, last, last + 1, axis=axis), axis)


def _transfer(chunks: Steps) -> Transfer:
    """What each chunk does to the state that enters it: all chunks run from zero, products of coefficients at their side."""
    shared = chunks.a.shape[chunks.axis] == 1

    def at(i: Array | int, before: Transfer | None) -> Transfer:
        _, c, _, reset = chunks.at(i)
        slope = chunks.recurrence.slope(c, shared)
        k = jnp.zeros(_one(chunks.shape, chunks.axis), chunks.dtype) if before is None else before.offset
        _, _, k = chunks.step(i, k)
        if before is None:
            return Transfer(slope, k, reset)
        # In the first round there is nothing to join: selecting there costs less to compile than a first round of its own.
        product = chunks.kind.joined(jnp, before.slope, slope)
        product = jax.tree.map(lambda x, y: jnp.where(i == 0, x, y), slope, product)
        return Transfer(product, k, None if reset is None else before.dropped | reset)

    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: at(0, None)))
    transfer: Transfer = lax.fori_loop(0, chunks.length, at, chunks.carry(nothing))
    return transfer


def _at(x: Array, t: Array | int, axis: int) -> Array:
    return x if x.shape[axis] == 1 else lax.dynamic_slice_in_dim(x, t, 1, axis)


def _part(x: Array | None, axis: int, start: int, stop: int) -> Array | None:
    return x if x is None or x.shape[axis] == 1 else lax.slice_in_dim(x, start, stop, axis=axis)


def _folded(x: Array | None, axis: int, count: int) -> Array | None:
    if x is None or x.shape[axis] == 1:
        return None if x is None else jnp.expand_dims(x, axis)
    return x.reshape(x.shape[:axis] + (count, x.shape[axis] // count) + x.shape[axis + 1 :])


def _repeated(x: Array, axis: int, count: int) -> Array:
    return jnp.broadcast_to(x, x.shape[:axis] + (count,) + x.shape[axis + 1 :])


def _one(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + (1,) + shape[axis + 1 :]
