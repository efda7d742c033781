"""Least squares from an R factor, as an operation: the rows are read by its derivatives alone.

    lstsq       x minimises sum_i w_i |a_i x - b_i|^2 + sum_j ridge_j |x_j|^2, of least norm where several do

Operands are a (..., m, n), b (..., m, k), ridge (..., n) or None, weights (..., m) or None, and r, the r_factor of
sqrt(weights) * [a | b]. Results are x (..., n, k); `residual` (..., k), the norm of what is left of each column of
sqrt(weights) (b - a x); `singular_values` (..., p) and `rank` of sqrt(weights) a; and, for derivatives alone, with A' the rows of
sqrt(weights) a and of diag(sqrt(ridge)):

    right       (..., p, n), the singular vectors that belong to `singular_values`, conjugated, as rows
    root        (..., q, n), root^H root = pinv(A'^H A')
    null        (..., n, n), the projection on what A' maps to zero: 0 itself where the rank is full
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import broadcast_shape, filled
from seqpar.algorithms.linear_algebra import LinearAlgebra
from seqpar.algorithms.matrices import adjoint, eye
from seqpar.dispatch.operation import Abstract, Array, Operation, Solve, batched, register
from seqpar.dispatch.problem import Kernel, Problem
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.operations import conjugate
from seqpar.tall.rows import lead_of
from seqpar.tall.rules_lstsq import lstsq_jvp, lstsq_vjp
from seqpar.validation import REAL

Results = tuple[Array, ...]


def rank_units(n: int) -> float:
    """Rounding units of the largest of n singular values up to which another is noise.

    Of matrices that are exactly short of rank (ones beside one-hot columns, sums, duplicates) what rounding made of the zeros
    was up to 6 units with the host's kernels, whatever the size up to 100,000 x 512. LAPACK's R of a block has up to 0.02 units
    for each of its rows: 5 of the 256 rows that R alone is made from, 8 of the 400 that 200 columns need.
    """
    return max(8.0, n / 16)


class LeastSquares(NamedTuple):
    """The static part."""

    rtol: float | None = None
    """Singular values up to this share of the largest count as none; None takes `rank_units`, and
    columns of any length for independent that are so at one length."""


def real_of(dtype: str) -> str:
    """The kind of a modulus."""
    return dtype if dtype in REAL else "float32" if dtype == "complex64" else "float64"


class _Lstsq(Operation):
    name = "lstsq"
    operands = ("a", "b", "ridge", "weights", "r")
    results = ("x", "residual", "singular_values", "rank", "right", "root", "null")
    differentiable = (True, True, True, True, False)
    wished_for = False

    def encode(self, spec: LeastSquares) -> str:
        return "" if spec.rtol is None else repr(spec.rtol)

    def decode(self, text: str) -> LeastSquares:
        return LeastSquares(float(text) if text else None)

    def sizes(self, operands: Sequence[Abstract | None]) -> tuple[tuple[int, ...], int, int, int]:
        """Leading axes, rows, columns and right-hand sides."""
        a, b = operands[:2]
        assert a is not None and b is not None
        return lead_of(operands, (2, 2, 1, 1, 2)), a.shape[-2], a.shape[-1], b.shape[-1]

    def abstract(self, spec: LeastSquares, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        lead, m, n, k = self.sizes(operands)
        a, ridge = operands[0], operands[2]
        assert a is not None
        p, q = min(m, n), min(m, n) if ridge is None else n
        real = real_of(a.dtype)
        return (
            Abstract((*lead, n, k), a.dtype),
            Abstract((*lead, k), real),
            Abstract((*lead, p), real),
            Abstract(lead, "int32"),
            Abstract((*lead, p, n), a.dtype),
            Abstract((*lead, q, n), a.dtype),
            Abstract((*lead, n, n), a.dtype),
        )

    def problem(
        self, spec: LeastSquares, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        lead, m, n, k = self.sizes(operands)
        words = [f"b={k}"]
        words += [name for name, x in zip(("ridge", "weights"), operands[2:4], strict=True) if x is not None]
        return (*lead, m, n), len(lead), tuple(words)

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        lead = len(shape) - 2
        return tuple(i if i < lead and n == shape[i] else None for i, n in enumerate(meta.shape))

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        return time, time + 1

    def empty(self, xp: Any, spec: LeastSquares, operands: Sequence[Any]) -> Results:
        a, b, _, weights, _ = operands
        kinds = {"float32": xp.float32, "float64": xp.float64}
        kinds |= {"complex64": xp.complex64, "complex128": xp.complex128, "int32": xp.int32}
        name = next(name for name, kind in kinds.items() if kind == a.dtype)
        metas = [None if x is None else Abstract(tuple(x.shape), name) for x in operands]
        found = [filled(xp, meta.shape, 0.0, a, kinds[meta.dtype]) for meta in self.abstract(spec, metas)]
        if a.shape[-2]:
            # No unknowns, or nothing to solve for: what is left is b.
            size = xp.abs(b) if weights is None else xp.abs(b) * xp.expand_dims(xp.sqrt(weights), axis=-1)
            found[1] = found[1] + xp.sqrt(xp.sum(size * size, axis=-2))
        return tuple(found)

    def reads(self, spec: LeastSquares, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        return (True, True, True, True, False), (True, True, True, False, True, True, True)

    def jvp(
        self,
        xp: Any,
        spec: LeastSquares,
        operands: Sequence[Any],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        if all(t is None for t in tangents[:4]):
            return (None,) * 7
        dx, dresidual, dvalues, *others = lstsq_jvp(xp, operands, results, tangents)
        return dx, dresidual, dvalues, None, *others

    def vjp(
        self,
        xp: Any,
        spec: LeastSquares,
        operands: Sequence[Any],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        given = [conjugate(xp, g) for g in cotangents]
        grads = lstsq_vjp(xp, operands, results, given, wanted)
        return (*(conjugate(xp, g) for g in grads), None)

    def transpose(self, *_: Any, **__: Any) -> Any:
        raise TypeError("lstsq is not linear in all of its operands: its transpose is that of its jvp")

    def batch(
        self, xp: Any, spec: LeastSquares, operands: Sequence[Any], axes: Sequence[int | None]
    ) -> tuple[Any, tuple[Array | None, ...]]:
        given = tuple(i for i, x in enumerate(operands) if x is not None)
        return spec, batched(xp, operands, axes, given)


LSTSQ = _Lstsq()
register(LSTSQ)


class FromR(Kernel):
    """Everything from the singular values of R: a few products of n x n matrices."""

    operation = "lstsq"
    backend = "framework"
    method = "svd"
    form = "arrays"
    summary = "the singular values of R; least norm where the rank is short"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def run(self, xp: Any, spec: LeastSquares, config: Any, operands: Sequence[Array | None]) -> Results:
        a, _, ridge, _, r = operands
        assert a is not None and r is not None
        return from_r(xp, r, a.shape[-1], ridge, spec.rtol)


def from_r(xp: Any, r: Array, n: int, ridge: Array | None, rtol: float | None) -> Results:
    """The results from r (..., rows, n + k) of [a | b]; ridge (..., n) is real and not negative."""
    la = linear_algebra(r)
    rows = min(r.shape[-2], n)
    left, c, rest = r[..., :rows, :n], r[..., :rows, n:], r[..., rows:, n:]
    lift = _lift(xp, left)
    u, s, vectors = la.svd(left * lift)
    kept, inverse, full = independent(xp, la, left * lift, s, rtol)
    rank = xp.sum(xp.astype(kept, xp.int32), axis=-1, dtype=xp.int32)
    values, right, above = s / lift[..., 0], vectors, c
    if ridge is not None:
        lead = broadcast_shape(r.shape[:-2], ridge.shape[:-1])
        system, above, basis, length, short = _penalised(xp, la, r, n, ridge, lead, rtol)
        lift = _lift(xp, system)
        u, s, right = la.svd(system * lift)
        # What the rank counts counts here too.
        _, inverse, full = independent(xp, la, system * lift, s, 0.0)
        share = rank_units(n) * float(xp.finfo(s.dtype).eps)
        separate = independent(xp, la, system * lift, s, None)[0]
        kept = xp.where(short[..., 0], s > share * s[..., :1], separate | ((rank == n)[..., None] & (s > 0)))
        full = full & xp.all(kept, axis=-1, keepdims=True)[..., None]
    some = kept & (s != 0)
    scale = xp.where(some, 1 / xp.where(some, s, xp.ones_like(s)), xp.zeros_like(s))
    # A NaN is never replaced by a number.
    scale = xp.where(xp.isnan(s), s, scale)
    root = right * xp.astype(scale, right.dtype)[..., None]
    parts = la.product(adjoint(xp, u), above)
    x = la.product(adjoint(xp, root), parts)
    if inverse is not None:
        # Back substitution is as exact as each column's own length allows, which singular values are not.
        x = xp.where(full, la.product(inverse, above), x)
        root = xp.where(full, adjoint(xp, inverse), root)
    if ridge is not None:
        x = la.product(adjoint(xp, basis), x / xp.matrix_transpose(length))
        root, right = la.product(root / length, basis), la.product(right, basis)
    x, root = x * lift, root * lift
    if ridge is None:
        # What R leaves of b is known without a difference of numbers of the size of b.
        left_over = xp.where(kept[..., None], xp.zeros_like(parts), parts)
    else:
        # R is one for several ridges.
        left_over, rest = c - la.product(left, x), _repeated(xp, rest, lead, 2)
        values, vectors = _repeated(xp, values, lead, 1), _repeated(xp, vectors, lead, 2)
        rank = _repeated(xp, rank, lead, 0)
    residual = norms(xp, xp.concat([left_over, rest], axis=-2))
    return x, residual, values, rank, vectors, root, _null(xp, la, right, kept)


def _penalised(
    xp: Any, la: LinearAlgebra, r: Array, n: int, ridge: Array, lead: tuple[int, ...], rtol: float | None
) -> tuple[Array, Array, Array, Array, Array]:
    """The triangle of R with rows sqrt(ridge) below it, and what it has on the right; never R^H R, whose condition is the square.

    Where the rank is short (..., 1, 1), singular values that do not count are zero, exactly: their rounding errors against a
    small ridge would be taken for columns. Unknowns are then those along the singular vectors, the rows of `basis`, and columns
    are divided by `length`: the penalty's for those that R leaves free, which it alone decides.
    """
    r = r[..., : min(r.shape[-2], n), :]
    missing = n - r.shape[-2]
    if missing:
        r = xp.concat([r, filled(xp, (*r.shape[:-2], missing, r.shape[-1]), 0.0, r, r.dtype)], axis=-2)
    left, c = r[..., :n], r[..., n:]
    lift = _lift(xp, left)
    u, values, vectors = la.svd(left * lift)
    counts = independent(xp, la, left * lift, values, rtol)[0]
    short = ~xp.all(counts | xp.isnan(values), axis=-1, keepdims=True)[..., None]
    root = xp.sqrt(ridge)
    # A penalty above all that R has is no small one, and each feature's own has to stay apart.
    most = xp.max(root, axis=-1, keepdims=True)
    largest = values[..., :1] / lift[..., 0]
    short = short & (most <= largest)[..., None]
    identity = eye(xp, r, n)
    cut = (
        xp.astype(xp.where(counts, values / lift[..., 0], xp.zeros_like(values)), r.dtype)[..., None]
        * identity
    )
    turned = la.product(adjoint(xp, u), c) * xp.astype(counts, r.dtype)[..., None]
    basis = xp.where(short, vectors, identity)
    below = xp.astype(root, r.dtype)[..., None] * adjoint(xp, basis)
    top = xp.concat([xp.where(short, cut, left), xp.where(short, turned, c)], axis=-1)
    nothing = filled(xp, (*lead, n, c.shape[-1]), 0.0, c, c.dtype)
    below = xp.concat([_repeated(xp, below, lead, 2), nothing], axis=-1)
    stacked = la.r(xp.concat([_repeated(xp, top, lead, 2), below], axis=-2))
    system, above = stacked[..., :n, :n], stacked[..., :n, n:]
    own = xp.where(counts, norms(xp, system), most)
    own = xp.where(short[..., 0] & (own > 0), own, xp.ones_like(own))
    length = xp.astype(own, r.dtype)[..., None, :]
    system = system / length
    # Singular vectors are exact by the size of all rows, back substitution row by row. Where there is none, a penalty of less
    # than sqrt(eps) of the rows says nothing about the unknowns that they leave free.
    _, inverse, usable = independent(xp, la, system, xp.ones_like(own), 0.0)
    share = rank_units(n) * float(xp.finfo(own.dtype).eps)
    solvable = usable & (share * xp.sqrt(_square(xp, system) * _square(xp, inverse)) < 1)
    faint = most < float(xp.finfo(own.dtype).eps) ** 0.5 * largest
    ignored = (short & ~solvable & faint[..., None]) & ~counts[..., None, :]
    return xp.where(ignored, xp.zeros_like(system), system), above, basis, length, short


def independent(
    xp: Any, la: LinearAlgebra, r: Array, s: Array, rtol: float | None
) -> tuple[Array, Array | None, Array]:
    """Which singular values s of upper triangular r count; r^-1; and where (..., 1, 1) that is to be used.

    Without an rtol all of them count where columns of r brought to one length are independent, |r| |r^-1| < 1 / share in
    Frobenius' norm, though some be 1e-10 of the others: QR is exact to rounding column by column.
    """
    share = rank_units(r.shape[-1]) * float(xp.finfo(s.dtype).eps)
    kept = s > (share if rtol is None else rtol) * s[..., :1]
    n = r.shape[-1]
    if r.shape[-2] < n:
        return kept, None, kept
    largest = xp.max(xp.abs(r), axis=-2, keepdims=True)
    unit = xp.astype(xp.where(largest > 0, largest, xp.ones_like(largest)), r.dtype)
    identity = eye(xp, r, n)
    scaled = r / unit
    singular = xp.any((scaled == 0) & (identity == 1), axis=(-2, -1), keepdims=True)
    every = identity if r.ndim == 2 else xp.broadcast_to(identity, r.shape)
    inverse = la.solve_right(every, xp.where(singular, identity, scaled))
    size = xp.sqrt(_square(xp, scaled) * _square(xp, inverse))
    usable = ~singular & xp.isfinite(size)
    if rtol is None:
        kept = kept | (usable & (share * size < 1))[..., 0]
    full = usable & xp.all(kept, axis=-1, keepdims=True)[..., None]
    return kept, inverse / xp.matrix_transpose(unit), full


def _lift(xp: Any, r: Array) -> Array:
    """A power of two (..., 1, 1) that brings r among numbers whose inverses are finite: 1 but for r that is next to nothing."""
    size = xp.max(xp.abs(r), axis=(-2, -1), keepdims=True)
    kind = xp.finfo(size.dtype)
    small = (size > 0) & (size < float(kind.smallest_normal) / float(kind.eps))
    return xp.where(small, xp.full_like(size, float(kind.eps) ** -2), xp.ones_like(size))


def _square(xp: Any, x: Array) -> Array:
    """The square of Frobenius' norm."""
    return xp.sum(xp.abs(x) ** 2, axis=(-2, -1), keepdims=True)


