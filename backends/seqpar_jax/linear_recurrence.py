"""Linear recurrences in XLA code, for every platform of JAX: what runs where no kernel over raw memory does.

`sequential` is the definition, one step per round of a loop that reads and writes slices in place. Rounds of several unrolled
steps lose: XLA fuses a step with all earlier ones of its round and recomputes them (float32 (4, 4096, 256) on 2 cores: 3.2 ms at
1 step a round, 6.5 at 8, 13 at 16; `lax.scan`, which moves time to the front, 21). `chunked` takes about 3 sqrt(T) rounds in
place of T, for devices where a round costs a kernel launch.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.algorithms.arrays import broadcast_shape
from seqpar.algorithms.transfer import Slope, Transfer, carried, joined_slope, passage_of, slope_of
from seqpar.dispatch.operation import fit
from seqpar.dispatch.problem import Array, Kernel, Problem
from seqpar.linear_recurrence_operation import Walk, without
from seqpar_jax.avals import alike

Shape = tuple[int, ...]
# JAX before 0.9 had it among the experiments.
enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else vars(jax.experimental)["enable_x64"]


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
    length = broadcast_shape(a.shape, b.shape)[walk.axis]
    return _in_chunks(walk, a, b, h0, resets, chunk or max(1, math.isqrt(length)), _entering_by_loop)


def tree(
    walk: Walk, a: Array, b: Array, h0: Array | None, resets: Array | None, *, leaf: int | None = None
) -> tuple[Array, Array]:
    """(h, final) like `chunked`, with short chunks whose transfers are composed by prefix doubling: O(log T) rounds."""
    length = broadcast_shape(a.shape, b.shape)[walk.axis]
    # A round of doubling costs about as much as a step over all chunks, and there are log2(length / leaf) of them.
    return _in_chunks(walk, a, b, h0, resets, leaf or max(2, length.bit_length()), _entering_by_doubling)


def _in_chunks(
    walk: Walk,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    chunk: int,
    entering_states: Callable[..., tuple[Array, Array]],
) -> tuple[Array, Array]:
    shape, axis = broadcast_shape(a.shape, b.shape), walk.axis
    length = shape[axis]
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
    entering, final = entering_states(inner, *pieces, start, folded)
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

    carry = _carry((jnp.zeros(shape, b.dtype), _state(walk, b, start, shape, axis)), a, b, start, resets)
    results: tuple[Array, Array] = lax.fori_loop(0, shape[axis], at, carry)
    return results


def _entering_by_loop(
    walk: Walk, a: Array, b: Array, resets: Array | None, start: Array | None, shape: Shape
) -> tuple[Array, Array]:
    """The state entering each chunk, and the one leaving the last; chunks are the axis before the steps within them."""
    axis, count = walk.axis, shape[walk.axis - 1]
    transfer = _transfer(walk, a, b, resets, shape)
    passage = passage_of(jnp, transfer)

    def across(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        entering, state = carry
        p = count - 1 - i if walk.reverse else i
        entering = lax.dynamic_update_slice_in_dim(entering, state, p, axis - 1)
        return entering, carried(jnp, state, jax.tree.map(lambda x: _at(x, p, axis - 1), passage))

    state = jnp.expand_dims(_state(walk, b, start, without(shape, axis), axis - 1), axis)
    entering = jnp.zeros(_one(shape, axis), state.dtype)
    entering, state = lax.fori_loop(0, count, across, _carry((entering, state), a, b, resets, start))
    return entering, jnp.squeeze(state, axis - 1)


def _entering_by_doubling(
    walk: Walk, a: Array, b: Array, resets: Array | None, start: Array | None, shape: Shape
) -> tuple[Array, Array]:
    """The same, by composing every transfer with the one 1, 2, 4, ... chunks before it: one body for all rounds."""
    axis, count = walk.axis - 1, shape[walk.axis - 1]
    transfer = _transfer(walk, a, b, resets, shape)
    if transfer.slope.product.mantissa.shape[axis] != count:
        # One slope serves all chunks so far; sums of chunks differ at the beginning.
        repeat = lambda x: jnp.broadcast_to(x, x.shape[:axis] + (count,) + x.shape[axis + 1 :])  # noqa: E731
        transfer = transfer._replace(slope=jax.tree.map(repeat, transfer.slope))
    position = jnp.arange(count).reshape((1,) * axis + (count,) + (1,) * (len(shape) - axis - 1))
    position = count - 1 - position if walk.reverse else position

    def double(i: Array, transfer: Transfer) -> Transfer:
        stride = jnp.left_shift(1, i)
        earlier = jax.tree.map(lambda x: jnp.roll(x, -stride if walk.reverse else stride, axis), transfer)
        offset = carried(jnp, earlier.offset, passage_of(jnp, transfer))
        both = Transfer(
            joined_slope(jnp, earlier.slope, transfer.slope),
            offset,
            None if resets is None else earlier.dropped | transfer.dropped,
        )
        joined: Transfer = jax.tree.map(lambda x, y: jnp.where(position >= stride, x, y), both, transfer)
        return joined

    rounds = (count - 1).bit_length()
    transfer = lax.fori_loop(0, rounds, double, _carry(transfer, a, b, resets, start))
    state = jnp.expand_dims(_state(walk, b, start, without(shape, walk.axis), axis), walk.axis)
    after = carried(jnp, _carry(state, a, b, resets, start), passage_of(jnp, transfer))
    entering = algorithm.previous(jnp, after, jnp.squeeze(state, axis), axis, walk.reverse)
    last = 0 if walk.reverse else count - 1
    return entering, jnp.squeeze(lax.slice_in_dim(after, last, last + 1, axis=axis), axis)


def _transfer(walk: Walk, a: Array, b: Array, resets: Array | None, shape: Shape) -> Transfer:
    """What each chunk does to the state that enters it: all chunks run from zero, products of coefficients at their side."""
    axis, chunk = walk.axis, shape[walk.axis]
    step = _step(walk, a, b, resets, chunk)
    dtype = _precision(walk, b)

    def coefficient(t: Array | int) -> Array:
        return algorithm.coefficient(jnp, _coefficients(walk, a, b, t), walk.gate)

    def one(t: Array | int) -> Slope:
        return slope_of(jnp, coefficient(t), axis, 1, walk.reverse)

    def at(
        i: Array, carry: tuple[Array, Slope | None, Array | None]
    ) -> tuple[Array, Slope | None, Array | None]:
        k, product, dropped = carry
        t, _, k = step(i, k)
        if product is not None:
            product = joined_slope(jnp, product, one(t))
        return k, product, None if dropped is None or resets is None else dropped | _at(resets, t, axis)

    constant = a.shape[axis] == 1
    first = chunk - 1 if walk.reverse else 0
    _, _, k = step(jnp.asarray(0), jnp.zeros(_one(shape, axis), dtype))
    seen = (k, None if constant else one(first), None if resets is None else _at(resets, first, axis))
    k, product, dropped = lax.fori_loop(1, chunk, at, _carry(seen, a, b, resets))
    product = slope_of(jnp, coefficient(0), axis, chunk, walk.reverse) if product is None else product
    return Transfer(product, k, dropped)


def _step(
    walk: Walk, a: Array, b: Array, resets: Array | None, steps: int
) -> Callable[[Array, Array], tuple[Array, Array, Array]]:
    """One step of the definition: round i, carried state -> its time, its state, the state to carry on."""
    dtype = _precision(walk, b)

    def step(i: Array, k: Array) -> tuple[Array, Array, Array]:
        t = steps - 1 - i if walk.reverse else i
        x, u = _coefficients(walk, a, b, t), _at(b, t, walk.axis).astype(dtype)
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


def _precision(walk: Walk, b: Array) -> Any:
    """What the walk is carried in: gates in float64, for their long memories. `_in_64_bits` makes that possible."""
    state = algorithm.state_dtype(jnp, b.dtype)
    wide = {"float32": jnp.float64, "complex64": jnp.complex128}.get(jnp.dtype(state).name)
    return state if walk.gate == "value" or wide is None else wide


def _in_64_bits(walk: Walk) -> Any:
    """XLA computes in 64 bits whether JAX's own arrays may have them or not."""
    return contextlib.nullcontext() if walk.gate == "value" else enable_x64(True)


