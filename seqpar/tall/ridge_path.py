"""Ridge regression for many penalties from one SVD of a small R factor.

With R = U diag(s) V^H for the columns of a, and c the first rows of those of b turned by U^H, the solution for a penalty l is
V diag(s / (s^2 + l)) c; sum s^2 / (s^2 + l) degrees of freedom went into it, and |l / (s^2 + l) c|^2 + |rest|^2 is left over
(Golub, Heath and Wahba 1979, where generalised cross-validation comes from). A column of ones is eliminated first by putting
it in front of the others: what is below the first row of that R factor is the problem without the intercept.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from seqpar.algorithms.matrices import adjoint
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError
from seqpar.tall.lstsq_operation import independent, norms, rank_units

A = TypeVar("A")


class RidgePath(NamedTuple, Generic[A]):
    """Solutions for several penalties, as `LstsqAccumulator.solve_path` returns them; L is how many."""

    ridges: A
    """The penalties, (L,)."""
    x: A
    """A solution for each: (L, n), or (L, n, k) for several outputs; one row more with an intercept."""
    residual_norm: A
    """The norm of what each leaves over, without its penalty: (L,) or (L, k)."""
    degrees_of_freedom: A
    """The trace of the matrix that takes b to a x, (L,); an intercept counts as one."""
    gcv: A
    """Generalised cross-validation, (L,): rows * residual_norm^2 / (rows - degrees_of_freedom)^2, the mean over outputs;
    infinity where nothing is left free."""

    @property
    def best(self) -> int:
        """The index of the least `gcv`. Reads one number back from a device."""
        return least(self.gcv)


def least(scores: Array) -> int:
    """The index of the least score that is a finite number."""
    xp = binding_for(type(scores)).namespace(scores)
    finite = xp.isfinite(scores)
    if not bool(xp.any(finite)):
        raise OptionError(
            "best: no score is finite. Either rows with NaN or infinity were pushed, which nothing takes out again, or too few "
            "for what is to be found. Drop such rows before they are pushed, or push more."
        )
    return int(xp.argmin(xp.where(finite, scores, xp.full_like(scores, float("inf")))))


class Solutions(NamedTuple):
    """Those of any number of problems (...) for L penalties."""

    x: Array
    """(..., L, columns, k)."""
    residual: Array
    """(..., L, k)."""
    freedom: Array
    """(..., L)."""


def solutions(
    binding: Binding, r: Array, ridges: Array, n: int, intercept: bool, rtol: float | None
) -> Solutions:
    """From r (..., N, N) of [a | 1 | b], a of n columns, and real penalties (L,), for all of them at once."""
    xp = binding.namespace(r)
    la = binding.linear_algebra(xp)
    share = rank_units(n + intercept) * float(xp.finfo(ridges.dtype).eps) if rtol is None else rtol
    first = None
    if intercept:
        # A factorisation and not a subtraction of means, which cancels.
        turned = la.r(xp.concat([r[..., n : n + 1], r[..., :n], r[..., n + 1 :]], axis=-1))
        first, r = turned[..., :1, :], turned[..., 1:, 1:]
    left, above = r[..., :n, :n], r[..., :n, n:]
    u, s, vh = la.svd(left)
    apart, inverse, full = independent(xp, la, left, s, rtol)
    if first is not None:
        # What the mean leaves of a column is noise by the length that the column had, as in `lstsq`.
        whole = turned[..., : n + 1, : n + 1]
        sizes = la.svd(whole)[1]
        full = independent(xp, la, whole, sizes, rtol)[2]
        apart = full[..., 0] | (s > share * sizes[..., :1])
    c = la.product(adjoint(xp, u), above)[..., None, :, :]
    s, root = s[..., None, :], xp.sqrt(ridges)[:, None]
    # Never s^2 + l: squares of float32 overflow above 1e19.
    size = xp.hypot(s, root)
    # As `lstsq` cuts, with any penalty; NaN is not cut.
    kept = (apart[..., None, :] & (size > 0)) | xp.isnan(size)
    safe = xp.where(kept, size, xp.ones_like(size))
    used = xp.where(kept, s / safe, xp.zeros_like(size))
    unused = xp.where(kept, root / safe, xp.ones_like(size)) ** 2
    parts = c * xp.expand_dims(xp.astype(used / safe, c.dtype), axis=-1)
    x = la.product(adjoint(xp, vh)[..., None, :, :], parts)
    if inverse is not None:
        # Without a penalty columns of any length are told apart, by the same back substitution as in `lstsq`.
        free = (ridges == 0)[:, None, None] & full[..., None, :, :]
        x = xp.where(free, la.product(inverse, above)[..., None, :, :], x)
    left_over = c * xp.expand_dims(xp.astype(unused, c.dtype), axis=-1)
    rest = r[..., None, n:, n:]
    rest = xp.broadcast_to(rest, (*left_over.shape[:-2], *rest.shape[-2:]))
    residual = norms(xp, xp.concat([left_over, rest], axis=-2))
    freedom = xp.sum(used**2, axis=-1)
    if first is not None:
        corner = first[..., None, :, :1]
        some = corner != 0
        level = first[..., None, :, n + 1 :] - la.product(first[..., None, :, 1 : n + 1], x)
        level = level / xp.where(some, corner, xp.ones_like(corner))
        x = xp.concat([x, xp.where(some, level, xp.zeros_like(level))], axis=-2)
        freedom = freedom + xp.astype(some, freedom.dtype)[..., 0, 0]
    return Solutions(x, residual, freedom)


def path(
    static: tuple[Binding, int, bool, float | None], r: Array, ridges: Array, rows: Array
) -> tuple[Array, ...]:
    """The arrays of a `RidgePath` but its penalties; rows () counts those behind r (N, N)."""
    binding, n, intercept, rtol = static
    xp = binding.namespace(r)
    found = solutions(binding, r, ridges, n, intercept, rtol)
    free = rows - found.freedom
    some = ~(free <= rows * (n * float(xp.finfo(free.dtype).eps)))
    ratio = found.residual / xp.expand_dims(xp.where(some, free, xp.ones_like(free)), axis=-1)
    score = rows * xp.mean(ratio**2, axis=-1)
    score = xp.where(some, score, xp.full_like(score, float("inf")))
    return found.x, found.residual, found.freedom, score
