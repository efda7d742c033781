"""Matrix recurrences against the array API: one walk over time by three methods, and its fused backward pass.

Called by the public operation where no faster kernel serves, by the bindings, and by tests. Operands are canonical:
A: (lead..., n, n), b: (lead..., n, k), resets: (lead..., 1, 1), h0: (lead without time..., n, k). Time is one of the leading
axes, which broadcast against each other; where `A` has size 1 there, it is one constant matrix. With M the matrix A, or its
transpose under `transposed`, and k the state carried along the walk, starting as h0 or 0:

    plain:     h[t] = b[t] if reset[t] else M[t] k + b[t];    k = h[t]
    adjoint:   h[t] = b[t] + k;                               k = 0 if reset[t] else M[t] h[t]

The result is (h, k at the end). The adjoint walk in the other direction over the transposed matrices is the linear transpose
of the plain one, never conjugated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from seqpar.algorithms.affine import Direction, Steps, in_chunks, in_tree, starting, step_by_step
from seqpar.algorithms.arrays import broadcast_shape, previous, state_dtype, sum_to
from seqpar.algorithms.matrices import matrix_transpose, product
from seqpar.algorithms.matrix_transfer import MATRICES

Array = Any

__all__ = ["backward", "chunked", "sequential", "tree"]


class WalkOptions(Direction, Protocol):
    """The static options of one walk."""

    @property
    def axis(self) -> int: ...
    @property
    def transposed(self) -> bool: ...


W = TypeVar("W", bound=WalkOptions)


def sequential(
    xp: Any, walk: WalkOptions, A: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Array, Array]:
    """The definition: a loop over all steps. Non-finite values travel exactly as the formula carries them."""
    return step_by_step(xp, MATRICES, walk, *_steps(xp, walk, A, b, h0, resets))


def chunked(
    xp: Any,
    walk: WalkOptions,
    A: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    chunk: int | None = None,
) -> tuple[Array, Array]:
    """Chunks of about sqrt(T) steps, all at once, before a loop over chunks and after it; n times the work of the definition."""
    return in_chunks(xp, MATRICES, walk, *_steps(xp, walk, A, b, h0, resets), chunk)


def tree(
    xp: Any,
    walk: WalkOptions,
    A: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    leaf: int = 8,
) -> tuple[Array, Array]:
    """Chunks of `leaf` steps whose states are carried across by recursive halving: O(log T) array steps."""
    return in_tree(xp, MATRICES, walk, *_steps(xp, walk, A, b, h0, resets), leaf)


def backward(
    xp: Any,
    walk: W,
    A: Array,
    h0: Array | None,
    resets: Array | None,
    h: Array,
    g: Array,
    g_final: Array | None,
    solve: Callable[[W, Array, Array, Array | None, Array | None], tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """(dA, db, dh0) of a plain walk with result h, from the cotangents of h and of the final state: one adjoint walk.

        lam = the adjoint walk over g, from g_final, against the direction of the plain walk; dh0 is where it ends
        db = lam;   dM = 0 if reset else lam h_before^T, summed over columns;   dA = dM or its transpose

    `dA` has the shape of `A`; `db` the full shape, for the caller to reduce. The walk over half precision cotangents runs in
    float32, so that `dA` loses nothing to rounded intermediate values.
    """
    lam, dh0 = solve(walk.transpose(), A, xp.astype(g, state_dtype(xp, h.dtype), copy=False), g_final, resets)
    before = previous(xp, h, h0, walk.axis, walk.reverse)
    rows, columns = (before, lam) if walk.transposed else (lam, before)
    dA = product(xp, rows, matrix_transpose(xp, columns))
    if resets is not None:
        dA = xp.where(resets, xp.zeros_like(dA), dA)
    dA = sum_to(xp, dA, A.shape)
    return xp.astype(dA, A.dtype, copy=False), xp.astype(lam, h.dtype, copy=False), dh0


def _steps(
    xp: Any, walk: WalkOptions, A: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Steps, Array]:
    """What the steps read, and the state that enters them, both in the precision of the state."""
    state = state_dtype(xp, b.dtype)
    A, u = xp.astype(A, state, copy=False), xp.astype(b, state, copy=False)
    M = matrix_transpose(xp, A) if walk.transposed else A
    shape = (*broadcast_shape(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    return Steps(M, u, resets, shape, walk.axis, b.dtype), starting(xp, h0, shape, walk.axis, u)
