"""What a user would write for tall matrices without seqpar, and matrices of a given condition."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def scipy_qr(a: Array) -> tuple[Array, Array]:
    """LAPACK in the precision of the array, without SciPy's search for NaN."""
    from scipy.linalg import qr

    q, r = qr(a, mode="economic", check_finite=False)
    return q, r


def cholesky_twice(a: Array) -> tuple[Array, Array]:
    """Cholesky QR twice, of which nothing says whether it is right."""
    from scipy.linalg import solve_triangular

    r = np.eye(a.shape[1], dtype=a.dtype)
    for _ in range(2):
        factor = np.linalg.cholesky(a.T @ a).T
        a = solve_triangular(factor, a.T, trans="T", check_finite=False).T
        r = factor @ r
    return a, r


def normal_equations(a: Array, b: Array) -> Array:
    """x from A^T A, whose condition is the square; NaN where that is not even positive definite."""
    try:
        factor = np.linalg.cholesky(a.T @ a)
    except np.linalg.LinAlgError:
        return np.full(a.shape[1], np.nan, a.dtype)
    return np.linalg.solve(factor.T, np.linalg.solve(factor, a.T @ b))


def conditioned(rows: int, columns: int, condition: float, seed: int) -> tuple[Array, Array]:
    """A float32 matrix with singular values in geometric progression, and a right-hand side near its range."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    a = ((left * np.geomspace(1, 1 / condition, columns)) @ right.T).astype(np.float32)
    x = rng.standard_normal(columns)
    b = a @ x + 1e-3 / np.sqrt(rows) * rng.standard_normal(rows)
    return a, b.astype(np.float32)
