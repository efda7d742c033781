"""Whether factors of tall matrices, and solutions of least squares, are right: in float64, by products with the matrix itself.

Nothing is asked about signs, which are a matter of convention. Errors are relative; a `WrongAnswerError` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from seqpar_bench.bench.problem import WrongAnswerError, within

Array = Any

BLOCK = 1 << 22
"""Numbers that are widened to float64 at a time."""


def factors_error(a: Array, answer: Sequence[Array], allowed: float) -> float:
    """Of Q and R, where a is (..., m, n)."""
    *lead, m, n = a.shape
    p = min(m, n)
    _shaped(answer, [(*lead, m, p), (*lead, p, n)])
    return _both(a.reshape(-1, m, n), answer[0].reshape(-1, m, p), _upper(answer[1]), allowed)


def r_error(a: Array, products: Array, answer: Sequence[Array], allowed: float) -> float:
    """Of R alone: R^H R is a^H a, which says all about R but signs. `products` are the `gram` of a."""
    *lead, m, n = a.shape
    _shaped(answer, [(*lead, min(m, n), n)])
    r = _upper(answer[0])
    # Relative to each matrix: its largest number is on the diagonal.
    size = np.abs(products).max(axis=(-2, -1), keepdims=True)
    error = float((np.abs(_adjoint(r) @ r - products) / size).max())
    return within(error, allowed, "R^H R against a^H a")


def solution_error(
    a: Array, b: Array, products: Array, exact: Array, answer: Sequence[Array], allowed: float
) -> float:
    """How far a step of Newton's method would move x, which is how far it is from the solution: a is well conditioned.

    `products` are the `gram` of a, and `exact` is what `solution` makes of them.
    """
    _shaped(answer[:1], [a.shape[1:]])
    x = answer[0]
    slope = _projected(a, lambda rows, part: b[part] - rows @ x)
    apart = np.linalg.solve(products[0], slope)
    return within(float(np.abs(apart).max() / np.abs(exact).max()), allowed, "x")


def gram(a: Array) -> Array:
    """a^H a of every matrix, (matrices, n, n)."""
    rows = a.reshape(-1, *a.shape[-2:])
    found: Array = np.zeros((len(rows), rows.shape[-1], rows.shape[-1]), _wide(a))
    for some, part in _blocks(rows):
        here = rows[some, part].astype(found.dtype)
        found[some] += _adjoint(here) @ here
    return found


def solution(a: Array, b: Array, products: Array) -> Array:
    """Of the normal equations, which are as good as any in float64: a is well conditioned."""
    return np.linalg.solve(products[0], _projected(a, lambda rows, part: b[part]))


def _projected(a: Array, column: Callable[[Array, slice], Array]) -> Array:
    """a^H y, where `column` gives y for some rows."""
    found: Array = np.zeros(a.shape[1], _wide(a))
    for _, part in _blocks(a[None]):
        rows = a[part].astype(found.dtype)
        found += rows.conj().T @ column(rows, part)
    return found


def _shaped(answer: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> None:
    if [x.shape for x in answer] != [tuple(shape) for shape in shapes]:
        raise WrongAnswerError(f"shapes are {[x.shape for x in answer]} and have to be {shapes}")


def _upper(r: Array) -> Array:
    """R of each matrix, (matrices, p, n)."""
    if not np.isfinite(r).all() or np.tril(r, -1).any():
        raise WrongAnswerError("R is not finite, or not zero below its diagonal")
    return r.reshape(-1, *r.shape[-2:])


def _both(rows: Array, q: Array, r: Array, allowed: float) -> float:
    """Columns of Q are orthonormal, and every number of a is that of Q R."""
    p, worst, largest = q.shape[-1], 0.0, float(np.abs(rows).max())
    ones: Array = np.zeros((len(r), p, p), _wide(rows))
    for some, part in _blocks(rows):
        mine = q[some, part]
        ones[some] += _adjoint(mine) @ mine
        difference = float(np.abs(mine @ r[some] - rows[some, part]).max())
        worst = max(worst, within(difference / largest, allowed, "Q R against a"))
    return max(worst, within(float(np.abs(ones - np.eye(p)).max()), allowed, "Q^H Q against 1"))


def _blocks(rows: Array) -> Iterator[tuple[slice, slice]]:
    """Some matrices, and some of their rows, that are not too many numbers."""
    count, m, n = rows.shape
    height = max(1, min(m, BLOCK // n))
    some = max(1, BLOCK // (height * n))
    for first in range(0, count, some):
        for start in range(0, m, height):
            yield slice(first, first + some), slice(start, start + height)


def _wide(a: Array) -> type:
    return np.complex128 if a.dtype.kind == "c" else np.float64


def _adjoint(x: Array) -> Array:
    return np.swapaxes(x.conj(), -2, -1)
