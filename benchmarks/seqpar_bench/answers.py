"""Is an answer right? Compared with a float64 loop, within a bound that the data themselves set.

No time is printed for an answer that was not checked.
"""

from typing import Any

import numpy as np

from seqpar_bench.peers import numpy_loop

Array = Any

ROUNDINGS = 8
"""Relative errors, in units of the state's eps, that one step may commit. Any order of evaluation stays below it."""


class WrongAnswerError(AssertionError):
    """A result outside its error bound."""


def exact(a: Array, b: Array, axis: int = -2) -> Array:
    """The recurrence in float64."""
    return numpy_loop(np.asarray(a, np.float64), np.asarray(b, np.float64), axis)


def bound(a: Array, b: Array, axis: int = -2, eps: float = float(np.finfo(np.float32).eps)) -> Array:
    """Largest error that rounding can explain, elementwise.

    The walk over absolute values says how large the terms are, and the same walk fed with their rounding errors says
    how the errors add up and are forgotten.
    """
    sizes = exact(np.abs(a), np.abs(b), axis)
    return exact(np.abs(a), ROUNDINGS * eps * sizes, axis) + np.finfo(np.float32).smallest_normal


def worst_error(h: Array, a: Array, b: Array, axis: int = -2) -> float:
    """The largest error of `h` as a share of its bound: at most 1 when right."""
    error = np.abs(np.asarray(h, np.float64) - exact(a, b, axis))
    share = error / bound(a, b, axis)
    return float(np.max(share, initial=0.0)) if np.isfinite(share).all() else float("inf")


def check(h: Array, a: Array, b: Array, axis: int = -2, what: str = "linear_recurrence") -> float:
    """`worst_error`, raising when it is above 1."""
    share = worst_error(h, a, b, axis)
    if not share <= 1:
        raise WrongAnswerError(f"{what}: the largest error is {share:.3g} times what rounding can explain.")
    return share
