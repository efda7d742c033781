"""Least squares by its definition, in double precision, on all rows at once: what an accumulator is held against."""

import contextlib

import numpy as np

from ladder import Rung, strictest


def problem(rows, features, outputs=None, dtype="float64", seed=0):
    """Rows a and b with something left over; b is a vector where outputs is None."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        x = random.standard_normal(shape)
        return x + 1j * random.standard_normal(shape) if np.dtype(dtype).kind == "c" else x

    a = normal(rows, features) * np.linspace(1.0, 3.0, features) + 0.5
    x = normal(features) if outputs is None else normal(features, outputs)
    b = a @ x + 2.0 + 0.3 * (normal(rows) if outputs is None else normal(rows, outputs))
    return a.astype(dtype), b.astype(dtype)


def wide(x):
    """In double precision."""
    return np.asarray(x).astype("complex128" if np.asarray(x).dtype.kind == "c" else "float64")


def solution(a, b, ridge=0.0, weights=None, intercept=False):
    """x that minimises sum w |a x - b|^2 + sum ridge |x|^2, by the SVD of the rows with sqrt(ridge) below them."""
    a, b = wide(a), wide(b)
    n = a.shape[1]
    penalty = np.broadcast_to(np.asarray(ridge, "float64"), (n,))
    if intercept:
        a, penalty = np.concatenate([a, np.ones((len(a), 1))], axis=1), np.append(penalty, 0.0)
    if weights is not None:
        root = np.sqrt(np.asarray(weights, "float64"))
        a, b = a * root[:, None], (b.T * root).T
    below = np.diag(np.sqrt(penalty))
    return np.linalg.lstsq(
        np.concatenate([a, below]), np.concatenate([b, np.zeros((len(below), *b.shape[1:]))]), rcond=None
    )[0]


def left_over(a, b, x, weights=None, intercept=False):
    """The norm of sqrt(weights) * (b - a x), of each output."""
    a = np.concatenate([wide(a), np.ones((len(a), 1))], axis=1) if intercept else wide(a)
    root = 1.0 if weights is None else np.sqrt(np.asarray(weights, "float64"))
    return np.linalg.norm(((wide(b) - a @ x).T * root).T, axis=0)


def near(found, expected, times=200.0, dtype=None):
    """Equal but for some rounding units of the largest number."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    eps = np.finfo(dtype or found.dtype).eps
    scale = np.abs(expected).max() if expected.size else 1.0
    worst = np.abs(wide(found) - expected).max() if found.size else 0.0
    assert worst <= times * eps * scale, f"{worst / (eps * scale):.0f} units"


def as_on(rung):
    """The rung's own restrictions, for everything inside."""
    return strictest() if rung is Rung.STRICTEST else contextlib.nullcontext()
