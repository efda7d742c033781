"""What a call of `solve_recurrence` asks of the solver, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.problem import Array

METHODS = (
    "sequential",
    "shooting",
    "shooting_newton",
    "newton",
    "quasi_newton",
    "block_newton",
    "picard",
    "jacobi",
)
"""Every method by its name; its position is its code in a result."""


class Wish(NamedTuple):
    """The options of one call, and what goes with them."""

    method: str = "auto"
    jacobian: Any = "auto"
    """"auto", "dense", "diagonal", ("block", k), "none", or a function (params, h, x) -> Jacobian."""
    tol: float | None = None
    max_sweeps: int | None = None
    guess: Array | None = None
    """(batch, steps, n), time forward."""
    bounds: tuple[Any, Any] | None = None
    """Lowest and highest value of each number of the state, as arrays or numbers that broadcast to (n,)."""
    config: Any = None
    decision: Any = None
    """What "auto" follows instead of a prediction: a `seqpar.solving.tuned.Decision`, or None."""
