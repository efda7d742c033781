"""Exact K-fold cross-validation from one R factor per fold, without the rows.

The R factor of all folds but one comes from those of the folds, K of them from 3 K merges by prefixes and suffixes. What a
solution X leaves over on the fold that it has not seen is |B - A X| = |C - R X|, where [R | C] is that fold's R factor.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.options import NO_WISH
from seqpar.dispatch.problem import Array
from seqpar.tall.lstsq_operation import norms
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ridge_path import least, solutions

A = TypeVar("A")


class CrossValidation(NamedTuple, Generic[A]):
    """What `LstsqAccumulator.cross_validate` returns, for K folds and L penalties."""

    ridges: A
    """The penalties, (L,)."""
    scores: A
    """The mean squared error on each fold of the solution from all others, (K, L), over rows and outputs."""
    mean: A
    """The mean over folds, (L,)."""
    standard_error: A
    """Its standard error, (L,): the standard deviation between folds over sqrt(K)."""

    @property
    def best(self) -> int:
        """The index of the least `mean`. Reads one number back from a device."""
        return least(self.mean)


def scores(
    static: tuple[Binding, int, bool, float | None], ridges: Array, rows: Array, *factors: Array
) -> tuple[Array, ...]:
    """The arrays of a `CrossValidation` but its penalties; `rows` (K,) counts those behind each R factor (N, N)."""
    binding, n, intercept, rtol = static
    xp = binding.namespace(rows)
    la = binding.linear_algebra(xp)
    folds = len(factors)
    others = xp.stack(all_but_one(binding, factors))
    x = solutions(binding, others, ridges, n, intercept, rtol).x
    held = xp.stack(factors)[:, None, :, :]
    columns = x.shape[-2]
    errors = norms(xp, held[..., columns:] - la.product(held[..., :columns], x))
    found = xp.mean(errors**2, axis=-1) / xp.expand_dims(rows, axis=-1)
    mean = xp.mean(found, axis=0)
    spread = xp.sqrt(xp.sum((found - mean) ** 2, axis=0) / (folds * (folds - 1)))
    return found, mean, spread


def all_but_one(binding: Binding, factors: tuple[Array, ...]) -> list[Array]:
    """For each of several R factors that of the rows behind all others."""

    def merge(r: Array, more: Array) -> Array:
        return binding.call(R_FACTOR, Factorisation(), (more, None, None, r), NO_WISH)[0]

    before, behind = [factors[0]], [factors[-1]]
    for r in factors[1:-1]:
        before.append(merge(before[-1], r))
    for r in factors[-2:0:-1]:
        behind.append(merge(behind[-1], r))
    behind.reverse()
    between = [merge(r, more) for r, more in zip(before, behind[1:], strict=False)]
    return [behind[0], *between, before[-1]]
