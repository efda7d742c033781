"""Is a factorisation right? Held to the gates of the benchmark qr_v2 of GPU MODE, in float64; a solution to one in float64."""

from functools import cached_property
from typing import Any

import numpy as np

from seqpar_bench.answers import WrongAnswerError
from seqpar_bench.gpu.answers import Inputs
from seqpar_bench.gpu.frameworks import Frame
from seqpar_bench.gpu.tall_cases import TallCase, Work

Array = Any
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
PART = 1 << 20
"""Rows widened at a time."""


def tall_inputs(case: TallCase, maker: Frame) -> Inputs:
    """Numbers between -1/2 and 1/2, and one right-hand side."""
    a, b = (
        maker.random(seed, shape, case.dtype) - 0.5
        for seed, shape in ((1, case.shape), (2, (*case.shape[:-1], 1)))
    )
    return Inputs(a, b, b)


class TallYardstick:
    """What is right for one set of matrices, whoever computes it."""

    half_precision = 0.0

    def __init__(self, case: TallCase, maker: Frame, given: Inputs) -> None:
        self.case, self.maker, self.given = case, maker, given
        self.unit = case.columns * EPS[case.dtype]

    def check(self, work: Work, found: Any, slack: float = 1.0, signs: bool = True) -> float:
        """The largest error as a share of its bound; `signs`: the diagonal of R has to be positive."""
        if work == "lstsq":
            return self._solution(found, slack)
        q, r = (None, found) if work == "r" else found
        return self._factors(q, r, slack, signs)

    def _factors(self, q: Array | None, r: Array, slack: float, signs: bool) -> float:
        wide = np.asarray(self.maker.numpy(self.maker.take(r)))
        p, n = wide.shape[-2:]
        size = _norm(self.gram) ** 0.5
        shares = [_norm(np.where(np.tri(p, n, -1, dtype=bool), wide, 0)) / size / EPS[self.case.dtype]]
        if signs and not (np.diagonal(wide, axis1=-2, axis2=-1) >= 0).all():
            raise WrongAnswerError("the diagonal of R is not positive everywhere")
        if q is None:
            gap = np.swapaxes(wide, -1, -2) @ wide - self.gram
            shares.append(_norm(gap) / (40 * self.unit * size**2))
        else:
            q = self.maker.take(q)
            shares.append(_norm(self._product(q, q) - np.eye(p)) / (100 * self.unit))
            shares.append(_norm(wide - self._product(q, self.given.a)) / (20 * self.unit * size))
        return self._within(max(float(x.max()) for x in shares), slack)

    def _solution(self, x: Array, slack: float) -> float:
        right = self._product(self.given.a, self.given.b)
        exact = np.linalg.solve(self.gram, right)
        values = np.linalg.eigvalsh(self.gram)
        condition = float(np.sqrt(values[..., -1] / values[..., 0]).max())
        wide = np.asarray(self.maker.numpy(self.maker.take(x)))
        # Of the data, too: what is left of b is as large as b.
        size = np.linalg.norm(exact) + float(self.scale / np.sqrt(values[..., 0]).min())
        error = np.linalg.norm(wide - exact) / size
        return self._within(float(error) / (10 * condition * EPS[self.case.dtype]), slack)

    @cached_property
    def gram(self) -> Any:
        return self._product(self.given.a, self.given.a)

    @cached_property
    def scale(self) -> float:
        return float(np.sqrt(self._product(self.given.b, self.given.b).max()))

    def _product(self, x: Array, y: Array) -> Any:
        """x^T y in float64, made where the matrices are, a part of the rows at a time."""
        total: Any = 0.0
        for start in range(0, x.shape[-2], PART):
            rows = (..., slice(start, start + PART), slice(None))
            part = self.maker.wide(x[rows]).swapaxes(-1, -2) @ self.maker.wide(y[rows])
            total = total + np.asarray(self.maker.numpy(part))
        return total

    def _within(self, share: float, slack: float) -> float:
        if not share <= slack:  # NaN is not
            raise WrongAnswerError(f"the largest error is {share:.3g} times what is allowed")
        return share


def _norm(x: Any) -> Any:
    """The largest sum over a column's entries, of each matrix."""
    return np.abs(x).sum(axis=-2).max(axis=-1)
