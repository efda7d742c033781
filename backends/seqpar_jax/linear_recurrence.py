"""Linear recurrences in XLA code, for every platform of JAX: what runs where no kernel over raw memory does.

`sequential` is the definition, one step per round of a loop that reads and writes slices in place. Rounds of several unrolled
steps lose: XLA fuses a step with all earlier ones of its round and recomputes them (float32 (4, 4096, 256) on 2 cores: 3.2 ms at
1 step a round, 6.5 at 8, 13 at 16; `lax.scan`, which moves time to the front, 21). `chunked` takes about 3 sqrt(T) rounds in
place of T, for devices where a round costs a kernel launch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.algorithms.arrays import broadcast_shape
from seqpar.algorithms.transfer import Slope, Transfer, _carried, _joined_slope, _passage, slope
from seqpar.dispatch.operation import fit
from seqpar.dispatch.problem import Array, Kernel, NoKnobs, Problem
from seqpar.recurrence_rules import Walk, without
from seqpar_jax.avals import alike

Shape = tuple[int, ...]


def sequential(walk: Walk, a: Array, b: Array, h0: Array | None, resets: Array | None) -> tuple[Array, Array]:
    """(h, final) by the definition, one step per round."""
    shape, axis = broadcast_shape(a.shape, b.shape), walk.axis
    start = None if h0 is None else jnp.expand_dims(h0, axis)
    if math.prod(shape[axis + 1 :]) < 16 and math.prod(shape[:axis]) > 1:
        # Slices of a few numbers each are slow: put time in front, at the price of copies.
        a, b, resets, start = (None if x is None else jnp.moveaxis(x, axis, 0) for x in (a, b, resets, start))
        h, final = _in_place(walk._replace(axis=0), a, b, start, resets, (shape[axis], *without(shape, axis)))
        return jnp.moveaxis(h, 0, axis), jnp.squeeze(final, 0)
    h, final = _in_place(walk, a, b, start, resets, shape)
    return h, jnp.squeeze(final, axis)


def chunked(
    walk: Walk, a: Array, b: Array, h0: Array | None, resets: Array | None, *, chunk: int | None = None
) -> tuple[Array, Array]:
    """(h, final) by chunks: all run at once from zero, a loop carries the states across, all run again from those."""
    shape, axis = broadcast_shape(a.shape, b.shape), walk.axis
    length = shape[axis]
    chunk = chunk or max(1, math.isqrt(length))
    count = length // chunk
    start = None if h0 is None else jnp.expand_dims(h0, axis)
    if count < 2 or chunk < 2:
        h, final = _in_place(walk, a, b, start, resets, shape)
        return h, jnp.squeeze(final, axis)

    covered = count * chunk
    first, rest = (length - covered, 0) if walk.reverse else (0, covered)
    folded = shape[:axis] + (count, chunk) + shape[axis + 1 :]
    inner = walk._replace(axis=axis + 1)
    pieces = [_fold(x, axis, first, count, chunk) for x in (a, b, resets)]
    entering, final = _entering(inner, *pieces, start, folded)
    h, _ = _in_place(inner, pieces[0], pieces[1], entering, pieces[2], folded)
    h = h.reshape(shape[:axis] + (covered,) + shape[axis + 1 :])
    if covered < length:
        ragged = shape[:axis] + (length - covered,) + shape[axis + 1 :]
        parts = [_part(x, axis, rest, rest + length - covered) for x in (a, b, resets)]
        more, final = _in_place(walk, parts[0], parts[1], final, parts[2], ragged)
        h = jnp.concat([more, h] if walk.reverse else [h, more], axis=axis)
    return h, jnp.squeeze(final, axis)


def _in_place(
    walk: Walk, a: Array, b: Array, start: Array | None, resets: Array | None, shape: Shape
) -> tuple[Array, Array]:
    """States and the state at the end, which keeps a time axis of size 1 as `start` does."""
    axis = walk.axis
    step = _step(walk, a, b, resets, shape[axis])

    def at(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        h, k = carry
        t, state, k = step(i, k)
        return lax.dynamic_update_slice_in_dim(h, state.astype(h.dtype), t, axis), k

    carry = _carry((jnp.zeros(shape, b.dtype), _state(b, start, shape, axis)), a, b, start, resets)
    results: tuple[Array, Array] = lax.fori_loop(0, shape[axis], at, carry)
    return results


def _entering(
    walk: Walk, a: Array, b: Array, resets: Array | None, start: Array | None, shape: Shape
) -> tuple[Array, Array]:
    """The state entering each chunk, and the one leaving the last; chunks are the axis before the steps within them."""
    axis, (count, chunk) = walk.axis, shape[walk.axis - 1 : walk.axis + 1]
    transfer = _transfer(walk, a, b, resets, shape)
    passage = _passage(jnp, transfer)

    def across(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        entering, state = carry
        p = count - 1 - i if walk.reverse else i
        entering = lax.dynamic_update_slice_in_dim(entering, state, p, axis - 1)
        return entering, _carried(jnp, state, jax.tree.map(lambda x: _at(x, p, axis - 1), passage))

    state = jnp.expand_dims(_state(b, start, without(shape, axis), axis - 1), axis)
    entering = jnp.zeros(_one(shape, axis), state.dtype)
    entering, state = lax.fori_loop(0, count, across, _carry((entering, state), a, b, resets, start))
    return entering, jnp.squeeze(state, axis - 1)


def _transfer(walk: Walk, a: Array, b: Array, resets: Array | None, shape: Shape) -> Transfer:
    """What each chunk does to the state that enters it: all chunks run from zero, products of coefficients at their side."""
    axis, chunk = walk.axis, shape[walk.axis]
    step = _step(walk, a, b, resets, chunk)
    dtype = algorithm.state_dtype(jnp, b.dtype)

    def coefficient(t: Array | int) -> Array:
        return algorithm.coefficient(jnp, _at(a, t, axis).astype(dtype), walk.gate)

    def one(t: Array | int) -> Slope:
        return slope(jnp, coefficient(t), axis, 1, walk.reverse)

    def at(i: Array, carry: tuple[Array, Slope | None, Array | None]) -> tuple[Array, Slope | None, Array | None]:
        k, product, dropped = carry
        t, _, k = step(i, k)
        if product is not None:
            product = _joined_slope(jnp, product, one(t))
        return k, product, None if dropped is None or resets is None else dropped | _at(resets, t, axis)

    constant = a.shape[axis] == 1
    first = chunk - 1 if walk.reverse else 0
    _, _, k = step(jnp.asarray(0), jnp.zeros(_one(shape, axis), dtype))
    seen = (k, None if constant else one(first), None if resets is None else _at(resets, first, axis))
    k, product, dropped = lax.fori_loop(1, chunk, at, _carry(seen, a, b, resets))
    product = slope(jnp, coefficient(0), axis, chunk, walk.reverse) if product is None else product
    return Transfer(product, k, dropped)


def _step(
    walk: Walk, a: Array, b: Array, resets: Array | None, steps: int
) -> Callable[[Array, Array], tuple[Array, Array, Array]]:
    """One step of the definition: round i, carried state -> its time, its state, the state to carry on."""
    dtype = algorithm.state_dtype(jnp, b.dtype)

    def step(i: Array, k: Array) -> tuple[Array, Array, Array]:
        t = steps - 1 - i if walk.reverse else i
        x, u = _at(a, t, walk.axis).astype(dtype), _at(b, t, walk.axis).astype(dtype)
        c = algorithm.coefficient(jnp, x, walk.gate)
        reset = None if resets is None else _at(resets, t, walk.axis)
        if walk.adjoint:
            h = u + k
            k = c * h
            return t, h, k if reset is None else jnp.where(reset, jnp.zeros_like(k), k)
        if walk.convex:
            u = algorithm.complement(jnp, x, walk.gate) * u
        h = c * k + u
        h = h if reset is None else jnp.where(reset, u, h)
        return t, h, h

    return step


def _state(b: Array, start: Array | None, shape: Shape, axis: int) -> Array:
    dtype = algorithm.state_dtype(jnp, b.dtype)
    one = _one(shape, axis)
    return jnp.zeros(one, dtype) if start is None else jnp.broadcast_to(start.astype(dtype), one)


def _carry(tree: Any, *others: Array | None) -> Any:
    """Arrays as a loop may carry them inside `shard_map`: varying over every mesh axis that what they meet there varies over."""
    leaves, structure = jax.tree.flatten(tree)
    met = [y for y in others if y is not None]
    return jax.tree.unflatten(structure, alike([*leaves, *met])[: len(leaves)])


def _at(x: Array, t: Array | int, axis: int) -> Array:
    return x if x.shape[axis] == 1 else lax.dynamic_slice_in_dim(x, t, 1, axis)


def _part(x: Array | None, axis: int, start: int, stop: int) -> Array | None:
    return x if x is None or x.shape[axis] == 1 else lax.slice_in_dim(x, start, stop, axis=axis)


def _fold(x: Array | None, axis: int, first: int, count: int, chunk: int) -> Array | None:
    if x is None or x.shape[axis] == 1:
        return None if x is None else jnp.expand_dims(x, axis)
    x = _part(x, axis, first, first + count * chunk)
    return x.reshape(x.shape[:axis] + (count, chunk) + x.shape[axis + 1 :])


def _one(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + (1,) + shape[axis + 1 :]


# --- as kernels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChunkedLoops:
    """Steps per chunk; None takes about the square root of the length."""

    chunk: int | None = None


class _XlaKernel(Kernel):
    backend = "xla"
    form = "arrays"
    walker: ClassVar[Callable[..., tuple[Array, Array]]]

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "jax":
            return f"XLA code runs on JAX arrays, not on {problem.framework}"
        chunk = getattr(config, "chunk", None)
        return f"chunk={chunk} is not a positive number of steps" if chunk is not None and chunk < 1 else None

    def run(self, xp: Any, spec: Walk, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return self.walk(spec, config, *operands[:4])

    def walk(self, spec: Walk, config: Any, *operands: Array | None) -> tuple[Array, Array]:
        knobs = {} if isinstance(config, NoKnobs) else {"chunk": config.chunk}
        return type(self).walker(spec, *operands, **knobs)


class Sequential(_XlaKernel):
    operation = "linear_recurrence"
    method = "sequential"
    walker = staticmethod(sequential)
    summary = "JAX on every platform: a loop over time inside the program"

    def rank(self, problem: Problem) -> float:
        return 60.0


class Chunked(_XlaKernel):
    operation = "linear_recurrence"
    method = "chunked"
    config = ChunkedLoops
    walker = staticmethod(chunked)
    summary = "JAX on every platform: about 3 sqrt(T) rounds, the default on a GPU"

    def rank(self, problem: Problem) -> float:
        # On a CPU a round is cheap and a second pass over memory is not; on a GPU a round costs launches.
        return 70.0 if problem.device == "cpu" or problem.time < 64 else 50.0


class _Backward(_XlaKernel):
    operation = "linear_recurrence_backward"

    def run(self, xp: Any, spec: Walk, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        a, b, h0, resets, h, g, g_final = operands

        def solve(walk: Walk, *arrays: Array | None) -> tuple[Array, Array]:
            return self.walk(walk, config, *arrays)

        da, db, dh0 = algorithm.backward(xp, spec, a, b, h0, resets, h, g, g_final, solve)
        return da, fit(xp, db, h if b is None else b), dh0 if h0 is None else fit(xp, dh0, h0)


class SequentialBackward(_Backward):
    method = "sequential"
    walker = staticmethod(sequential)
    summary = "JAX on every platform: one adjoint walk and elementwise code that XLA fuses"

    def rank(self, problem: Problem) -> float:
        return 60.0


class ChunkedBackward(_Backward):
    method = "chunked"
    config = ChunkedLoops
    walker = staticmethod(chunked)
    summary = "JAX on every platform: the same with a chunked walk, the default on a GPU"

    def rank(self, problem: Problem) -> float:
        return 70.0 if problem.device == "cpu" or problem.time < 64 else 50.0


KERNELS: tuple[Kernel, ...] = (Sequential(), Chunked(), SequentialBackward(), ChunkedBackward())
