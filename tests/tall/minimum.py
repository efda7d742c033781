"""The minimum of sum w |a x - b|^2 + sum ridge |x|^2 by its definition, one matrix at a time: LAPACK in double precision."""

from typing import Any

import numpy as np


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    x = random.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * random.standard_normal(shape)
    return x.astype(dtype)


def exact(
    a: Any, b: Any, ridge: Any = 0.0, weights: Any = None, intercept: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """x and the norm of what is left, in double precision, one matrix at a time."""
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    a, vector = a.astype(wide), b.ndim == 1
    b = (b[:, None] if vector else b).astype(wide)
    if intercept:
        a = np.concatenate([a, np.ones((*a.shape[:-1], 1))], axis=-1)
    m, n = a.shape[-2:]
    weights = np.ones(m) if weights is None else np.asarray(weights, np.float64)
    ridge = np.broadcast_to(np.asarray(ridge, np.float64), (*np.shape(ridge)[:-1], n - intercept))
    ridge = np.concatenate([ridge, np.zeros((*ridge.shape[:-1], int(intercept)))], axis=-1)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2], weights.shape[:-1], ridge.shape[:-1])
    a, b = np.broadcast_to(a, (*lead, m, n)), np.broadcast_to(b, (*lead, m, b.shape[-1]))
    weights, ridge = np.broadcast_to(weights, (*lead, m)), np.broadcast_to(ridge, (*lead, n))
    x = np.zeros((*lead, n, b.shape[-1]), wide)
    for i in np.ndindex(lead):
        root = np.sqrt(weights[i])[:, None]
        rows = np.concatenate([root * a[i], np.diag(np.sqrt(ridge[i]))])
        sides = np.concatenate([root * b[i], np.zeros((n, b.shape[-1]))])
        x[i] = np.linalg.lstsq(rows, sides, rcond=1e-11)[0]
    left = np.linalg.norm(np.sqrt(weights)[..., None] * (b - a @ x), axis=-2)
    return (x[..., 0], left[..., 0]) if vector else (x, left)
