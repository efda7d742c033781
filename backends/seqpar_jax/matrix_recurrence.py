"""Matrix recurrences in XLA code: what their steps read, how they multiply, and their kernels."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from seqpar.algorithms import matrix_recurrence as algorithm
from seqpar.algorithms.arrays import broadcast_shape, state_dtype
from seqpar.algorithms.matrices import matrix_transpose
from seqpar.algorithms.matrix_transfer import MATRICES
from seqpar.dispatch.operation import fit
from seqpar.dispatch.problem import Array, Kernel
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_jax import kernels
from seqpar_jax.kernels import XlaKernel
from seqpar_jax.loops import Recurrence

__all__ = ["KERNELS"]


def _product(xp: Any, x: Array, y: Array) -> Array:
    """x @ y in the precision of its elements."""
    contracted = x.shape[-1]
    if contracted > 16:
        return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
    total = x[..., :, 0:1] * y[..., 0:1, :]
    for i in range(1, contracted):
        total = total + x[..., :, i : i + 1] * y[..., i : i + 1, :]
    return total


def _precision(walk: MatrixWalk, b: Array) -> Any:
    return state_dtype(jnp, b.dtype)


def _load(walk: MatrixWalk, A: Array, b: Array) -> tuple[Array, Array]:
    wide = _precision(walk, b)
    A = A.astype(wide)
    return matrix_transpose(jnp, A) if walk.transposed else A, b.astype(wide)


def _shape(A: Array, b: Array) -> tuple[int, ...]:
    return (*broadcast_shape(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])


class _Matrix(XlaKernel):
    recurrence = Recurrence(MATRICES._replace(applied=_product), _shape, _precision, _load)


class _Forward(_Matrix):
    operation = "matrix_recurrence"


class _Backward(_Matrix):
    operation = "matrix_recurrence_backward"

    def run(self, xp: Any, spec: MatrixWalk, config: Any, operands: Sequence[Any]) -> tuple[Array, ...]:
        A, h0, resets, h, g, g_final = operands

        def solve(walk: MatrixWalk, *arrays: Any) -> tuple[Array, Array]:
            return self.walk(walk, config, *arrays)

        dA, db, dh0 = algorithm.backward(xp, spec, A, h0, resets, h, g, g_final, solve)
        return dA, db, dh0 if h0 is None else fit(xp, dh0, h0)


class Sequential(_Forward, kernels.Sequential):
    summary = "JAX on every platform: a loop over time inside the program"


class Chunked(_Forward, kernels.Chunked):
    summary = "JAX on every platform: about 3 sqrt(T) rounds; the default on a GPU"


class Tree(_Forward, kernels.Tree):
    summary = "JAX on every platform: O(log T) rounds"


class SequentialBackward(_Backward, kernels.Sequential):
    summary = "JAX on every platform: one adjoint walk, and elementwise code that XLA fuses"


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
