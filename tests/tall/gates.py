"""The two gates of a QR factorisation, in double precision: at most 1 is right, for any condition of the matrix.

|Q^H Q - I|_1 <= 100 n eps and |R - Q^H A|_1 <= 20 n eps |A|_1, those of the benchmark qr_v2 of GPU MODE.
"""

import numpy as np

# Of a matrix of zeros the quotients are those to the smallest number, so that nothing but zero passes.
SMALLEST = np.finfo(np.float64).tiny


def gates(a: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
    """The worse of the two quotients over a batch; NaN where something is not finite."""
    check_signs(r)
    eps, n = np.finfo(q.dtype).eps, max(r.shape[-1], 1)
    a, q, r = map(_wide, (a, q, r))
    adjoint = np.conj(np.swapaxes(q, -1, -2))
    orthogonality = _norm(adjoint @ q - np.eye(q.shape[-1])) / (100 * n * eps)
    residual = _norm(r - adjoint @ a) / (20 * n * eps * np.maximum(_norm(a), SMALLEST))
    return float(np.max([orthogonality, residual], initial=0.0))


def check_signs(r: np.ndarray) -> None:
    """What makes R one of a kind: upper triangular, with a diagonal that is real and not negative."""
    assert (np.tril(r, -1) == 0).all(), "R is not upper triangular"
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    assert (diagonal.imag == 0).all() and (diagonal.real >= 0).all(), (
        "R's diagonal is not real and non-negative"
    )


def gates_of_columns(a: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
    """|A - Q R| column by column in units of 20 n eps, so that scales of columns do not matter."""
    eps, n = np.finfo(q.dtype).eps, max(r.shape[-1], 1)
    a, q, r = map(_wide, (a, q, r))
    gap, size = np.abs(a - q @ r).sum(-2), np.abs(a).sum(-2)
    return float(np.max(gap / (20 * n * eps * np.maximum(size, SMALLEST)), initial=0.0))


def backward_error(a: np.ndarray, r: np.ndarray) -> float:
    """|R^H R - A^H A| in units of 20 n eps |A|^2: what can be asked of R alone."""
    eps = np.finfo(a.dtype).eps
    a, r = _wide(a), _wide(r)
    gap = _norm(np.conj(np.swapaxes(r, -1, -2)) @ r - np.conj(np.swapaxes(a, -1, -2)) @ a)
    scale = np.maximum(np.linalg.norm(a, axis=(-2, -1)) ** 2, np.finfo(np.float32).tiny)
    return float(np.max(gap / (20 * r.shape[-1] * eps * scale)))


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _norm(x: np.ndarray) -> np.ndarray:
    return np.max(np.sum(np.abs(x), axis=-2), axis=-1, initial=0.0)
