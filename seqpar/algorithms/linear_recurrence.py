"""Linear recurrences against the array API: one walk over time by three methods, and its fused backward pass.

Called by the public operation where no faster kernel serves, by the bindings, and by tests. Operands are canonical: a, b and
resets have the rank of the result and broadcast against each other; h0 lacks the time axis. With c the coefficient that `a`
stands for, u = b (or (1 - c) b under convex), and k the state carried along the walk, starting as h0 or 0:

    plain:     h[t] = u[t] if reset[t] else c[t] k + u[t];    k = h[t]
    adjoint:   h[t] = b[t] + k;                               k = 0 if reset[t] else c[t] h[t]

The result is (h, k at the end). The adjoint walk in the other direction is the linear transpose of the plain one, never
conjugated. Both are affine in k, so the parallel methods treat them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from seqpar.algorithms.affine import Direction, Steps, in_chunks, in_tree, starting, step_by_step
from seqpar.algorithms.arrays import broadcast_shape, double_of, previous, state_dtype, sum_to
from seqpar.algorithms.gates import coefficient, coefficient_derivative, complement
from seqpar.algorithms.transfer import NUMBERS

Array = Any

__all__ = [
    "backward",
    "chunked",
    "coefficient",
    "coefficient_derivative",
    "complement",
    "previous",
    "sequential",
    "state_dtype",
    "sum_to",
    "tree",
]


class WalkOptions(Direction, Protocol):
    """The static options of one walk."""

    @property
    def axis(self) -> int: ...
    @property
    def gate(self) -> str: ...
    @property
    def convex(self) -> bool: ...


W = TypeVar("W", bound=WalkOptions)


def sequential(
    xp: Any, walk: WalkOptions, a: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Array, Array]:
    """The definition: a loop over all steps. Non-finite values travel exactly as the formula carries them."""
    return step_by_step(xp, NUMBERS, walk, *_steps(xp, walk, a, b, h0, resets))


def chunked(
    xp: Any,
    walk: WalkOptions,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    chunk: int | None = None,
) -> tuple[Array, Array]:
    """Chunks of about sqrt(T) steps, all at once, before a loop over chunks and after it."""
    return in_chunks(xp, NUMBERS, walk, *_steps(xp, walk, a, b, h0, resets), chunk)


def tree(
    xp: Any,
    walk: WalkOptions,
    a: Array,
    b: Array,
    h0: Array | None,
    resets: Array | None,
    *,
    leaf: int = 8,
) -> tuple[Array, Array]:
    """Chunks of `leaf` steps whose states are carried across by recursive halving: O(log T) array steps."""
    return in_tree(xp, NUMBERS, walk, *_steps(xp, walk, a, b, h0, resets), leaf)


def backward(
    xp: Any,
    walk: W,
    a: Array,
    b: Array | None,
    h0: Array | None,
    resets: Array | None,
    h: Array,
    g: Array,
    g_final: Array | None,
    solve: Callable[[W, Array, Array, Array | None, Array | None], tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """(da, db, dh0) of a plain walk with result h, from the cotangents of h and of the final state: one adjoint walk.

        lam = the adjoint walk over g, from g_final, against the direction of the plain walk; dh0 is where it ends
        dc  = (0 if reset else lam * h_before) - (lam * b under convex);   da = dc * dc/da;   db = lam or (1 - c) lam

    `da` has the shape of `a`; `db` the full shape, for the caller to reduce. `b` is read under convex only. The walk over
    half precision cotangents runs in float32, so that `da` loses nothing to rounded intermediate values.
    """
    state = state_dtype(xp, h.dtype)
    lam, dh0 = solve(walk.transpose(), a, xp.astype(g, state, copy=False), g_final, resets)
    dc = lam * previous(xp, h, h0, walk.axis, walk.reverse)
    if resets is not None:
        dc = xp.where(resets, xp.zeros_like(dc), dc)
    wide = xp.astype(a, state, copy=False)
    db = lam
    if walk.convex:
        dc = dc - lam * xp.astype(b, state, copy=False)
        db = complement(xp, wide, walk.gate) * lam
    da = sum_to(xp, dc, a.shape)
    if walk.gate != "value":
        da = da * coefficient_derivative(xp, wide, walk.gate)
    return xp.astype(da, a.dtype, copy=False), xp.astype(db, h.dtype, copy=False), dh0


def _steps(
    xp: Any, walk: WalkOptions, a: Array, b: Array, h0: Array | None, resets: Array | None
) -> tuple[Steps, Array]:
    """What the steps read, and the state that enters them, both in the precision of the walk."""
    state = state_dtype(xp, b.dtype)
    carry = _carry_dtype(xp, state, walk.gate, b)
    shape = broadcast_shape(a.shape, b.shape)
    a = xp.astype(xp.astype(a, state, copy=False), carry, copy=False)
    u = xp.astype(b, carry, copy=False)
    if walk.convex:
        u = complement(xp, a, walk.gate) * u
    c = coefficient(xp, a, walk.gate)
    return Steps(c, u, resets, shape, walk.axis, b.dtype), starting(xp, h0, shape, walk.axis, u)


def _carry_dtype(xp: Any, state: Any, gate: str, like: Array) -> Any:
    """The precision of the walk: the state's, and double that for gates, whose point is a memory of a million steps.

    Below 1 float32 has nothing between 1 and 1 - 6e-8. A coefficient of exp(-1e-7) rounded to it is off by 2 % of what it
    forgets, which at 131,072 steps is an error of 1e-3.
    """
    return state if gate == "value" else double_of(xp, state, like)