def _coefficients(walk: Walk, a: Array, b: Array, t: Array | int) -> Array:
    """What `a` says of a step: rounded to the state, as the contract has it, and then as wide as the walk."""
    return _at(a, t, walk.axis).astype(algorithm.state_dtype(jnp, b.dtype)).astype(_precision(walk, b))


def _state(walk: Walk, b: Array, start: Array | None, shape: Shape, axis: int) -> Array:
    dtype = _precision(walk, b)
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
    if x is None:
        return None
    if x.shape[axis] == 1:
        return jnp.expand_dims(x, axis)
    x = lax.slice_in_dim(x, first, first + count * chunk, axis=axis)
    return x.reshape(x.shape[:axis] + (count, chunk) + x.shape[axis + 1 :])


def _one(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + (1,) + shape[axis + 1 :]


# --- as kernels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChunkedLoops:
    """Steps per chunk; None takes about the square root of the length."""

    chunk: int | None = None


@dataclass(frozen=True, kw_only=True)
class TreeLoops:
    """Steps per leaf of the tree; None takes about the logarithm of the length."""

    leaf: int | None = None


class _XlaKernel(Kernel):
    backend = "xla"
    form = "arrays"
    walker: ClassVar[Callable[..., tuple[Array, Array]]]

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "jax":
            return f"XLA code runs on JAX arrays, not on {problem.framework}"
        wrong = [f"{name}={n}" for name, n in vars(config).items() if n is not None and n < 1]
        return f"{', '.join(wrong)} is not a positive number of steps" if wrong else None

    def run(self, xp: Any, spec: Walk, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return self.walk(spec, *operands, **vars(config))

    def walk(
        self, spec: Walk, a: Array, b: Array, *others: Array | None, **knobs: Any
    ) -> tuple[Array, Array]:
        with _in_64_bits(spec):
            h, final = type(self).walker(spec, a, b, *others, **knobs)
            return h, final.astype(algorithm.state_dtype(jnp, b.dtype))


class _Sequential(_XlaKernel):
    method = "sequential"
    walker = staticmethod(sequential)

    def rank(self, problem: Problem) -> float:
        return 60.0


class _Chunked(_XlaKernel):
    method = "chunked"
    config = ChunkedLoops
    walker = staticmethod(chunked)

    def rank(self, problem: Problem) -> float:
        # On a CPU a round is cheap and a second pass over memory is not; on a GPU a round costs launches.
        return 70.0 if problem.device == "cpu" or problem.time < 64 else 50.0


class _Tree(_XlaKernel):
    method = "tree"
    config = TreeLoops
    walker = staticmethod(tree)

    def rank(self, problem: Problem) -> float:
        return 80.0


class _Forward(_XlaKernel):
    operation = "linear_recurrence"


class _Backward(_XlaKernel):
    operation = "linear_recurrence_backward"

    def run(self, xp: Any, spec: Walk, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        a, b, h0, resets, h, g, g_final = operands

        def solve(walk: Walk, *arrays: Array | None) -> tuple[Array, Array]:
            return self.walk(walk, *arrays, **vars(config))

        da, db, dh0 = algorithm.backward(xp, spec, a, b, h0, resets, h, g, g_final, solve)
        return da, fit(xp, db, h if b is None else b), dh0 if h0 is None else fit(xp, dh0, h0)


class Sequential(_Forward, _Sequential):
    summary = "JAX on every platform: a loop over time inside the program"


class Chunked(_Forward, _Chunked):
    summary = "JAX on every platform: about 3 sqrt(T) rounds; the default on a GPU"


class Tree(_Forward, _Tree):
    summary = "JAX on every platform: O(log T) rounds"


class SequentialBackward(_Backward, _Sequential):
    summary = "JAX on every platform: one adjoint walk, and elementwise code that XLA fuses"


class ChunkedBackward(_Backward, _Chunked):
    summary = "JAX on every platform: the same with a chunked walk; the default on a GPU"


class TreeBackward(_Backward, _Tree):
    summary = "JAX on every platform: the same with a walk by prefix doubling"


KERNELS: tuple[Kernel, ...] = (
    Sequential(),
    Chunked(),
    Tree(),
    SequentialBackward(),
    ChunkedBackward(),
    TreeBackward(),
)
