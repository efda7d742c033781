"""What `solve_recurrence` returns, and the check of it against the definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from array_api_compat import array_namespace

from seqpar.errors import OptionError
from seqpar.solving.wish import METHODS

A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class RecurrenceSolution(Generic[A]):
    """The states of a nonlinear recurrence, and how far they can be trusted, sequence by sequence.

    A tree of arrays for JAX and PyTorch: it passes through `jax.jit`, `jax.vmap` and `torch.func`, where `history` stays behind.
    """

    states: A
    """Every state, with time at `axis`."""
    final: A
    """The state after the last step of the walk, without the time axis; h0 where there are no steps."""
    converged: A
    """Boolean, in the shape of the batch: the sequence passed the test of agreement, or is exact by construction."""
    sweeps: A
    """How many sweeps over time (iterations, for Newton's methods) each sequence took: int32."""
    residual: A
    """What is left of the equations, relative to max(1, |h|)."""
    error_estimate: A
    """The residual, and rounding, carried through measured gains: an estimate, not a bound, of the distance from the answer of
    `method="sequential"`, relative to max(1, |h|). Infinite where nothing was measured, 0 where it is that answer."""
    method: Any
    """The number of the method that made the states: `method_name` says it in words."""
    history: tuple[dict[str, Any], ...] = field(default=(), metadata={"static": True})
    """What each sweep found, in words of its method; empty in JAX, and where `torch.func.vmap` solved several problems."""
    problem: Any = field(default=None, repr=False, metadata={"static": True})
    """What was solved, for `verify`; None once the solution has passed through a transformation."""

    @property
    def method_name(self) -> str:
        """The method in words; of solutions side by side (`jax.vmap`), the one they share, or all of them."""
        xp = array_namespace(self.method) if hasattr(self.method, "shape") else np
        numbers = sorted({int(i) for i in xp.reshape(xp.asarray(self.method), (-1,))})
        return ", ".join(METHODS[i] for i in numbers)

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: what was solved, with the step in it, stays behind."""
        return {**self.__dict__, "problem": None}

    def __repr__(self) -> str:
        shape = tuple(self.states.shape)  # type: ignore[attr-defined]
        try:
            told = (
                f"method={self.method_name!r}, converged={_all(self.converged)}, sweeps={_largest(self.sweeps):g}, "
                f"residual={_largest(self.residual):.1e}, error_estimate={_largest(self.error_estimate):.1e}"
            )
        except Exception:  # traced: there are no values to show
            told = "traced"
        return f"RecurrenceSolution(states {shape}, {told})"


class Verification(NamedTuple):
    """How a solution compares with the definition on a prefix."""

    steps: int
    """Steps that were compared."""
    error: float
    """Largest difference from the sequential states, relative to max(1, |h|)."""
    tol: float
    """The difference that was allowed."""
    agrees: bool


def verify(solution: RecurrenceSolution[Any], steps: int = 1024, tol: float | None = None) -> Verification:
    """Walk the first steps of a solution again, one after the other, and compare.

    Parameters
    ----------
    solution
        What `solve_recurrence` returned, on concrete arrays.
    steps
        How many steps to walk; all, if there are fewer.
    tol
        Difference, relative to max(1, |h|), that still counts as agreement. By default 64 units of rounding, or the estimate
        of the solution where that is larger and still says something (up to 2,000 units).

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> def step(params, h, x):
    ...     return np.tanh(0.5 * h + x)
    >>> x = np.sin(np.arange(5000.0))[:, None]
    >>> solution = seqpar.solve_recurrence(step, x, np.zeros(1))
    >>> seqpar.verify(solution).agrees
    True
    """
    if not isinstance(solution, RecurrenceSolution):
        raise OptionError(
            f"verify: a {type(solution).__name__} is not a solution. Give what seqpar.solve_recurrence returned, not its states."
        )
    if isinstance(steps, bool) or not hasattr(steps, "__index__") or steps < 1:
        raise OptionError(f"verify: steps={steps!r} is not a number of steps. Give 1 or more.")
    if tol is not None and not tol >= 0:
        raise OptionError(f"verify: tol={tol!r} is not a tolerance. Give a number of 0 or more.")
    if solution.problem is None:
        raise OptionError(
            "verify: this solution has passed through a transformation (jit, vmap, a tree map, a pickle) and has left its "
            "problem behind. Solve once outside of it, and verify that."
        )
    from seqpar.solving.verification import compare

    return Verification(*compare(solution, steps, tol))


def _all(x: Any) -> bool:
    return bool(array_namespace(x).all(x))


def _largest(x: Any) -> float:
    return 0.0 if 0 in x.shape else float(array_namespace(x).max(x))
