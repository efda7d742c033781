"""Whether factors of tall matrices, and solutions of least squares, are right: in float64, by products with the matrix itself.

Nothing is asked about signs, which are a matter of convention. Errors are relative; a `WrongAnswerError` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqpar_bench.bench.problem import WrongAnswerError, within

Array = Any

BLOCK = 1 << 22
"""Numbers that are widened to float64 at a time."""


def factors_error(a: Array, answer: Sequence[Array], reduced: bool, allowed: float) -> float:
    """Of Q and R, or of R alone, where a is (..., m, n)."""
    *lead, m, n = a.shape
    p = min(m, n)
    shapes = [(*lead, m, p), (*lead, p, n)] if reduced else [(*lead, p, n)]
    if [x.shape for x in answer] != shapes:
        raise WrongAnswerError(f"shapes are {[x.shape for x in answer]} and have to be {shapes}")
    rows, r = a.reshape(-1, m, n), answer[-1].reshape(-1, p, n)
    if not np.isfinite(r).all() or np.tril(r, -1).any():
        raise WrongAnswerError("R is not finite, or not zero below its diagonal")
    if reduced:
        return _both(rows, answer[0].reshape(-1, m, p), r, allowed)
    return _r_alone(rows, r, allowed)


def solution_error(a: Array, b: Array, x: Array, allowed: float) -> float:
    """How far a step of Newton's method would move x, which is how far it is from the solution: a is well conditioned."""
    m, n = a.shape
    if x.shape != (n,):
        raise WrongAnswerError(f"x has the shape {x.shape}, and has to have {(n,)}")
    wide = _wide(a)
    gram: Array = np.zeros((n, n), wide)
    right, slope = gram[0].copy(), gram[0].copy()
    for start in range(0, m, BLOCK // n):
        rows = a[start : start + BLOCK // n].astype(wide)
        part = b[start : start + len(rows)]
        gram += rows.conj().T @ rows
        right += rows.conj().T @ part
        slope += rows.conj().T @ (part - rows @ x)
    exact, apart = np.linalg.solve(gram, np.stack([right, slope], -1)).T
    return within(float(np.abs(apart).max() / np.abs(exact).max()), allowed, "x")


def _both(rows: Array, q: Array, r: Array, allowed: float) -> float:
    """Columns of Q are orthonormal, and every number of a is that of Q R."""
    p, worst, largest = q.shape[-1], 0.0, float(np.abs(rows).max())
    gram: Array = np.zeros((len(r), p, p), _wide(rows))
    for some, part in _blocks(rows):
        mine = q[some, part]
        gram[some] += _adjoint(mine) @ mine
        difference = float(np.abs(mine @ r[some] - rows[some, part]).max())
        worst = max(worst, within(difference / largest, allowed, "Q R against a"))
    return max(worst, within(float(np.abs(gram - np.eye(p)).max()), allowed, "Q^H Q against 1"))


def _r_alone(rows: Array, r: Array, allowed: float) -> float:
    """R^H R is a^H a, which says all about R but signs."""
    wide = _wide(rows)
    gram: Array = np.zeros((len(r), r.shape[-1], r.shape[-1]), wide)
    for some, part in _blocks(rows):
        here = rows[some, part].astype(wide)
        gram[some] += _adjoint(here) @ here
    # Relative to each matrix: its largest number is on the diagonal.
    size = np.abs(gram).max(axis=(-2, -1), keepdims=True)
    error = float((np.abs(_adjoint(r) @ r - gram) / size).max())
    return within(error, allowed, "R^H R against a^H a")


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
