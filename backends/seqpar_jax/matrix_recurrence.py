"""Matrix recurrences in XLA code: what their steps read, how they multiply, and their kernels."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from seqpar.algorithms.arrays import broadcast_shape, previous, state_dtype
from seqpar.algorithms.matrices import matrix_transpose
from seqpar.algorithms.matrix_transfer import MATRICES
from seqpar.algorithms.scaled import Scaled, scaled, summable
from seqpar.dispatch.operation import fit
from seqpar.dispatch.problem import Array, Kernel
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar_jax import kernels
from seqpar_jax.kernels import XlaKernel
from seqpar_jax.loops import Recurrence
from seqpar_jax.precision import doubled

__all__ = ["KERNELS"]

HIGHEST = lax.Precision.HIGHEST


def _product(xp: Any, x: Array, y: Array) -> Array:
    """x @ y in the precision of its elements.

    Written out up to n = 16, so that XLA fuses it with the rest of a step. Milliseconds on 2 cores, float32, 4,096 steps, against
    a dot and a sum over a broadcast product: n=4, 64 sequences 8, 8, 8; of 4 columns 18, 240, 90; n=16, 16 sequences 24, 21,
    173; of 16 columns 70, 95, 174. Beyond, n=64, 4 sequences: the dot 51, the sum 375.
    """
    contracted = x.shape[-1]
    if contracted == 0 or contracted > 16:
        return jnp.matmul(x, y, precision=HIGHEST)
    total = x[..., :, 0:1] * y[..., 0:1, :]
    for i in range(1, contracted):
        total = total + x[..., :, i : i + 1] * y[..., i : i + 1, :]
    return total


def _outer(rows: Array, columns: Array, shape: tuple[int, ...]) -> Array:
    """rows @ columns^T, summed over the leading axes that `shape` does not have: one dot."""
    lead = range(len(shape) - 2)
    kept = [i for i in lead if rows.shape[i] == shape[i]]
    summed = [i for i in lead if i not in kept]
    if not summed:
        return _product(jnp, rows, matrix_transpose(jnp, columns))
    over = [*summed, len(shape) - 1]
    total = lax.dot_general(rows, columns, ((over, over), (kept, kept)), precision=HIGHEST)
    return total.reshape(shape)


class _MatrixRecurrence(Recurrence):
    kind = MATRICES._replace(applied=_product)

    def shape(self, A: Array, b: Array) -> tuple[int, ...]:
        return (*broadcast_shape(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])

    def in_64_bits(self, walk: MatrixWalk, A: Array) -> bool:
        return bool(A.shape[walk.axis] == 1)

    def precision(self, walk: MatrixWalk, b: Array) -> Any:
        return state_dtype(jnp, b.dtype)

    def load(self, walk: MatrixWalk, A: Array, b: Array) -> tuple[Array, Array]:
        wide = self.precision(walk, b)
        A = A.astype(wide)
        return matrix_transpose(jnp, A) if walk.transposed else A, b.astype(wide)

    def slope(self, c: Array, shared: bool) -> Scaled:
        # The rounding errors of one matrix' powers all point the same way, so those are formed in double precision.
        return summable(jnp, scaled(jnp, c.astype(doubled(c.dtype)) if shared else c))


class _Matrix(XlaKernel):
    recurrence = _MatrixRecurrence()


class _Forward(_Matrix):
    operation = "matrix_recurrence"


class _Backward(_Matrix):
    operation = "matrix_recurrence_backward"

    def run(
        self, xp: Any, spec: MatrixWalk, config: Any, operands: Sequence[Array | None]
    ) -> tuple[Array, ...]:
        """As the algorithm's `backward`, with the sums over steps and sequences as one dot."""
        A, h0, resets, h, g, g_final = operands
        assert A is not None and h is not None and g is not None
        lam, dh0 = self.walk(
            spec.transpose(), config, A, g.astype(state_dtype(jnp, h.dtype)), g_final, resets
        )
        rows, columns = lam, previous(jnp, h, h0, spec.axis, spec.reverse)
        if resets is not None:
            # Both are deselected: the product of one with a NaN of the other would be one.
            rows, columns = (jnp.where(resets, jnp.zeros_like(x), x) for x in (rows, columns))
        if spec.transposed:
            rows, columns = columns, rows
        dA = _outer(rows, columns, A.shape).astype(A.dtype)
        return dA, lam.astype(h.dtype), dh0 if h0 is None else fit(jnp, dh0, h0)


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
