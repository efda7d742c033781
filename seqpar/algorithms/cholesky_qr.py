"""QR of tall matrices through Cholesky factors of Gram matrices, with a certificate: products of matrices, and little else.

    first factor R1, x1 = a R1^-1;   then R_k = chol(x_{k-1}^H x_{k-1}), x_k = x_{k-1} R_k^-1;   Q = x_k, R = R_k ... R1

R1 is the Cholesky factor of a^H a (CholeskyQR2), of a^H a + s I (`shifted`; three passes), or the R of a random sketch of a
(`sketched`; three passes). The last Gram matrix tells all: within 1/2 of the identity, in the Frobenius norm, the condition
of x_{k-1} is below 1.8, so that Q is orthonormal to rounding. That is the certificate. Factors are applied one after the
other: a solve with their product would bring the condition of a back.

Float32 is best served by Gram matrices in float64, converted by row blocks: two passes then reach condition 1e8, in float32
throughout 1e4. Yamamoto et al. 2015; Fukaya et al. 2020; Balabanov 2022. Measured in tests/tall/test_cholesky_qr.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import device

from seqpar.algorithms.arrays import double_of
from seqpar.algorithms.matrices import adjoint, eye
from seqpar.algorithms.signs import diagonal, positive_diagonal

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra

Array = Any

__all__ = ["CholeskyQR", "Gram", "cholesky_qr", "one_pass", "shifted", "sketched"]


class CholeskyQR(NamedTuple):
    """What came out, and of which matrices (...) it is to be believed."""

    q: Array | None
    r: Array
    certified: Array


class Gram:
    """Gram matrices and their Cholesky factors, summed over blocks of `rows` rows, in double precision if `double`."""

    def __init__(self, xp: Any, la: LinearAlgebra, rows: int, double: bool) -> None:
        self.xp = xp
        self.la = la
        self.rows = rows
        self.double = double

    def of(self, a: Array, factors: list[Array]) -> Array:
        """x^H x for x = a F1^-1 F2^-1 ..., no more than a block of which is ever in memory."""
        xp, la = self.xp, self.la

        def block_gram(x: Array) -> Array:
            for factor in factors:
                x = la.solve_right(x, factor)
            x = self._wide(x)
            return la.product(adjoint(xp, x), x)

        with la.doubles():
            return la.sum_over_rows(block_gram, a, self.rows)

    def factor(self, g: Array, shift: float = 0.0) -> Array:
        """Upper r with r^H r = g + shift trace(g) I, once columns are scaled to norm 1, which costs n^2 and no pass."""
        xp = self.xp
        with self.la.doubles():
            squares = diagonal(xp, g)
            squares = xp.real(squares) if xp.isdtype(g.dtype, "complex floating") else squares
            # A column of zeros, or NaN: let Cholesky's factorisation say so.
            size = xp.sqrt(xp.where(squares > 0, squares, xp.ones_like(squares)))
            size = xp.astype(size, g.dtype, copy=False)
            g = g / size[..., :, None] / size[..., None, :]
            n = g.shape[-1]
            if shift:
                g = g + shift * n * eye(xp, g, n)
            return self.la.cholesky(g) * size[..., None, :]

    def near_identity(self, g: Array) -> Array:
        """Per matrix: |g - I|_F < 1/2. False where g is not finite."""
        xp = self.xp
        with self.la.doubles():
            rest = xp.abs(g - eye(xp, g, g.shape[-1]))
            return xp.sum(rest * rest, axis=(-2, -1)) < 0.25

    def eps(self, a: Array) -> float:
        """The rounding unit of Gram matrices of a."""
        with self.la.doubles():
            dtype = double_of(self.xp, a.dtype, a) if self.double else a.dtype
            return float(self.xp.finfo(dtype).eps)

    def widens(self, a: Array) -> bool:
        """Are Gram matrices of a in a wider precision?"""
        return self.eps(a) < float(self.xp.finfo(a.dtype).eps)

    def _wide(self, x: Array) -> Array:
        return self.xp.astype(x, double_of(self.xp, x.dtype, x), copy=False) if self.double else x


def cholesky_qr(
    gram: Gram, a: Array, *, with_q: bool, first: Callable[[Gram, Array], Array] | None = None
) -> CholeskyQR:
    """(q, r, certified) in two passes, or with a `first` factor other than Cholesky's in three."""
    xp, la = gram.xp, gram.la
    x, before, factors = a, [], []
    found = xp.astype(gram.factor(gram.of(a, [])) if first is None else first(gram, a), a.dtype, copy=False)
    certified: Any = None
    for _ in range(1 if first is None else 2):
        factors.append(found)
        if with_q:
            x = la.solve_right(x, found)
        else:
            before = factors
        g = gram.of(x, before)
        certified = gram.near_identity(g)
        with la.doubles():
            found = xp.astype(gram.factor(g), a.dtype, copy=False)
    factors.append(found)
    return CholeskyQR(la.solve_right(x, found) if with_q else None, _product(gram, factors), certified)