def _null(xp: Any, la: LinearAlgebra, right: Array, kept: Array) -> Array:
    """The projection on the complement of the rows of `right` that are kept; 0 and not its rounding errors if all n are."""
    n = right.shape[-1]
    some = right * xp.expand_dims(xp.astype(kept, right.dtype), axis=-1)
    outside = eye(xp, right, n) - la.product(adjoint(xp, some), some)
    every = xp.sum(xp.astype(kept, xp.int32), axis=-1, keepdims=True)[..., None] == n
    return xp.where(every, xp.zeros_like(outside), outside)


def norms(xp: Any, x: Array) -> Array:
    """The norm of each column, of numbers whose squares may overflow."""
    size = xp.abs(x)
    largest = xp.max(size, axis=-2, keepdims=True)
    unit = xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))
    return xp.sqrt(xp.sum((size / unit) ** 2, axis=-2)) * unit[..., 0, :]


def _repeated(xp: Any, x: Array, lead: tuple[int, ...], own: int) -> Array:
    """x with leading axes of full size, in memory of its own; `own` axes are behind them."""
    shape = (*lead, *x.shape[x.ndim - own :])
    return x if tuple(x.shape) == shape else xp.asarray(xp.broadcast_to(x, shape), copy=True)


KERNELS = (FromR(),)
