"""Linear recurrences in XLA code: what their steps read, and their kernels."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.algorithms.arrays import broadcast_shape, state_dtype
from seqpar.algorithms.gates import coefficient, complement
from seqpar.algorithms.transfer import NUMBERS, Slope, slope_of
from seqpar.dispatch.operation import fit
from seqpar.dispatch.problem import Array, Kernel
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar_jax import kernels
from seqpar_jax.kernels import ChunkedLoops, TreeLoops, XlaKernel
from seqpar_jax.loops import Recurrence, Steps, in_place
from seqpar_jax.precision import doubled

__all__ = ["KERNELS", "ChunkedLoops", "TreeLoops"]


class _LinearRecurrence(Recurrence):
    kind = NUMBERS

    def shape(self, a: Array, b: Array) -> tuple[int, ...]:
        return broadcast_shape(a.shape, b.shape)

    def in_64_bits(self, walk: Walk, a: Array) -> bool:
        # Gates are carried in double precision, for their long memories.
        return walk.gate != "value"

    def precision(self, walk: Walk, b: Array) -> Any:
        state = state_dtype(jnp, b.dtype)
        return state if walk.gate == "value" else doubled(state)

    def load(self, walk: Walk, a: Array, b: Array) -> tuple[Array, Array]:
        """Coefficients, rounded to the state as the contract has it and then as wide as the walk, and inputs."""
        wide = self.precision(walk, b)
        x, u = a.astype(state_dtype(jnp, b.dtype)).astype(wide), b.astype(wide)
        if walk.convex and not walk.adjoint:
            u = complement(jnp, x, walk.gate) * u
        return coefficient(jnp, x, walk.gate), u

    def slope(self, c: Array, shared: bool) -> Slope:
        return slope_of(jnp, c, 0, 1, False)


def _sequential(steps: Steps, start: Array) -> tuple[Array, Array]:
    shape, axis = steps.shape, steps.axis
    if math.prod(shape[axis + 1 :]) >= 16 or math.prod(shape[:axis]) == 1:
        return in_place(steps, start)
    # Slices of a few numbers each are slow: put time in front, at the price of copies.
    a, b, resets = (None if x is None else jnp.moveaxis(x, axis, 0) for x in (steps.a, steps.b, steps.resets))
    shape = (shape[axis], *without(shape, axis))
    in_front = steps._replace(a=a, b=b, resets=resets, shape=shape, axis=0)
    h, state = in_place(in_front, jnp.moveaxis(start, axis, 0))
    return jnp.moveaxis(h, 0, axis), jnp.moveaxis(state, 0, axis)


class _Linear(XlaKernel):
    recurrence = _LinearRecurrence()


class _Forward(_Linear):
    operation = "linear_recurrence"


class _Backward(_Linear):
    operation = "linear_recurrence_backward"

    def run(self, xp: Any, spec: Walk, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        a, b, h0, resets, h, g, g_final = operands

        def solve(walk: Walk, *arrays: Any) -> tuple[Array, Array]:
            return self.walk(walk, config, *arrays)

        da, db, dh0 = algorithm.backward(xp, spec, a, b, h0, resets, h, g, g_final, solve)
        return da, fit(xp, db, h if b is None else b), dh0 if h0 is None else fit(xp, dh0, h0)


class Sequential(_Forward, kernels.Sequential):
    summary = "JAX on every platform: a loop over time inside the program"
    walker = staticmethod(_sequential)


class Chunked(_Forward, kernels.Chunked):
    summary = "JAX on every platform: about 3 sqrt(T) rounds; the default on a GPU"


class Tree(_Forward, kernels.Tree):
    summary = "JAX on every platform: O(log T) rounds"


class SequentialBackward(_Backward, kernels.Sequential):
    summary = "JAX on every platform: one adjoint walk, and elementwise code that XLA fuses"
    walker = staticmethod(_sequential)


class ChunkedBackward(_Backward, kernels.Chunked):
    summary = "JAX on every platform: the same with a chunked walk; the default on a GPU"


class TreeBackward(_Backward, kernels.Tree):
    summary = "JAX on every platform: the same with a walk by prefix doubling"


KERNELS: tuple[Kernel, ...] = (
    Sequential(),
    Chunked(),
    Tree(),
    SequentialBackward(),
    ChunkedBackward(),
    TreeBackward(),
)