def shifted(gram: Gram, a: Array) -> Array:
    """A first factor for condition up to 1 / eps of the Gram matrix: s = 11 eps |a|_F^2.

    The shift that is proven, 11 (m n + n (n + 1)) u |a|_2^2, is as large as |a|^2 for 1e6 rows in float32: useless.
    """
    xp = gram.xp
    with gram.la.doubles():
        return xp.astype(gram.factor(gram.of(a, []), 11 * gram.eps(a)), a.dtype, copy=False)


def sketched(gram: Gram, a: Array) -> Array:
    """A first factor for any condition: the R of a random sketch of a, of 2 n rows.

    Rows are folded with random signs into blocks' width first, so that the Gaussian matrix stays small: a dense one takes
    longer to draw than a to be factorised. Rows of weight that meet in the fold fail the certificate.
    """
    xp, la = gram.xp, gram.la
    *lead, m, n = a.shape
    rows = min(m, max(4096, 16 * n))
    blocks = -(-m // rows)
    signs, gaussian = _randoms(blocks * rows, 2 * n, rows)
    positive = xp.asarray(signs[:m, None], device=device(a))
    folded = xp.where(positive, a, -a)
    if blocks * rows > m:
        zeros = xp.zeros((*lead, blocks * rows - m, n), dtype=a.dtype, device=device(a))
        folded = xp.concat([folded, zeros], axis=-2)
    folded = xp.sum(xp.reshape(folded, (*lead, blocks, rows, n)), axis=-3)
    omega = xp.astype(xp.asarray(gaussian, device=device(a)), a.dtype)
    _, r = positive_diagonal(xp, None, la.r(la.product(omega, folded)))
    return r


def one_pass(gram: Gram, a: Array) -> tuple[Array, Array]:
    """(r, accepted) of single precision from one Gram matrix in double: accepted where the condition is far from its limit.

    r^H r = a^H a + d with |d| <= c n u |a|^2 is the r of a matrix within c n u cond(a) |a| of a. Where that is below eps of
    float32, r is as good as Householder's. The condition is |r|_F |r^-1|_F, columns scaled: no smaller than the true one.
    """
    xp, la = gram.xp, gram.la
    n = a.shape[-1]
    with la.doubles():
        wide = gram.factor(gram.of(a, []))
        scaled = wide / _norms(xp, wide)[..., None, :]
        identity = eye(xp, wide, n)
        inverse = la.solve_right(xp.broadcast_to(identity, wide.shape), scaled)
        condition = n**0.5 * xp.sqrt(xp.sum(xp.abs(inverse) ** 2, axis=(-2, -1)))
        accepted = 8 * n * gram.eps(a) * condition < float(xp.finfo(a.dtype).eps)
        _, r = positive_diagonal(xp, None, wide)
        return xp.astype(r, a.dtype, copy=False), accepted


def _product(gram: Gram, factors: list[Array]) -> Array:
    xp, la = gram.xp, gram.la
    with la.doubles():
        r = gram._wide(factors[-1])
        for factor in reversed(factors[:-1]):
            r = la.product(r, gram._wide(factor))
        _, r = positive_diagonal(xp, None, r)  # Cholesky's diagonal, its imaginary part exactly 0
        return xp.astype(r, factors[0].dtype, copy=False)


def _norms(xp: Any, r: Array) -> Array:
    norms = xp.sqrt(xp.sum(xp.abs(r) ** 2, axis=-2))
    return xp.astype(norms, r.dtype, copy=False)


@lru_cache(maxsize=8)
def _randoms(m: int, d: int, rows: int) -> tuple[Any, Any]:
    """Signs of m rows and a Gaussian matrix (d, rows): the same in every call."""
    random = np.random.default_rng(7)
    return random.integers(0, 2, m, dtype=np.int8).astype(bool), random.standard_normal((d, rows), np.float32)
