"""How long a search may take and how carefully it measures: levels of rigor as data."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from seqpar.errors import OptionError, unknown_name


@dataclass(frozen=True)
class Budget:
    """Limits of one search: different points tried, seconds by the clock, or both. Whatever is reached first ends it.

    Seconds are kept by planning: a part of them is put by for halving and for the final against the default. A single
    evaluation is never cut off from here; that is the evaluator's time limit.
    """

    evaluations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            raise OptionError(
                f"Budget: evaluations={self.evaluations} tries nothing. Give a positive number, or None."
            )
        if self.seconds is not None:
            check_seconds("Budget", self.seconds, ", or None")


def check_seconds(where: str, seconds: Any, otherwise: str = "") -> None:
    """A time that a user gave. One without end is none: parts of it are put by, and shared out."""
    if not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf:
        raise OptionError(f"{where}: seconds={seconds!r} is no time. Give a positive number{otherwise}.")


@dataclass(frozen=True)
class Rigor:
    """How carefully is measured."""

    evaluations: int
    """Points that are tried of a larger space, where the budget names neither number nor seconds."""
    batch: int
    """New points that are measured side by side."""
    rounds: tuple[int, ...]
    """Rounds of a new point, and then of those that each halving leaves."""
    final: int
    """Rounds of winner against default."""
    whole: int
    """Spaces with up to so many eligible points are tried whole, unless the budget names fewer."""
    keep: float = 1 / 3
    """The part of the candidates that each halving leaves."""
    least_gain: float = 0.02
    """A smaller gain is not worth another method, however certain: it is within what a new process makes of it."""


# Halving by 2, 3, 5, 10 rounds, a third each: 0.12 % mean regret from 284 samples of 64 candidates under a drifting
# clock, where medians of 25 samples each gave 1.05 % from 1,600 (simulation; tests/autotune/test_halving.py has it).
RIGORS = {
    "quick": Rigor(evaluations=24, batch=8, rounds=(2, 3, 5), final=15, whole=32),
    "default": Rigor(evaluations=120, batch=8, rounds=(2, 3, 5, 10), final=25, whole=300),
    "exhaustive": Rigor(evaluations=400, batch=12, rounds=(2, 3, 5, 10, 20), final=51, whole=1000),
}


def rigor_of(level: str | Rigor) -> Rigor:
    if isinstance(level, Rigor):
        return level
    if level not in RIGORS:
        raise unknown_name("search", "rigor", level, RIGORS)
    return RIGORS[level]
