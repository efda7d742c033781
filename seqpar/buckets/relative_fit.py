"""Coefficients of zero or more for a sum of terms, so that relative errors are least: for models of time and of memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any


def relative_fit(terms: Array, values: Array, order: Sequence[int]) -> tuple[Array, list[int]]:
    """Coefficients (terms,) for `values` (sizes,) from `terms` (sizes, terms), and the terms that stay zero unseen.

    Terms are taken in, in this order, for as long as the sizes can tell them apart; which is a matter of sizes, not of values.
    """
    from scipy.optimize import nnls

    columns = terms / terms.max(axis=0)
    kept: list[int] = []
    for i in order:
        if np.linalg.matrix_rank(columns[:, [*kept, i]], tol=1e-9 * len(terms)) > len(kept):
            kept.append(i)
    relative = terms[:, kept] / values[:, None]
    scale = relative.max(axis=0)
    found, _ = nnls(relative / scale, np.ones(len(terms)))
    found[found < 1e-12] = 0  # of a value, at most: rounding
    coefficients = np.zeros(terms.shape[1])
    coefficients[kept] = found / scale
    return coefficients, sorted(set(range(terms.shape[1])) - set(kept))


def unseen(what: str, names: Sequence[str]) -> list[str]:
    """A note on terms that the sizes do not show, if there are any."""
    if not names:
        return []
    named = ", ".join(map(repr, names))
    return [
        f"these sizes do not show how {what} depends on {named} apart from the other terms, which stand in for "
        f"{'it' if len(names) == 1 else 'them'}. Try two lengths or more, each with two batch sizes or more."
    ]
