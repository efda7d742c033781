"""The two gates of a QR factorisation, in double precision: at most 1 is right, for any condition of the matrix.

|Q^H Q - I|_1 <= 100 n eps and |R - Q^H A|_1 <= 20 n eps |A|_1, those of the benchmark qr_v2 of GPU MODE.
"""

import numpy as np


def gates(a: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
    """The worse of the two quotients over a batch; NaN where something is not finite."""
    eps = np.finfo(a.dtype).eps
    a, q, r = (x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for x in (a, q, r))
    n, adjoint = r.shape[-1], np.conj(np.swapaxes(q, -1, -2))
    orthogonality = _norm(adjoint @ q - np.eye(q.shape[-1])) / (100 * n * eps)
    residual = _norm(r - adjoint @ a) / (20 * n * eps * np.maximum(_norm(a), np.finfo(np.float32).tiny))
    assert np.allclose(np.tril(r, -1), 0, atol=0), "R is not upper triangular"
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    assert not np.any(diagonal.imag) and np.all(diagonal.real >= 0), (
        "R's diagonal is not real and non-negative"
    )
    return float(np.max([orthogonality, residual]))


def backward_error(a: np.ndarray, r: np.ndarray) -> float:
    """|R^H R - A^H A| in units of 20 n eps |A|^2: what can be asked of R alone."""
    eps = np.finfo(a.dtype).eps
    a, r = (x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for x in (a, r))
    gap = _norm(np.conj(np.swapaxes(r, -1, -2)) @ r - np.conj(np.swapaxes(a, -1, -2)) @ a)
    scale = np.maximum(np.linalg.norm(a, axis=(-2, -1)) ** 2, np.finfo(np.float32).tiny)
    return float(np.max(gap / (20 * r.shape[-1] * eps * scale)))


def _norm(x: np.ndarray) -> np.ndarray:
    return np.max(np.sum(np.abs(x), axis=-2), axis=-1, initial=0.0)
