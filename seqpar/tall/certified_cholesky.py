"""Cholesky QR that never returns what is not certified: stronger methods for the matrices that need them, at last TSQR."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from seqpar.algorithms import tsqr
from seqpar.algorithms.arrays import filled
from seqpar.algorithms.cholesky_qr import Gram, cholesky_qr, one_pass, shifted, sketched
from seqpar.algorithms.linear_algebra import Failed, LinearAlgebra
from seqpar.dispatch.problem import Array
from seqpar.tall.ran import CHOLESKY, ONE_PASS, RANDOMISED, SHIFTED, TSQR

Found = tuple[Array, ...]

STRONGER: dict[str, tuple[tuple[int, Any], ...]] = {
    "shifted": ((SHIFTED, shifted),),
    "randomised": ((RANDOMISED, sketched),),
    "nothing": (),
}
"""First factors for condition beyond the reach of CholeskyQR2, by what a config calls them."""


def certified_cholesky(
    xp: Any,
    la: LinearAlgebra,
    a: Array,
    *,
    with_q: bool,
    rows: int,
    double: bool,
    stronger: str,
    blocks: dict[str, int],
) -> tuple[Array | None, Array, Array]:
    """(q, r, ran) of a (..., m, n), m >= n; `blocks` are the rows and the arity of the last resort."""
    gram = Gram(xp, la, rows, double)

    def ran(code: int, a: Array) -> Array:
        return filled(xp, tuple(a.shape[:-2]), code, a, xp.int32)

    def by_cholesky(code: int, first: Any, a: Array) -> tuple[Array, Found]:
        q, r, certified = cholesky_qr(gram, a, with_q=with_q, first=first)
        return certified, (r, ran(code, a), *((q,) if with_q else ()))

    def by_one_pass(a: Array) -> tuple[Array, Found]:
        r, accepted = one_pass(gram, a)
        return accepted, (r, ran(ONE_PASS, a))

    def by_tsqr(a: Array) -> Found:
        if not with_q:
            return tsqr.r_of(xp, la, a, **blocks), ran(TSQR, a)
        levels, r = tsqr.factors(xp, la, a, **blocks)
        return r, ran(TSQR, a), tsqr.explicit(xp, la, levels, a.shape[-2])

    attempts: list[Callable[[Array], tuple[Array, Found]]] = [partial(by_cholesky, CHOLESKY, None)]
    if not with_q and gram.widens(a):
        attempts.insert(0, by_one_pass)
    attempts += [partial(by_cholesky, code, first) for code, first in STRONGER[stronger]]

    def from_attempt(i: int, a: Array) -> Found:
        if i == len(attempts):
            return by_tsqr(a)
        accepted, found = attempts[i](a)

        def again(failed: Failed) -> Found:
            return from_attempt(i + 1, a if failed is None else a[failed])

        return la.where_all(accepted, found, again)

    r, codes, *q = from_attempt(0, a)
    return (q[0] if q else None), r, codes
